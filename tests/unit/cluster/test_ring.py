"""Where counters and partitions belong."""

from __future__ import annotations

from collections import Counter

import pytest

from cluster.ring import Ring, partition_of

MEMBERS = [f"n{i}-{i * 7919:06x}" for i in range(1, 9)]


@pytest.mark.parametrize(
    ("counter", "of_64", "of_1024"),
    [
        ("default:a", 6, 966),
        ("default:hello world", 43, 299),
        ("default:", 58, 890),
        ("default:🙂", 18, 530),
        ("default:e\u0301", 49, 817),
        ("default:\u00e9", 8, 136),
        ("shop:a", 50, 754),
    ],
)
def test_a_counters_partition_never_changes(counter: str, of_64: int, of_1024: int) -> None:
    """Postgres and Redis hold data by these numbers: whoever changes them loses it."""
    assert (partition_of(counter, 64), partition_of(counter, 1024)) == (of_64, of_1024)


def test_counters_spread_evenly_over_partitions() -> None:
    counts = Counter(partition_of(f"default:user-{i}", 64) for i in range(64_000))
    assert set(counts) == set(range(64))
    assert min(counts.values()) > 850
    assert max(counts.values()) < 1150


@pytest.mark.parametrize("members", range(1, 9))
@pytest.mark.parametrize("partitions", [1, 7, 64])
def test_every_partition_has_exactly_one_owner(members: int, partitions: int) -> None:
    ring = Ring(MEMBERS[:members], partitions)
    owned = [p for member in MEMBERS for p in ring.owned_by(member)]
    assert sorted(owned) == list(range(partitions))
    assert all(p in ring.owned_by(str(ring.owner_of(p))) for p in range(partitions))


@pytest.mark.parametrize("members", range(2, 9))
def test_a_leavers_partitions_move_and_no_others(members: int) -> None:
    before = Ring(MEMBERS[:members], 64)
    for leaver in MEMBERS[:members]:
        after = Ring([member for member in MEMBERS[:members] if member != leaver], 64)
        moved = {p for p in range(64) if before.owner_of(p) != after.owner_of(p)}
        assert moved == before.owned_by(leaver)


@pytest.mark.parametrize("members", range(1, 8))
def test_a_joiner_takes_partitions_and_nobody_else_gains(members: int) -> None:
    before, after = Ring(MEMBERS[:members], 64), Ring(MEMBERS[: members + 1], 64)
    joiner = MEMBERS[members]
    assert after.owned_by(joiner)
    for member in MEMBERS[:members]:
        assert after.owned_by(member) == before.owned_by(member) - after.owned_by(joiner)


@pytest.mark.parametrize("members", range(1, 9))
def test_no_member_owns_much_more_than_its_share(members: int) -> None:
    ring = Ring(MEMBERS[:members], 1024)
    shares = [len(ring.owned_by(member)) * members / 1024 for member in MEMBERS[:members]]
    assert min(shares) > 0.5
    assert max(shares) < 1.6


def test_the_order_of_the_members_and_repetitions_mean_nothing() -> None:
    rings = [Ring(MEMBERS, 64), Ring(reversed(MEMBERS), 64), Ring(MEMBERS * 2, 64), Ring(set(MEMBERS), 64)]
    assert len({tuple(ring.owner_of(p) for p in range(64)) for ring in rings}) == 1


def test_without_members_nobody_owns_anything() -> None:
    ring = Ring([], 64)
    assert [ring.owner_of(p) for p in range(64)] == [None] * 64
    assert ring.owned_by("n1") == frozenset()


def test_a_stranger_owns_nothing() -> None:
    assert Ring(MEMBERS, 64).owned_by("stranger") == frozenset()
