"""`tally attack`: open-loop load through the public port, and an audit of every increment at its end."""

from __future__ import annotations

import asyncio
import json
import secrets
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path

import click

from cluster.attack import load, readback
from cluster.attack.audit import Outcome, audit
from cluster.attack.chaos import Chaos
from cluster.attack.faults import Fault, plan_faults
from cluster.attack.plan import Increment, Plan
from cluster.attack.report import Report, progress
from cluster.attack.route import NotFounded, Route, found
from cluster.local import operate
from cluster.local.folder import Folder

RESEND_S = 30.0  # how long increments of unknown outcome are sent again


@dataclass(frozen=True, slots=True)
class Target:
    """Where to send, and where the rows settle (None: do not look)."""

    url: str
    postgres_dsn: str | None
    namespace: str | None = None  # None: the seed's routes


def find_target(url: str | None, data: Path, postgres_dsn: str | None = None) -> Target:
    """From DIR/cluster.json, which `up` writes; what is given comes first. Raises click.UsageError."""
    if url and postgres_dsn:
        return Target(url, postgres_dsn)
    known: dict[str, str] = {}
    file = data / "cluster.json"
    try:
        read = json.loads(file.read_text(encoding="utf-8"))
        known = read if isinstance(read, dict) else {}
    except FileNotFoundError:
        if url is None:
            hint = f"no cluster in {data}: start one with `python3 -m cluster up`, or give --url"
            raise click.UsageError(hint) from None
    except ValueError as error:
        raise click.UsageError(f"{file} is not JSON ({error}): give --url") from error
    public = url or known.get("public_url")
    if not isinstance(public, str) or not public:
        raise click.UsageError(f"{file} names no public_url: give --url")
    same = url is None or url.rstrip("/") == str(known.get("public_url", "")).rstrip("/")
    return Target(public, postgres_dsn or (known.get("postgres_dsn") if same else None))


@dataclass(frozen=True, slots=True)
class Manner:
    """How the load is made, beside the plan. `faults` come meanwhile, made by `chaos`."""

    connections: int = 1000
    settle_s: float = 30.0
    reads_per_s: float = 0.0
    chaos: Chaos | None = None
    faults: Sequence[Fault] = ()


async def run_attack(plan: Plan, target: Target, manner: Manner, say: Callable[[str], None]) -> Report:
    """The load and the faults, then the audit. Raises ReadbackError when the values cannot be read back."""
    tally, chaos = load.Tally(), manner.chaos
    began = time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        if chaos is not None:
            tasks.create_task(chaos.run(manner.faults))
        await load.run(
            _until_interrupted(plan),
            target.url,
            connections=manner.connections,
            tally=tally,
            namespace=target.namespace,
            every_second=lambda elapsed_s: say(progress(elapsed_s, tally)),
            reads_per_s=manner.reads_per_s,
            sent=chaos.finish if chaos else lambda: None,
            resend_s=RESEND_S if chaos else 0,
        )
    seconds = time.monotonic() - began
    if chaos is not None:
        await chaos.until_well()
    say(f"sent; reading back {len(tally.history.keys)} keys")
    keys = list(tally.history.keys)
    values = await readback.counted(target.url, keys, target.namespace)
    rows = None
    if target.postgres_dsn is not None:
        say(f"waiting for Postgres to say the same (up to {manner.settle_s:g} s)")
        stored_in = Route(target.url, target.namespace).stored_in
        rows = await readback.settled(target.postgres_dsn, values, keys, manner.settle_s, stored_in)
        if rows != values and tally.outcomes[Outcome.UNKNOWN]:  # one of them may have come in late
            values = await readback.counted(target.url, keys, target.namespace)
    unsettled = 0 if rows is None else sum(rows.get(key) != values.get(key) for key in keys)
    public = audit(tally.history, values)
    stored = None if rows is None else audit(tally.history, rows)
    return Report(plan.run, seconds, tally, public, stored, unsettled, None if chaos is None else chaos.happened)


def prepare_chaos(folder: Folder, target: Target, plan: Plan, say: Callable[[str], None]) -> tuple[Chaos, list[Fault]]:
    """What makes the faults, and which it will make. Raises click.UsageError, LocalError."""
    public_url = operate.running(folder).public_url
    if target.url.rstrip("/") != public_url.rstrip("/"):
        raise click.UsageError(f"--chaos breaks the local cluster of {folder.path}, {public_url}: leave --url out")
    chaos = Chaos(folder, say)
    try:
        faults = plan_faults(plan.seed, plan.duration_s, chaos.kinds())
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    say(f"seed {plan.seed}, {len(faults)} faults: " + ", ".join(f"{f.at_s:.1f} s {f.kind.value}" for f in faults))
    return chaos, faults


def found_namespace(data: Path, namespace: str | None, strategy: str | None) -> None:
    """By the first node of DIR/cluster.json, where a strategy is given. Raises click.UsageError."""
    if strategy is None:
        return
    if namespace is None:
        raise click.UsageError("--strategy is a namespace's: give --namespace, too")
    try:
        nodes = json.loads((data / "cluster.json").read_text(encoding="utf-8"))["nodes"]
        ops_url = next(node["ops_url"] for node in nodes if node["state"] == "ready")
    except (OSError, ValueError, LookupError, StopIteration) as error:
        raise click.UsageError(f"no node is ready in {data}, to make {namespace} on: leave --strategy out") from error
    try:
        found(ops_url, namespace, strategy)
    except NotFounded as error:
        raise click.UsageError(str(error)) from error


