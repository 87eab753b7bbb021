from __future__ import annotations

import socket

import pytest

from cluster.local.errors import LocalError
from cluster.local.ports import HIGH, LOW, Ports, is_free


def listening() -> socket.socket:
    server = socket.socket()
    server.bind(("127.0.0.1", 0))
    server.listen(1)
    return server


def test_every_part_gets_a_port_of_its_own_below_the_range_of_outgoing_connections() -> None:
    ports = Ports()
    given = [ports.take(f"n{i}") for i in range(50)]
    assert len(set(given)) == 50
    assert all(LOW <= port < HIGH for port in given)


def test_a_part_gets_its_remembered_port_again_while_it_is_free() -> None:
    before = Ports().take("redis")
    assert Ports({"redis": before}).take("redis") == before


def test_a_remembered_port_that_is_taken_is_given_up() -> None:
    with listening() as server:
        taken = server.getsockname()[1]
        assert not is_free(taken)
        assert Ports({"redis": taken}).take("redis") != taken


def test_a_remembered_port_is_not_given_to_another_part() -> None:
    ports = Ports({"n1": 20_001, "n2": 20_001})
    assert ports.take("n1") != ports.take("n2")


def test_ports_of_parts_that_do_not_run_are_remembered_too() -> None:
    ports = Ports({"n7": 20_007})
    redis = ports.take("redis")
    assert ports.to_remember() == {"n7": 20_007, "redis": redis}


def test_a_taken_public_port_is_an_error_that_names_the_option() -> None:
    with listening() as server, pytest.raises(LocalError, match="--port"):
        Ports().take_public(server.getsockname()[1])


def test_the_wanted_public_port_is_exactly_that_one() -> None:
    wanted = Ports().take("any")
    assert Ports().take_public(wanted) == wanted
