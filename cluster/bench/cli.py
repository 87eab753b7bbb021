"""`tally bench`: Tally beside its peers, in one run on this machine."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console

from cluster.bench import balance, capacity, pins, report
from cluster.bench.growth import GROWTHS, Growth, grow
from cluster.bench.openloop import fine_loop
from cluster.bench.ours import Bench
from cluster.bench.rounds import play
from cluster.bench.rows import ROWS, Row

T = TypeVar("T", Row, Growth)
ROUNDS_MAX, SECONDS_MAX = 100, 600.0
WIDTH = 180  # columns that the table takes, also where the terminal has fewer


def choose(wanted: str | None) -> tuple[list[Row], list[Growth]]:
    """What --rows names, in our order; everything when it is not given. Raises click.BadParameter."""
    if wanted is None:
        return list(ROWS), list(GROWTHS)
    names = {name.strip() for name in wanted.split(",") if name.strip()}
    known = [each.name for each in (*ROWS, *GROWTHS)]
    if unknown := names - set(known):
        raise click.BadParameter(f"no row {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    return _named(ROWS, names), _named(GROWTHS, names)


def _named(all_of_them: Sequence[T], names: set[str]) -> list[T]:
    return [each for each in all_of_them if each.name in names]


async def measure(
    rows: list[Row], growths: list[Growth], rounds: int, seconds: float, say: Callable[[str], None]
) -> dict[str, Any]:
    """The whole run, as JSON."""
    cores = pins.Cores.choose()
    run: dict[str, Any] = {"machine": pins.machine(), "cores": cores.as_json(), "versions": report.versions()}
    run |= {"durability": report.DURABILITY, "rounds": rounds, "seconds": seconds}
    with cores.on("load"):  # this process reads back and sends at a rate: it must not take the server's core
        async with Bench.open(cores) as bench:
            run["rows"] = [(await play(bench, row, rounds, seconds, say)).as_json() for row in rows]
            run["growth"] = [(await grow(bench, growth, seconds, say)).as_json() for growth in growths]
    return run


@click.command()
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1, ROUNDS_MAX))
@click.option("--seconds", default=3.0, show_default=True, type=click.FloatRange(1, SECONDS_MAX), help="Each time.")
@click.option("--rows", help="Comma separated names, as --list tells them. [default: all]")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
@click.option("--list", "listed", is_flag=True, help="Only tell what the rows are.")
@click.option("--balance", "balanced", is_flag=True, help="Only simulate how evenly 1 to 1,000 nodes share.")
@click.option(
    "--capacity",
    "run_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Only compute from a run's JSON what rates up to 10 million increments/s need.",
)
def bench(
    rounds: int,
    seconds: float,
    rows: str | None,
    as_json: bool,
    listed: bool,
    balanced: bool,
    run_file: Path | None,
) -> None:
    """Measure Tally beside its peers, in one run.

    Each row is the ratio of our figure to the peer's, ours and the peer measured in turn. The exit code is 1 when a
    row failed (an answer that was not 2xx, a count that does not fit), not when a goal is missed.
    """
    if listed:
        for each in (*ROWS, *GROWTHS):
            click.echo(f"{each.name:<18}{each.title}" + (f" / {each.against}" if isinstance(each, Row) else ""))
        return
    if balanced:
        click.echo(balance.table())
        return
    if run_file is not None:
        click.echo(_page(run_file), nl=False)
        return
    chosen = choose(rows)
    with asyncio.Runner(loop_factory=fine_loop) as runner:
        run = runner.run(measure(*chosen, rounds, seconds, lambda line: click.echo(line, err=True)))
    _show(run, as_json)


def _page(run_file: Path) -> str:
    try:
        return capacity.page(json.loads(run_file.read_text(encoding="utf-8")))
    except (ValueError, KeyError) as error:
        raise click.ClickException(f"{run_file} is no run of `bench --json` that has it all: {error}") from error


def _show(run: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(run, indent=1))
    else:
        console = Console(width=max(Console().width, WIDTH))
        for part in report.draw(run):
            console.print(part, highlight=False)
    problems = [row for row in run["rows"] if row["verdict"] == "failed"]
    problems += [growth for growth in run["growth"] if growth["problem"]]
    if problems:
        raise SystemExit(1)
