"""The commands of `python3 -m cluster`, which is also `tally`. What they do is in `local/` and `attack/`."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console

from cluster.attack.cli import attack
from cluster.bench.cli import bench
from cluster.errors import ClusterError
from cluster.local import operate, status
from cluster.local.box import nodes_table
from cluster.local.errors import LocalError
from cluster.local.fleet import NODES_MAX
from cluster.local.folder import Folder
from cluster.local.launcher import Launcher, Options
from cluster.local.report import JsonReporter, Reporter, TerminalReporter
from cluster.local.state import ClusterState, NodeState, without_password
from cluster.service.cli import balancer, migrate
from cluster.service.token import token

Command = TypeVar("Command", bound=Callable[..., Any])


class Group(click.Group):
    """Shows expected trouble as one line, exit code 1. Usage errors are click's own, exit code 2."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except (LocalError, ClusterError) as error:
            raise click.ClickException(str(error)) from error


def data_option(command: Command) -> Command:
    """--data DIR, handed over as a Folder."""
    return click.option(
        "--data",
        "folder",
        default=".tally",
        show_default=True,
        metavar="DIR",
        type=click.Path(path_type=Path),
        callback=lambda _context, _parameter, value: Folder(value),
        help="Folder of the cluster: data, logs, state.",
    )(command)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Tally counts exactly once. This is a whole cluster on this machine."""


@main.command()
@data_option
@click.option("--nodes", default=3, show_default=True, type=click.IntRange(1, NODES_MAX))
@click.option("--port", default=3333, show_default=True, type=click.IntRange(0, 65535), help="0 takes any free one.")
@click.option("--fresh", is_flag=True, help="Wipe the data first.")
@click.option("--redis-url", envvar="TALLY_REDIS_URL", help="Use this Redis instead of an own one.")
@click.option("--postgres-dsn", envvar="TALLY_POSTGRES_DSN", help="Use this Postgres instead of an own one.")
@click.option("--no-nginx", is_flag=True, help="Let the nodes share the port, even when there is an nginx.")
@click.option(
    "--servers",
    envvar="TALLY_SERVERS",
    default="auto",
    type=click.Choice(["auto", "path", "wheels"]),
    help="Where own servers come from: PATH, then wheels (auto), or only one of them.",
)
def up(folder: Folder, fresh: bool, no_nginx: bool, **given: Any) -> None:
    """Start a cluster and stay in front of it. Ctrl-C drains and stops it, twice at once."""
    options = Options(folder.path, nginx=not no_nginx, called=_called(), **given)
    folder.claim()
    try:
        lock_fd = folder.acquire()
        if fresh:
            folder.wipe()
        folder.logs.mkdir(exist_ok=True)
    except OSError as error:
        raise LocalError(f"Cannot use {folder.path} ({error}): name a folder you own with --data.") from error
    logging.basicConfig(filename=folder.logs / "launcher.log", format="%(asctime)s %(levelname)s %(message)s")
    asyncio.run(Launcher(options, folder, lock_fd, _reporter()).run())


def _reporter() -> Reporter:
    if sys.stdout.isatty():
        return TerminalReporter(Console())
    return JsonReporter(sys.stdout)


def _called() -> str:
    return "tally" if Path(sys.argv[0]).name == "tally" else "python3 -m cluster"


@main.command(name="status")
@data_option
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def show_status(folder: Folder, as_json: bool) -> None:
    """Nodes, partitions, addresses. Exit code 1 when none runs or a node is not ready."""
    now = asyncio.run(status.ask(operate.running(folder)))
    if as_json:
        click.echo(json.dumps(now.as_json(), indent=2))
    else:
        _print_status(now)
    if not now.is_well:
        raise SystemExit(1)


def _print_status(now: status.Status) -> None:
    rows = [(n.name, n.pid, n.state, n.url, n.ops_url, n.id or "-", n.partitions) for n in now.nodes]
    console = Console(soft_wrap=True)
    console.print(nodes_table(rows, more=("id", "partitions")))
    epoch = "unknown: the registry does not answer" if now.epoch is None else str(now.epoch)
    nginx = f"pid {now.nginx}" if now.nginx else "none, the nodes share the port"
    named = [("epoch", epoch), ("public", now.public_url), ("redis", without_password(now.redis_url)), ("nginx", nginx)]
    for name, value in [*named, ("postgres", without_password(now.postgres_dsn))]:
        console.print(f"{name:>9}  {value}", markup=False, highlight=False)


@main.command()
@click.argument("node")
@data_option
def kill(folder: Folder, node: str) -> None:
    """SIGKILL a node, or `redis` or `postgres`. It is started again after some seconds."""
    state = operate.running(folder)
    if node in ("redis", "postgres"):
        click.echo(f"{node} (pid {operate.kill_server(state, node)}) is killed; it is started again in about 2 s.")
        return
    found = _find(state, node)
    pid = operate.kill(state, found)
    click.echo(f"{found.name} (pid {pid}) is killed; it is started again in about 5 s.")


@main.command()
@click.argument("node")
@click.argument("seconds", type=click.FloatRange(0, operate.PAUSE_S_MAX))
@data_option
def pause(folder: Folder, node: str, seconds: float) -> None:
    """SIGSTOP a node, and let it go on after SECONDS."""
    state = operate.running(folder)
    found = _find(state, node)
    click.echo(f"{found.name} is paused for {seconds:g} s.")
    operate.pause(state, found, seconds)
    click.echo(f"{found.name} goes on.")


@main.command()
@click.argument("node")
@data_option
def drain(folder: Folder, node: str) -> None:
    """Let a node finish what it has and leave. It is not started again."""
    state = operate.running(folder)
    found = _find(state, node)
    operate.drain(folder, state, found)
    click.echo(f"{found.name} has left.")


@main.command()
@data_option
def add(folder: Folder) -> None:
    """Start one more node."""
    node = operate.add(folder, operate.running(folder))
    click.echo(f"{node.name} is ready: {node.url} (pid {node.pid}).")


@main.command(context_settings={"ignore_unknown_options": True})
@click.option("--require-all", is_flag=True, help="Fail when any test is skipped.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[PYTEST ARGUMENTS]...")
def test(require_all: bool, arguments: tuple[str, ...]) -> None:
    """Run the tests, and say what was skipped and why."""
    try:
        from cluster.local import testing
    except ImportError as error:  # pytest is not there where only the service is installed
        raise LocalError("The tests need pytest: run this in a clone of the repository.") from error
    testing.run(arguments, require_all)


def _find(state: ClusterState, wanted: str) -> NodeState:
    """The node by name, or else by its member id, which the registry knows."""
    if state.node(wanted) is not None:
        return operate.find_node(state, wanted)
    now = asyncio.run(status.ask(state))
    return operate.find_node(state, wanted, {node.name: node.id for node in now.nodes if node.id})


main.add_command(attack)
main.add_command(bench)
main.add_command(migrate)
main.add_command(balancer)
main.add_command(token)


def run() -> None:
    """The entry of `__main__`, once everything needed can be imported."""
    os.environ.pop("TALLY_BOOTSTRAPPED", None)
    main(prog_name=_called())
