"""nginx.conf and the balancer with a real nginx in front of small upstreams of this file's own."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path
from typing import Any

import pytest

from cluster.upstreams import NOBODY
from tests.http.nginx_front import (
    DEADLINE_S,
    NGINX,
    always,
    front,
    joined,
    left,
    reply,
    under_load,
    upstream,
)

pytestmark = [pytest.mark.nginx, pytest.mark.skipif(NGINX is None, reason="nginx is not on this machine")]

BAD_REQUEST = b'{"error":{"message":"Bad Request."}}'


def refused(answer: tuple[int, bytes]) -> Any:
    status, body = answer
    assert status == 503
    return json.loads(body)["error"]


async def test_a_post_goes_to_the_next_node_with_the_same_request_id_when_the_first_resets(
    tmp_path: Path,
) -> None:
    async with (
        upstream(always(None)) as broken,
        upstream() as sound,
        front(tmp_path, broken.url, sound.url) as nginx,
    ):
        await nginx.reaches(sound)
        broken.seen.clear(), sound.seen.clear()
        for _ in range(4):
            assert (await nginx.post(X_Request_ID="mine", Idempotency_Key='"k"'))[0] == 204
        assert broken.seen, "some first tries go to the node that resets"
        passed_on = {request.headers["x-request-id"] for request in sound.seen}
        for tried in broken.seen:
            assert tried.headers["x-request-id"] in passed_on
            assert tried.headers["x-request-id"] != "mine"
            assert tried.headers["idempotency-key"] == '"k"'
            assert tried.body == b'{"key":"a","value":1}'
        assert len(passed_on) == len(sound.seen) == 4


async def test_the_clients_address_is_nginxs_word_and_not_the_clients(tmp_path: Path) -> None:
    async with upstream() as node, front(tmp_path, node.url) as nginx:
        await nginx.reaches(node)
        await nginx.post(X_Real_IP="6.6.6.6", X_Forwarded_For="6.6.6.6", Forwarded="for=6.6.6.6")
        headers = node.seen[-1].headers
        assert headers["x-real-ip"] == headers["x-forwarded-for"] == "127.0.0.1"
        assert "forwarded" not in headers
        assert headers["host"] == f"127.0.0.1:{nginx.balancer.port}"
        assert headers.get("connection") is None


@pytest.mark.parametrize("status", [200, 204, 400, 404, 413, 422, 429, 500, 503])
async def test_a_nodes_answer_is_passed_as_it_is(tmp_path: Path, status: int) -> None:
    body = b"" if status == 204 else b'{"error":{"message":"as the node says"}}'
    async with (
        upstream(always(reply(status, body, "X-Own: yes", "Retry-After: 7"))) as node,
        front(tmp_path, node.url) as nginx,
    ):
        await nginx.reaches(node)
        async with nginx.client.post(nginx.url(), data=b"{}") as answer:
            assert (answer.status, await answer.read()) == (status, body)
            assert (answer.headers["X-Own"], answer.headers["Retry-After"]) == ("yes", "7")


@pytest.mark.parametrize(
    "path",
    [
        "/increment/hello%20world",
        "/increment/a%2Fb",
        "/increment/a//b///c",
        "/increment/%2e%2e/x",
        "/increment/%E2%9C%93%F0%9F%98%80",
        "/increment/%FF",
        "/increment/a%25b?x=%20y",
        "/increment/./x",
    ],
)
async def test_the_path_arrives_as_it_was_sent(tmp_path: Path, path: str) -> None:
    async with upstream() as node, front(tmp_path, node.url) as nginx:
        await nginx.reaches(node)
        for closing in (False, True):  # and on the way of an announced reload, too
            if closing:
                nginx.announce()
            head, _ = await nginx.raw(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
            assert head.startswith(b"HTTP/1.1 204")
            assert node.seen[-1].line == f"GET {path} HTTP/1.1"


async def test_an_announced_reload_asks_every_client_to_give_up_its_connection(tmp_path: Path) -> None:
    async with upstream() as node, front(tmp_path, node.url) as nginx:
        await nginx.reaches(node)
        give_up_at = asyncio.get_running_loop().time() + DEADLINE_S
        for announced in (False, True):  # the start may end with a reload of its own: wait for either
            while await nginx.kept_open() == announced:
                assert asyncio.get_running_loop().time() < give_up_at
                if announced:
                    nginx.announce()
                await asyncio.sleep(0.01)
        assert (node.seen[-1].line, node.seen[-1].body) == ("POST /increment HTTP/1.1", b"{}")
        node.die()
        await nginx.post()  # uses up a kept connection to the node
        assert refused(await nginx.post())["counted"] is False, "nginx's own errors are JSON then, too"


CHUNKED = b"Transfer-Encoding: chunked\r\n"
HOST = b"Host: a\r\nConnection: close\r\n"
LONG = b"x" * 9000


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"POST /increment HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"POST /increment HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc", 400),
        (b"POST /increment HTTP/1.1\r\n" + HOST + b"Content-Length: x\r\n\r\n", 400),
        (b"POST /increment HTTP/1.1\r\n" + HOST + CHUNKED + b"\r\nzz\r\n", 400),
        (
            b"POST /increment HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
        ),
        (b"GET /increment/%zz HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET /increment/%00 HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET /../../x HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET /.tally/503 HTTP/1.1\r\n" + HOST + b"\r\n", 404),
        (b"TRACE / HTTP/1.1\r\n" + HOST + b"\r\n", 405),
        (b"CONNECT a:1 HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"CONNECT / HTTP/1.1\r\n" + HOST + b"\r\n", 405),
        (b"POST /increment HTTP/1.1\r\n" + HOST + b"Content-Length: 16385\r\n\r\n", 413),
        (b"GET /" + LONG + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X-Long: " + LONG + b"\r\n\r\n", 431),
        (b"POST /increment HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: xchunked\r\n\r\n", 400),
        (b"GET / HTTP/3.0\r\n" + HOST + b"\r\n", 400),
    ],
)
async def test_nginxs_own_errors_are_the_contracts_json(tmp_path: Path, request_bytes: bytes, status: int) -> None:
    async with upstream() as node, front(tmp_path, node.url) as nginx:
        await nginx.reaches(node)
        seen = len(node.seen)
        head, body = await nginx.raw(request_bytes)
        assert head.startswith(b"HTTP/1.1 %d " % status), (head, body)
        assert b"content-type: application/json" in head.lower()
        assert b"x-content-type-options: nosniff" in head.lower()
        assert list(json.loads(body)) == ["error"]
        if status == 400:
            assert body == BAD_REQUEST
        assert len(node.seen) == seen, "no node saw it"


async def test_without_members_the_answer_is_503_and_says_nothing_was_counted(tmp_path: Path) -> None:
    async with front(tmp_path) as nginx:
        async with nginx.client.post(nginx.url(), data=b"{}") as answer:
            assert answer.headers["Retry-After"] == "1"
            assert answer.headers["Connection"] == "close", "so that the reload for the first member breaks none"
            assert answer.content_type == "application/json"
            error = refused((answer.status, await answer.read()))
        assert error == {"message": "Service Unavailable.", "counted": False}


async def test_a_post_that_no_node_answered_may_have_counted(tmp_path: Path) -> None:
    async with (
        upstream(always(None)) as first,
        upstream(always(None)) as second,
        front(tmp_path, first.url, second.url) as nginx,
    ):
        give_up_at = asyncio.get_running_loop().time() + DEADLINE_S
        while not second.seen:
            assert asyncio.get_running_loop().time() < give_up_at
            error = refused(await nginx.post())
        assert refused(await nginx.post())["counted"] == "unknown"
        async with nginx.client.get(nginx.url("/increment/a")) as answer:
            assert refused((answer.status, await answer.read()))["counted"] is False
        first.die(), second.die()
        await asyncio.sleep(0.05)
        await nginx.post()  # kept connections are used up
        assert refused(await nginx.post())["counted"] is False, "no node got a byte of it"
        assert error["message"] == "Service Unavailable."


async def test_a_paused_nodes_requests_are_passed_on_within_three_seconds(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as paused:  # the kernel accepts, nobody answers: as after SIGSTOP
        url = f"http://127.0.0.1:{paused.getsockname()[1]}"
        async with upstream() as sound, front(tmp_path, url, sound.url) as nginx:
            await nginx.reaches(sound)
            began = asyncio.get_running_loop().time()
            answers = await asyncio.gather(*(nginx.post() for _ in range(10)))
            assert {status for status, _ in answers} == {204}
            assert 2 < asyncio.get_running_loop().time() - began < 3.5


async def test_a_node_that_refuses_with_503_is_passed_over(tmp_path: Path) -> None:
    async with (
        upstream(always(reply(503, b"{}"))) as cut_off,
        upstream() as sound,
        front(tmp_path, cut_off.url, sound.url) as nginx,
    ):
        await nginx.reaches(cut_off, sound)
        answers = [await nginx.post() for _ in range(20)]
        assert {status for status, _ in answers} == {204}
        assert len(cut_off.seen) > 5, "its 503s do not take it out: that is the registry's to say"


async def test_nodes_die_leave_and_join_and_no_request_fails(tmp_path: Path) -> None:
    async with (
        upstream() as first,
        upstream() as second,
        upstream() as third,
        front(tmp_path, first.url, second.url) as nginx,
    ):
        await nginx.reaches(first, second)

        async def story() -> None:
            for _ in range(2):
                first.die()  # dies: the registry notices later
                await asyncio.sleep(0.3)
                nginx.members.urls = [second.url]
                await asyncio.sleep(0.3)
                nginx.members.urls = [second.url, third.url]
                await joined(third)
                nginx.members.urls = [third.url]  # leaves, and goes on serving a moment
                await left(second)
                await first.start()
                nginx.members.urls = [first.url, second.url]
                await joined(first)
                await left(third)

        load = await under_load(nginx, 300, story)
        assert load.failures == []
        assert load.ok > 500


async def test_a_registry_out_of_reach_leaves_the_upstreams_as_they_are(tmp_path: Path) -> None:
    async with upstream() as node, front(tmp_path, node.url) as nginx:
        await nginx.reaches(node)
        before = (nginx.balancer.directory / "upstreams.conf").read_text()
        nginx.members.urls = None
        await asyncio.sleep(0.5)  # ten looks
        assert (nginx.balancer.directory / "upstreams.conf").read_text() == before
        assert (await nginx.post())[0] == 204


async def test_members_that_redis_forgot_stay_until_they_are_back_and_no_request_fails(tmp_path: Path) -> None:
    async with (
        upstream() as first,
        upstream() as second,
        front(tmp_path, first.url, second.url, patience_ms=60_000) as nginx,
    ):
        await nginx.reaches(first, second)

        async def story() -> None:
            await nginx.members.become()
            await nginx.members.become(second.url)
            await joined(first)
            await nginx.members.become(first.url, second.url)

        load = await under_load(nginx, 100, story)
        assert load.failures == []
        assert load.ok > 10


async def test_members_that_died_together_are_let_go_after_a_while_and_the_answer_is_503_throughout(
    tmp_path: Path,
) -> None:
    async with upstream() as first, upstream() as second, front(tmp_path, first.url, second.url) as nginx:
        await nginx.reaches(first, second)
        first.die(), second.die()
        nginx.members.urls = []
        give_up_at = asyncio.get_running_loop().time() + DEADLINE_S
        while (nginx.balancer.directory / "upstreams.conf").read_text() != NOBODY:
            assert asyncio.get_running_loop().time() < give_up_at
            assert (await nginx.post())[0] == 503


async def test_upstreams_that_nginx_refuses_are_undone_and_a_good_view_is_taken_later(tmp_path: Path) -> None:
    async with upstream() as node, upstream() as other, front(tmp_path, node.url) as nginx:
        await nginx.reaches(node)
        nginx.members.urls = [node.url, "http://no-such-host.invalid:80"]
        await asyncio.sleep(1.0)
        assert (await nginx.post())[0] == 204
        nginx.members.urls = [node.url, other.url]
        await nginx.reaches(other)
