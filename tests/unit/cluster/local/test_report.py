from __future__ import annotations

import io
import json
import os
from typing import Any

from rich.console import Console

from cluster.local.box import Facts, lines_to_try
from cluster.local.report import JsonReporter, TerminalReporter
from cluster.local.state import ClusterState, NodeState

SERVERS = {"redis": {"version": "7.0", "source": "PATH", "where": "127.0.0.1:20001"}}
STATE = ClusterState(
    public_url="http://127.0.0.1:3333",
    redis_url="redis://:pw@127.0.0.1:20001/0",
    postgres_dsn="postgresql://tally:pw@127.0.0.1:20002/tally",
    servers=SERVERS,
    nodes=[NodeState("n1", "http://127.0.0.1:20003", "http://127.0.0.1:20004", 7, "ready")],
)


def facts(**other: str | None) -> Facts:
    given: dict[str, Any] = {"data": ".tally", "rate_limit": "0", "psql": "psql", **other}
    return Facts(STATE, durability="appendfsync always", command="tally", **given)


def shown(told: Facts) -> str:
    out = io.StringIO()
    TerminalReporter(Console(file=out, width=200)).ready(told)
    return out.getvalue()


def test_every_event_is_one_json_line() -> None:
    out = io.StringIO()
    reporter = JsonReporter(out)
    reporter.event("node", name="n1", state="dead")
    reporter.ready(facts())
    node, ready = [json.loads(line) for line in out.getvalue().splitlines()]
    assert (node["event"], node["name"], node["state"]) == ("node", "n1", "dead")
    assert (ready["event"], ready["public_url"], ready["rate_limit"]) == ("ready", "http://127.0.0.1:3333", "0")


def test_a_reader_that_went_away_ends_nothing() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    with open(write_end, "w", closefd=True, buffering=1) as out:
        reporter = JsonReporter(out)
        reporter.event("node", name="n1")
        reporter.event("node", name="n1")
        os.dup2(os.open(os.devnull, os.O_WRONLY), write_end)  # closing flushes what could not be written


def test_the_box_says_what_one_has_to_know() -> None:
    text = shown(facts())
    for part in ["http://127.0.0.1:3333", "7.0 from PATH", "appendfsync always", "off (TALLY_RATE_LIMIT", "n1"]:
        assert part in text


def test_a_rate_limit_that_is_on_is_shown() -> None:
    assert "1000/5s" in shown(facts(rate_limit="1000/5s"))


def test_names_with_brackets_are_shown_as_they_are() -> None:
    assert "/tmp/[red]data[/red]" in shown(facts(data="/tmp/[red]data[/red]"))


def test_the_lines_to_try_name_the_folder_when_it_is_not_the_usual_one() -> None:
    assert "tally kill n1" in lines_to_try(facts())
    assert "tally kill --data 'a b' n1" in lines_to_try(facts(data="a b"))


def test_the_password_of_a_given_database_is_not_shown() -> None:
    assert ":pw@" in shown(facts())
    assert ":pw@" not in shown(facts(psql=None))


def test_a_log_gets_no_password() -> None:
    out = io.StringIO()
    JsonReporter(out).ready(facts())
    ready = json.loads(out.getvalue())
    assert ready["redis_url"] == "redis://:***@127.0.0.1:20001/0"
    assert ready["postgres_dsn"] == "postgresql://tally:***@127.0.0.1:20002/tally"
    assert "pw" not in out.getvalue()


def test_a_terminal_gets_lines() -> None:
    out = io.StringIO()
    reporter = TerminalReporter(Console(file=out, width=100))
    reporter.event("started", part="redis", version="7.0", source="PATH", seconds=0.1, where="x")
    reporter.event("node", name="n2", state="dead", pid=1, url="u")
    reporter.event("stopping")
    assert [line.split()[:2] for line in out.getvalue().splitlines() if line] == [
        ["ok", "redis"],
        ["!!", "n2"],
        ["stopping:", "the"],
    ]
