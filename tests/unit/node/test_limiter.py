"""The rate limit: how much at once, how it comes back, and that it is bounded in memory."""

from __future__ import annotations

import asyncio

import pytest

from node.limiter import Limiter, Rate


async def test_a_thousand_at_once_are_admitted_and_the_next_is_not() -> None:
    limiter = Limiter(Rate(1000, 3600))
    assert [limiter.admit("a", "/x") for _ in range(1002)] == [True] * 1000 + [False] * 2


async def test_capacity_comes_back_evenly_over_the_period(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, now = asyncio.get_running_loop(), 100.0
    monkeypatch.setattr(loop, "time", lambda: now)
    limiter = Limiter(Rate(10, 5))
    assert sum(limiter.admit("a", "/x") for _ in range(20)) == 10
    now += 1.0
    assert sum(limiter.admit("a", "/x") for _ in range(20)) == 2
    now += 100.0
    assert sum(limiter.admit("a", "/x") for _ in range(20)) == 10, "never more than the limit at once"
    monkeypatch.undo()


async def test_clients_and_paths_are_apart() -> None:
    limiter = Limiter(Rate(1, 3600))
    for client in ("a", "b"):
        for path in ("/x", "/y", ""):
            assert limiter.admit(client, path)
            assert not limiter.admit(client, path)
    assert limiter.admit("a/", "x"), "client and path are not run together"


async def test_a_refused_request_uses_up_nothing() -> None:
    limiter = Limiter(Rate(2, 3600))
    assert [limiter.admit("a", "/x") for _ in range(50)] == [True] * 2 + [False] * 48


async def test_the_number_of_buckets_is_bounded_and_the_least_used_goes_first() -> None:
    limiter = Limiter(Rate(1, 3600), buckets_max=100)
    assert limiter.admit("first", "/")
    for i in range(99):
        assert limiter.admit(f"{i}", "/")
    assert not limiter.admit("first", "/"), "it is remembered, and used just now"
    for i in range(50):
        assert limiter.admit(f"new {i}", "/")
    assert not limiter.admit("first", "/")
    assert limiter.admit("0", "/"), "the oldest were forgotten"
    assert len(limiter._buckets) == 100


async def test_long_paths_are_not_kept() -> None:
    limiter = Limiter(Rate(1, 3600))
    limiter.admit("a", "/" + "x" * 100_000)
    assert all(isinstance(name, int) for name in limiter._buckets)


async def test_no_limit_keeps_nothing() -> None:
    limiter = Limiter(Rate.parse("0"))
    assert all(limiter.admit("a", f"/{i}") for i in range(5000))
    assert not limiter._buckets


@pytest.mark.parametrize(("text", "rate"), [("1000/5s", (1000, 5)), (" 1/60s ", (1, 60)), ("0", (0, 1)), ("", (0, 1))])
def test_a_rate_is_requests_per_seconds(text: str, rate: tuple[int, int]) -> None:
    assert Rate.parse(text) == Rate(*rate)


@pytest.mark.parametrize(
    "text", ["5", "5/s", "5/0s", "5/5", "5/5m", "-5/5s", "5.5/5s", "x", "5/5s x", "1_0/5s", "٥/5s"]
)
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="1000/5s"):
        Rate.parse(text)


@pytest.mark.parametrize(("rate", "seconds"), [((1000, 5), 1), ((5, 5), 1), ((1, 60), 60), ((7, 60), 9), ((0, 1), 1)])
def test_retry_after_is_when_one_request_has_room_again(rate: tuple[int, int], seconds: int) -> None:
    assert Limiter(Rate(*rate)).retry_after_s == seconds


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff:ffff:ffff:ffff", True),
        ("2001:db8:0:1::1", "2001:DB8::1:0:0:0:2", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.2", False),
        ("::1", "10.0.0.1", False),
        ("no:address", "no:other", False),
    ],
)
async def test_the_addresses_of_one_ipv6_network_are_one_client(one: str, other: str, alike: bool) -> None:
    limiter = Limiter(Rate(1, 3600))
    assert limiter.admit(one, "/")
    assert limiter.admit(other, "/") is not alike
