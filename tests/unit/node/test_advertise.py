"""The address that others reach a node by."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from node import advertise


def resolving(monkeypatch: pytest.MonkeyPatch, answers: list[list[str] | None]) -> None:
    """The names' addresses, look by look; the last answer stays. None: there is no such name."""

    async def getaddrinfo(_loop: Any, _host: str, _port: object, **_: object) -> list[Any]:
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        if found is None:
            raise socket.gaierror("no such name")
        return [(socket.AF_INET, socket.SOCK_DGRAM, 0, "", (host, 0)) for host in found]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(advertise, "LOOK_S", 0.001)


async def test_of_all_addresses_of_a_name_the_own_one_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    resolving(monkeypatch, [["192.0.2.1", "127.0.0.1", "192.0.2.2"]])
    assert await advertise.own_address("nodes") == "127.0.0.1"


async def test_without_an_own_address_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    resolving(monkeypatch, [["192.0.2.1"]])
    assert await advertise.own_address("nodes") is None


async def test_the_start_waits_for_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    resolving(monkeypatch, [None, ["192.0.2.1"], ["127.0.0.1"]])
    assert await advertise.first_address("nodes") == "127.0.0.1"


async def test_a_new_address_is_told_once_and_a_missing_one_never(monkeypatch: pytest.MonkeyPatch) -> None:
    resolving(monkeypatch, [["127.0.0.1"], None, ["127.0.0.2"], ["127.0.0.2"], None, ["127.0.0.3"]])
    told: list[str] = []
    both = asyncio.Event()

    async def moved(host: str) -> None:
        told.append(host)
        if len(told) == 2:
            both.set()

    following = asyncio.create_task(advertise.follow("nodes", "127.0.0.1", moved))
    async with asyncio.timeout(10):
        await both.wait()
    following.cancel()
    assert told == ["127.0.0.2", "127.0.0.3"]


@pytest.mark.parametrize(
    ("bound", "advertised", "url"),
    [
        (("127.0.0.1", 3333), "", "http://127.0.0.1:3333"),
        (("0.0.0.0", 3333), "10.1.2.3", "http://10.1.2.3:3333"),
        (("::", 3333), "fd00::1", "http://[fd00::1]:3333"),
    ],
)
def test_a_url_names_what_is_advertised(bound: advertise.Where, advertised: str, url: str) -> None:
    assert advertise.url_of(bound, advertised) == url
