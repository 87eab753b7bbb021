"""Who is asking, and who may say so."""

from __future__ import annotations

from collections import Counter
from ipaddress import ip_network

import pytest

from node.call import Outcome
from node.door import CAUSES_MAX, PEERS_MAX, Door
from node.errors import BadRequest, LogUnavailable, Mismatch, Overloaded, PayloadTooLarge, TooManyRequests
from node.increment import Increment
from node.limiter import Limiter, Rate


class Counts:
    """`ports.Meter` that remembers."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def count(self, name: str, by: int = 1) -> None:
        self.counts[name] += by

    def timing(self, name: str, ms: float) -> None: ...


def door(rate: str = "0", trusted: tuple[str, ...] = ("10.0.0.0/8", "::1/128")) -> tuple[Door, Counter[str]]:
    meter = Counts()
    networks = [ip_network(network) for network in trusted]
    return Door(Limiter(Rate.parse(rate)), meter, networks), meter.counts


@pytest.mark.parametrize(
    ("peer", "real_ip", "address", "by_proxy"),
    [
        ("10.1.2.3", "203.0.113.9", "203.0.113.9", True),
        ("10.1.2.3", None, "10.1.2.3", True),
        ("10.1.2.3", "", "10.1.2.3", True),
        ("::1", "203.0.113.9", "203.0.113.9", True),
        ("11.1.2.3", "203.0.113.9", "11.1.2.3", False),
        ("11.1.2.3", None, "11.1.2.3", False),
        ("::2", "203.0.113.9", "::2", False),
        ("", "203.0.113.9", "", False),
        ("/run/tally.sock", "203.0.113.9", "/run/tally.sock", False),
    ],
)
async def test_only_a_trusted_proxys_word_is_taken(
    peer: str, real_ip: str | None, address: str, by_proxy: bool
) -> None:
    guard, _ = door("1/60s")
    assert guard.admit(peer, real_ip, "/increment") is by_proxy
    with pytest.raises(TooManyRequests):  # by now known: it is this address that has used up its rate
        guard.admit(address, None, "/increment")
    with pytest.raises(TooManyRequests):
        guard.admit(peer, real_ip, "/increment")


def test_nobody_is_trusted_by_default() -> None:
    guard, _ = door(trusted=())
    assert guard.admit("127.0.0.1", "203.0.113.9", "/") is False


async def test_a_stranger_is_limited_by_its_own_address_whatever_it_claims() -> None:
    guard, _ = door("2/3600s")
    for claim in ("203.0.113.1", "203.0.113.2"):
        guard.admit("192.0.2.1", claim, "/increment")
    with pytest.raises(TooManyRequests):
        guard.admit("192.0.2.1", "203.0.113.3", "/increment")
    for client in ("203.0.113.1", "203.0.113.2", "203.0.113.3"):
        guard.admit("10.0.0.1", client, "/increment")


def test_the_memory_of_peers_is_bounded() -> None:
    guard, _ = door()
    for i in range(3 * PEERS_MAX):
        guard.admit(f"192.0.{i // 256}.{i % 256}", None, "/")
    assert len(guard._peers) <= PEERS_MAX


@pytest.mark.parametrize(
    ("outcome", "short_lived", "status", "replayed", "counts"),
    [
        (Outcome.COUNTED, False, 204, False, {"kv.dist.increment": 1, "api.create_key": 1}),
        (Outcome.REPLAYED, False, 204, True, {"api.replayed": 1, "api.create_key": 1}),
        (Outcome.REPLAYED, True, 204, False, {"api.replayed": 1, "api.create_key": 1}),
        (Outcome.MISMATCH, False, 422, False, {"api.mismatch": 1}),
        (Outcome.FULL, False, 422, False, {"api.mismatch": 1}),
    ],
)
def test_an_outcome_is_answered_and_metered(
    outcome: Outcome, short_lived: bool, status: int, replayed: bool, counts: dict[str, int]
) -> None:
    guard, metered = door()
    answer = guard.counted(outcome, Increment("default:a", 1, "x", short_lived))
    guard.meter_counted()
    guard.meter_counted()  # tells nothing twice
    assert (answer.status, ("Idempotent-Replayed", "true") in answer.headers) == (status, replayed)
    assert metered == counts


def test_an_error_is_answered_and_metered() -> None:
    guard, metered = door("1/60s")
    assert guard.failed(BadRequest()).status == 400
    assert guard.failed(Mismatch()).status == 422
    assert guard.failed(Overloaded()).status == 503
    assert guard.failed(PayloadTooLarge()).status == 413
    assert ("Retry-After", "60") in guard.failed(TooManyRequests()).headers
    assert metered == {"api.bad_request": 1, "api.mismatch": 1, "api.unavailable": 1, "api.rate_limited": 1}


def test_the_default_namespace_may_require_an_idempotency_key() -> None:
    guard, _ = door()
    guard.check(Increment("default:a", 1))
    guard.key_required = True
    guard.check(Increment("default:a", 1, "x"))
    for without in (Increment("default:a", 1), Increment("default:a", 1, "a proxy's", short_lived=True)):
        with pytest.raises(BadRequest):
            guard.check(without)


def test_what_is_counted_is_metered_under_its_strategys_name() -> None:
    meter = Counts()
    guard = Door(Limiter(Rate.parse("0")), meter, (), "rollup")
    guard.counted(Outcome.COUNTED, Increment("default:a", 1))
    guard.meter_counted()
    guard.counted_batch([Outcome.COUNTED, Outcome.COUNTED, Outcome.REPLAYED, Mismatch()], "sync")
    assert meter.counts == {
        "kv.rollup.increment": 1,
        "api.create_key": 1,
        "kv.sync.increment": 2,
        "api.replayed": 1,
    }


def test_what_clients_are_not_told_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    guard, _ = door()
    for _ in range(3):
        guard.failed(LogUnavailable(cause="Redis: Timeout reading from 10.1.2.3:6379"))
        guard.failed(LogUnavailable())
    assert [record.getMessage() for record in caplog.records] == [
        "a request failed: Redis: Timeout reading from 10.1.2.3:6379"
    ]
    for number in range(2 * CAUSES_MAX):
        guard.failed(LogUnavailable(cause=f"Redis: {number}"))
    assert len(guard._causes) <= CAUSES_MAX
