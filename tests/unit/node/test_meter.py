"""The way to StatsD, seen from the other end of a real UDP socket."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import get_args

import pytest

from node import meter as meters
from node.meter import DATAGRAM_BYTES_MAX, TIMINGS_MAX, StatsdMeter
from node.metrics import Count, Timing


@pytest.fixture
def meter(statsd: socket.socket) -> Iterator[StatsdMeter]:
    with meter_to(statsd) as meter:
        yield meter


@pytest.fixture
def statsd() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(5)
        yield server


@contextmanager
def meter_to(server: socket.socket, prefix: str = "tally") -> Iterator[StatsdMeter]:
    host, port = server.getsockname()
    meter = StatsdMeter(f"{host}:{port}", prefix)
    yield meter
    meter.close()


def received(server: socket.socket) -> list[bytes]:
    """The datagrams that have come. Loopback delivers them before send returns."""
    server.setblocking(False)
    datagrams = []
    while True:
        try:
            datagrams.append(server.recv(65536))
        except BlockingIOError:
            return datagrams


def test_many_requests_are_one_datagram_with_their_sum(statsd: socket.socket, meter: StatsdMeter) -> None:
    for _ in range(10_000):
        meter.count("kv.dist.increment")
        meter.count("api.create_key")
    meter.count("api.rate_limited", 5)
    assert received(statsd) == []
    meter.flush()
    (datagram,) = received(statsd)
    assert sorted(datagram.split(b"\n")) == [
        b"tally.api.create_key:10000|c",
        b"tally.api.rate_limited:5|c",
        b"tally.kv.dist.increment:10000|c",
    ]


def test_nothing_to_say_is_not_sent(statsd: socket.socket, meter: StatsdMeter) -> None:
    meter.count("api.create_key")
    meter.flush()
    assert len(received(statsd)) == 1
    meter.flush()
    assert received(statsd) == []


def test_timings_are_sent_in_milliseconds(statsd: socket.socket) -> None:
    with meter_to(statsd, "own.prefix") as meter:
        meter.timing("kv.dist.sync_to_db", 12.5)
    (datagram,) = received(statsd)
    assert re.fullmatch(rb"own\.prefix\.kv\.dist\.sync_to_db:12\.50*\|ms", datagram)


def test_timings_between_two_flushes_are_bounded_and_datagrams_fit_a_frame(
    statsd: socket.socket, meter: StatsdMeter
) -> None:
    for _ in range(5 * TIMINGS_MAX):
        meter.timing("kv.dist.sync_to_db", 1.0)
    meter.flush()
    datagrams = received(statsd)
    assert sum(datagram.count(b"|ms") for datagram in datagrams) <= TIMINGS_MAX
    assert max(map(len, datagrams)) <= DATAGRAM_BYTES_MAX


def test_totals_go_on_over_flushes(statsd: socket.socket, meter: StatsdMeter) -> None:
    for _ in range(3):
        meter.count("api.create_key", 2)
        meter.flush()
    assert meter.totals == {"api.create_key": 6}


@pytest.mark.parametrize("address", ["", "no-such-host.invalid:8125"])
def test_without_a_server_nothing_fails(address: str) -> None:
    meter = StatsdMeter(address)
    meter.count("api.create_key")
    meter.timing("kv.dist.sync_to_db", 1.0)
    meter.flush()
    assert meter.totals == {"api.create_key": 1}


def test_a_server_that_has_gone_is_no_error() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        with meter_to(server) as meter:
            server.close()
            for _ in range(3):  # the second send hears of the first one's refusal
                meter.count("api.create_key")
                meter.flush()


async def test_it_flushes_by_itself(statsd: socket.socket, meter: StatsdMeter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meters, "FLUSH_INTERVAL_S", 0.01)
    meter.count("api.create_key")
    statsd.setblocking(False)
    running = asyncio.create_task(meter.run())
    async with asyncio.timeout(5):
        assert await asyncio.get_running_loop().sock_recv(statsd, 1000) == b"tally.api.create_key:1|c"
    running.cancel()


def test_a_meter_that_is_closed_has_sent_everything_and_sends_nothing_more(statsd: socket.socket) -> None:
    with meter_to(statsd) as meter:
        meter.count("api.create_key")
    assert received(statsd) == [b"tally.api.create_key:1|c"]
    meter.count("api.create_key")
    meter.close()
    assert received(statsd) == []


def test_the_seeds_names_are_there() -> None:
    names = {*get_args(Count), *get_args(Timing)}
    assert names >= {
        "kv.dist.increment",
        "kv.dist.sync_to_db",
        "kv.sync.increment",
        "api.create_key",
        "api.key_not_found",
        "api.rate_limited",
    }
    assert all(re.fullmatch(r"[a-z_.]+", name) for name in names), "nothing that StatsD would read as something else"
