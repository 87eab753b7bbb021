"""nginx.conf and the balancer with a real nginx in front of small upstreams of this file's own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shutil
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from yarl import URL

from cluster.balancer import Balancer
from cluster.errors import RegistryUnavailable
from cluster.view import Member, View

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
pytestmark = [pytest.mark.nginx, pytest.mark.skipif(NGINX is None, reason="nginx is not on this machine")]

DEADLINE_S = 10.0
BAD_REQUEST = b'{"error":{"message":"Bad Request."}}'


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


async def until(condition: Callable[[], bool], what: str) -> None:
    loop = asyncio.get_running_loop()
    give_up_at = loop.time() + DEADLINE_S
    while not condition():
        assert loop.time() < give_up_at, f"not within {DEADLINE_S} s: {what}"
        await asyncio.sleep(0.01)


@dataclass
class Request:
    """One request as an upstream got it."""

    line: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Upstream:
    """A node's stand-in: answers what `answer` says; None resets the connection after reading the request."""

    answer: Callable[[Request], bytes | None]
    port: int = field(default_factory=free_port)
    seen: list[Request] = field(default_factory=list)
    _server: asyncio.Server | None = None
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, backlog=1024)

    def die(self) -> None:
        """As SIGKILL would: nobody listens, every open connection is reset."""
        if self._server is not None:
            self._server.close()
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while True:
                request = await read_request(reader)
                self.seen.append(request)
                reply = self.answer(request)
                if reply is None:
                    writer.transport.abort()
                    return
                writer.write(reply)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()


async def read_request(reader: asyncio.StreamReader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:-2])}
    return Request(head[0], headers, await reader.readexactly(int(headers.get("content-length", "0"))))


def reply(status: int, body: bytes = b"", *headers: str) -> bytes:
    extra = "".join(f"{header}\r\n" for header in headers)
    length = "" if status == 204 else f"Content-Length: {len(body)}\r\n"
    return f"HTTP/1.1 {status} Said\r\n{length}{extra}\r\n".encode() + body


def always(answer: bytes | None) -> Callable[[Request], bytes | None]:
    return lambda _: answer


class Members:
    """A registry of this test's own: its view is a list of urls; None means it cannot be reached."""

    def __init__(self, *urls: str) -> None:
        self.urls: list[str] | None = list(urls)

    async def view(self) -> View:
        if self.urls is None:
            raise RegistryUnavailable("the registry cannot be reached")
        members = (Member(f"m{i}", f"m{i}", url, url, 1, "ready") for i, url in enumerate(self.urls))
        return View(epoch=1, members=tuple(members))


