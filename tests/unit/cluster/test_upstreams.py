"""Which addresses are nginx's, and for how long those are kept that the view has lost."""

from __future__ import annotations

import pytest

from cluster.agent import BEATS_PER_LEASE, RETRY_S
from cluster.balancer import PATIENCE_MS
from cluster.registry import LEASE_MS, TIMEOUT_S
from cluster.upstreams import MAX_MEMBERS, NOBODY, Patience, address, addresses, servers_of, text_of
from cluster.view import Member, State, View

A, B, C = (f"127.0.0.1:4100{number}" for number in (1, 2, 3))
PATIENCE_S = 2.0


def member(number: int, state: State = "ready", url: str | None = None) -> Member:
    where = f"http://127.0.0.1:{41000 + number}" if url is None else url
    return Member(f"n{number}-abcdef", f"n{number}", where, "http://127.0.0.1:1", 1, state)


def view(*members: Member) -> View:
    return View(1, members)


def test_only_ready_members_are_in_nginx() -> None:
    assert addresses(view(member(1), member(2, "draining"), member(3, "starting"))) == (A,)


def test_the_addresses_depend_on_who_is_there_and_not_on_the_order_or_the_epoch() -> None:
    assert addresses(View(7, (member(1), member(2)))) == addresses(View(9, (member(2), member(1)))) == (A, B)


def test_the_text_says_its_servers() -> None:
    assert servers_of(text_of((A, B))) == (A, B)
    assert servers_of(NOBODY) == ()


def test_two_members_at_one_address_are_one_server() -> None:
    assert addresses(view(member(1), member(2, url="http://127.0.0.1:41001"))) == (A,)


def test_without_a_ready_member_the_configuration_still_has_a_server_that_is_down() -> None:
    assert text_of(addresses(view(member(1, "draining")))) == NOBODY
    assert "server 127.0.0.1:1 down;" in NOBODY


def test_the_number_of_servers_is_bounded() -> None:
    many = View(1, tuple(member(i) for i in range(MAX_MEMBERS + 5)))
    assert len(addresses(many)) == MAX_MEMBERS


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:8000", "127.0.0.1:8000"),
        ("http://node-1.tally.svc:8000/", "node-1.tally.svc:8000"),
        ("http://[::1]:8000", "[::1]:8000"),
    ],
)
def test_an_address_is_host_and_port(url: str, expected: str) -> None:
    assert address(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:80",
        "https://127.0.0.1:80",
        "unix:/run/redis.sock",
        "http://127.0.0.1",
        "http://127.0.0.1:0",
        "http://127.0.0.1:70000",
        "http://127.0.0.1:8x",
        "http://127.0.0.1:80/admin",
        "http://127.0.0.1:80?x",
        "http://127.0.0.1:80#x",
        "http://user@127.0.0.1:80",
        "http://a;b:80",
        "http://a b:80",
        "http://a\n;}:80",
        "http://a:80\n",
        "http://a:80; } server { listen 1;",
        "http://$host:80",
        "http://-a:80",
        "http://a..b:80",
        "http://unix:80:80",
        "http://[::1%25eth0]:80",
        "http://[nonsense]:80",
        "http://ä:80",
        "http://" + "a" * 64 + ":80",
    ],
)
def test_anything_else_is_refused_because_the_registry_is_data(url: str) -> None:
    assert address(url) is None
    assert addresses(view(member(1), member(2, url=url))) == (A,)


def test_one_that_is_gone_while_others_are_there_is_let_go_at_once() -> None:
    patience = Patience(PATIENCE_S)
    assert patience.servers((A, B, C), view(member(1), member(2)), now=0.0) == (A, B)


def test_those_that_say_so_are_let_go_at_once_and_be_it_all() -> None:
    leaving = view(member(1, "draining"), member(2, "draining"))
    assert Patience(PATIENCE_S).servers((A, B), leaving, now=0.0) == ()


@pytest.mark.parametrize("left", [(), (1,)])
def test_several_that_are_gone_at_once_stay_until_they_had_the_time_to_beat_again(left: tuple[int, ...]) -> None:
    patience, those = Patience(PATIENCE_S), view(*map(member, left))
    assert patience.servers((A, B, C), those, now=5.0) == (A, B, C)
    assert patience.servers((A, B, C), those, now=6.9) == (A, B, C)
    assert patience.servers((A, B, C), those, now=7.0) == addresses(those)


def test_the_only_one_stays_as_long() -> None:
    patience = Patience(PATIENCE_S)
    assert patience.servers((A,), view(), now=5.0) == (A,)
    assert patience.servers((A,), view(member(2)), now=6.0) == (A, B)
    assert patience.servers((A,), view(), now=7.0) == ()


def test_the_last_to_come_back_has_as_much_time_as_the_first() -> None:
    patience = Patience(PATIENCE_S)
    patience.servers((A, B, C), view(), now=5.0)
    assert patience.servers((A, B, C), view(member(2), member(3)), now=6.0) == (A, B, C)
    assert patience.servers((A, B, C), view(member(1), member(2), member(3)), now=6.9) == (A, B, C)
    assert patience.servers((A, B, C), view(member(2), member(3)), now=9.0) == (B, C), "that was another time"


def test_after_a_look_that_failed_one_alone_may_be_forgotten_too() -> None:
    patience = Patience(PATIENCE_S)
    patience.look_failed()
    assert patience.servers((A, B), view(member(1)), now=5.0) == (A, B)
    assert patience.servers((A, B), view(member(1), member(2)), now=6.0) == (A, B)
    assert patience.servers((A, B), view(member(1)), now=6.5) == (A,), "all were well meanwhile"


def test_new_members_do_not_wait_for_those_that_are_gone() -> None:
    assert Patience(PATIENCE_S).servers((A, B), view(member(3)), now=5.0) == (A, B, C)


def test_those_that_stay_count_for_the_bound() -> None:
    told = tuple(f"10.0.0.1:{port}" for port in range(1, MAX_MEMBERS + 1))
    assert len(Patience(PATIENCE_S).servers(told, view(member(1)), now=5.0)) == MAX_MEMBERS


def test_the_balancer_is_patient_for_longer_than_a_member_takes_to_beat_again() -> None:
    assert max(LEASE_MS / 1000 / BEATS_PER_LEASE, TIMEOUT_S + RETRY_S) < PATIENCE_MS / 1000