def _until_interrupted(plan: Plan) -> Iterator[Increment]:
    """The plan, until Ctrl-C (or SIGTERM): the audit is of what was sent. The second one ends the command at once."""
    loop, stopped, numbers = asyncio.get_running_loop(), asyncio.Event(), (signal.SIGINT, signal.SIGTERM)

    def stop() -> None:
        stopped.set()
        for number in numbers:
            loop.remove_signal_handler(number)

    for number in numbers:
        loop.add_signal_handler(number, stop)
    yield from takewhile(lambda _: not stopped.is_set(), plan)
    stop()


def _run(main: Callable[[asyncio.Runner], Report]) -> Report:
    """On uvloop where there is one, so that the load costs the cluster beside it less."""
    try:
        import uvloop
    except ImportError:
        factory = None
    else:
        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return main(runner)


def _say(line: str) -> None:
    click.echo(line, err=True)


@click.command()
@click.option("--url", help="The public port. [default: public_url of DIR/cluster.json]")
@click.option(
    "--postgres-dsn",
    envvar="TALLY_POSTGRES_DSN",
    help="Where the increments settle. [TALLY_POSTGRES_DSN; default: postgres_dsn of DIR/cluster.json]",
)
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    default=100,
    show_default=True,
    help="Requests per second, sent at their times whatever the answers do.",
)
@click.option("--duration", type=click.FloatRange(min=0, min_open=True), default=10, show_default=True, help="Seconds.")
@click.option(
    "--keys",
    type=click.IntRange(0, 100_000),
    default=1,
    show_default=True,
    help="Counter keys that take increments of 1; 0 for digit keys only.",
)
@click.option(
    "--digits",
    type=click.FloatRange(0, 1),
    default=0.1,
    show_default=True,
    help="Share of requests on keys whose value names each increment (powers of 8).",
)
@click.option(
    "--connections",
    type=click.IntRange(1, 20_000),
    default=1000,
    show_default=True,
    help="At most so many requests in flight.",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    default=".tally",
    show_default=True,
    help="Folder of the cluster.",
)
@click.option(
    "--settle",
    type=click.FloatRange(min=0),
    default=30,
    show_default=True,
    help="Seconds Postgres may take until it says the same.",
)
@click.option("--namespace", help="Attack this namespace, by the v1 routes. [default: the seed's routes]")
@click.option(
    "--strategy",
    type=click.Choice(["dist", "sync", "rollup"]),
    help="Makes --namespace count so, if there is none yet.",
)
@click.option(
    "--reads",
    type=click.FloatRange(0, 1000),
    default=10,
    show_default=True,
    help="Reads per second, of keys that were incremented lately; each is checked.",
)
@click.option("--chaos", is_flag=True, help="Kill, pause and drain nodes, and kill Redis and Postgres, meanwhile.")
@click.option("--seed", type=int, help="Repeats the order of keys, values and faults. [default: random]")
@click.option("--allow-failed", is_flag=True, help="Failed requests alone do not make the exit code 1.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
@click.pass_context
def attack(
    ctx: click.Context,
    url: str | None,
    postgres_dsn: str | None,
    rate: float,
    duration: float,
    keys: int,
    digits: float,
    connections: int,
    data: Path,
    settle: float,
    namespace: str | None,
    strategy: str | None,
    reads: float,
    chaos: bool,
    seed: int | None,
    allow_failed: bool,
    as_json: bool,
) -> None:
    """Load the public port at a fixed rate, then audit every increment.

    Each request has an idempotency key and is sent once. The exit code is 1 when the audit finds a lost or
    doubled increment or a wrong read, when nothing was acknowledged, or when a request failed (unless --allow-failed);
    2 when it could not be carried out. Ctrl-C ends the load early; the audit follows all the same.

    With --chaos, requests may fail while Redis is away; those of unknown outcome are sent again at the end under their
    keys. Then the exit code is 1 when the audit fails, or when no fault happened.
    """
    target = replace(find_target(url, data, postgres_dsn), namespace=namespace)
    found_namespace(data, namespace, strategy)
    seed = secrets.randbits(32) if seed is None else seed
    try:
        plan = Plan(rate, duration, keys, digits, secrets.token_hex(4), seed)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    broken_by = prepare_chaos(Folder(data), target, plan, _say) if chaos else ()
    manner = Manner(connections, settle, reads, *broken_by)
    try:
        report = _run(lambda runner: runner.run(run_attack(plan, target, manner, _say)))
    except readback.ReadbackError as error:
        click.echo(f"attack: no audit: {error}", err=True)
        ctx.exit(2)
    click.echo(json.dumps({**report.as_json(), "seed": seed}) if as_json else report.as_text())
    ctx.exit(0 if report.audit_passed and (chaos or allow_failed or report.tally.failed == 0) else 1)