@dataclass
class Front:
    """A running nginx, its balancer and a client."""

    balancer: Balancer
    members: Members
    client: aiohttp.ClientSession

    def url(self, path: str = "/increment") -> URL:
        return URL(f"http://127.0.0.1:{self.balancer.port}{path}", encoded=True)

    async def post(self, body: bytes = b'{"key":"a","value":1}', **headers: str) -> tuple[int, bytes]:
        given = {"Content-Type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}}
        async with self.client.post(self.url(), data=body, headers=given) as answer:
            return answer.status, await answer.read()

    async def raw(self, request: bytes) -> tuple[bytes, bytes]:
        """Head and body of the answer to bytes sent as they are, on a connection of their own."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.balancer.port)
        writer.write(request)
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), DEADLINE_S)
        length = re.search(rb"(?i)content-length: (\d+)", head)
        body = await reader.readexactly(int(length[1]) if length else 0)
        writer.close()
        return head, body

    async def kept_open(self) -> bool:
        """Whether the answer to a POST lets its connection be used again."""
        async with self.client.post(self.url(), data=b"{}") as answer:
            assert answer.status == 204
            return answer.headers.get("Connection") != "close"

    def announce(self) -> None:
        """What the balancer does before a reload."""
        Path((self.balancer.directory / "closing.conf").read_text().split('"')[3]).touch()

    async def reaches(self, *upstreams: Upstream) -> None:
        """Wait until nginx passes requests to each of these."""
        for upstream in upstreams:
            seen = len(upstream.seen)
            give_up_at = asyncio.get_running_loop().time() + DEADLINE_S
            while len(upstream.seen) == seen:
                assert asyncio.get_running_loop().time() < give_up_at, "nginx does not use an upstream"
                await self.post()
                await asyncio.sleep(0.01)


@asynccontextmanager
async def front(directory: Path, *urls: str, announce_ms: int = 1000) -> AsyncIterator[Front]:
    assert NGINX is not None
    balancer = Balancer(directory / "nginx", free_port(), Path(NGINX), host="127.0.0.1", announce_ms=announce_ms)
    balancer.prepare()
    with (directory / "nginx.log").open("wb") as errors:
        process = await asyncio.create_subprocess_exec(*balancer.command(), stdout=errors, stderr=errors)
    members = Members(*urls)
    following = asyncio.create_task(balancer.follow(members, interval_ms=50))
    connector = aiohttp.TCPConnector(limit=200)
    try:
        await until(lambda: balancer.pid == process.pid, "nginx runs")
        async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as client:
            yield Front(balancer, members, client)
    finally:
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(process.wait(), DEADLINE_S)


@asynccontextmanager
async def upstream(answer: Callable[[Request], bytes | None] | None = None) -> AsyncIterator[Upstream]:
    made = Upstream(answer or always(reply(204)))
    await made.start()
    try:
        yield made
    finally:
        made.die()


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
        await until(lambda: node.url[7:] in (nginx.balancer.directory / "upstreams.conf").read_text(), "member")
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
        assert await nginx.kept_open()
        give_up_at = asyncio.get_running_loop().time() + DEADLINE_S
        nginx.announce()
        while await nginx.kept_open():  # the workers of a reload just before may still be starting
            assert asyncio.get_running_loop().time() < give_up_at, "no answer asks to close"
            nginx.announce()
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


def refused(answer: tuple[int, bytes]) -> Any:
    status, body = answer
    assert status == 503
    return json.loads(body)["error"]


async def test_without_members_the_answer_is_503_and_says_nothing_was_counted(tmp_path: Path) -> None:
    async with front(tmp_path) as nginx:
        async with nginx.client.post(nginx.url(), data=b"{}") as answer:
            assert answer.headers["Retry-After"] == "1"
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


@dataclass
class Load:
    """A client that keeps its connections alive and retries nothing, like most clients."""

    nginx: Front
    ok: int = 0
    failures: list[str] = field(default_factory=list)

    async def _one(self) -> None:
        try:
            status, body = await self.nginx.post()
        except aiohttp.ClientError as error:
            self.failures.append(repr(error))
        else:
            self.ok += status == 204
            if status != 204:
                self.failures.append(f"{status} {body!r}")

    async def run(self, rate: int, stop: asyncio.Event) -> None:
        """Open loop: sends at its times, whatever the answers do."""
        loop, sent, began = asyncio.get_running_loop(), 0, asyncio.get_running_loop().time()
        async with asyncio.TaskGroup() as tasks:
            while not stop.is_set():
                while sent < (loop.time() - began) * rate:
                    tasks.create_task(self._one())
                    sent += 1
                await asyncio.sleep(0.002)


async def under_load(nginx: Front, rate: int, story: Callable[[], Any]) -> Load:
    load, stop = Load(nginx), asyncio.Event()
    running = asyncio.create_task(load.run(rate, stop))
    try:
        await story()
    finally:
        stop.set()
        await running
    return load


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


async def joined(node: Upstream) -> None:
    seen = len(node.seen)
    await until(lambda: len(node.seen) > seen + 10, "a member that joined gets requests")


async def left(node: Upstream) -> None:
    """Wait until it gets no request for half a second."""
    seen = -1
    give_up_at = asyncio.get_running_loop().time() + DEADLINE_S
    while seen != len(node.seen):
        assert asyncio.get_running_loop().time() < give_up_at, "a member that left still gets requests"
        seen = len(node.seen)
        await asyncio.sleep(0.5)


async def test_a_registry_out_of_reach_leaves_the_upstreams_as_they_are(tmp_path: Path) -> None:
    async with upstream() as node, front(tmp_path, node.url) as nginx:
        await nginx.reaches(node)
        before = (nginx.balancer.directory / "upstreams.conf").read_text()
        nginx.members.urls = None
        await asyncio.sleep(0.5)  # ten looks
        assert (nginx.balancer.directory / "upstreams.conf").read_text() == before
        assert (await nginx.post())[0] == 204


async def test_upstreams_that_nginx_refuses_are_undone_and_a_good_view_is_taken_later(tmp_path: Path) -> None:
    async with upstream() as node, upstream() as other, front(tmp_path, node.url) as nginx:
        await nginx.reaches(node)
        nginx.members.urls = [node.url, "http://no-such-host.invalid:80"]
        await asyncio.sleep(1.0)
        assert (await nginx.post())[0] == 204
        nginx.members.urls = [node.url, other.url]
        await nginx.reaches(other)
