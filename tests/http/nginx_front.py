"""For tests: a real nginx with its balancer, small upstreams behind it and a client in front of it."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from yarl import URL

from cluster.attack.load import KEEP_ALIVE_S
from cluster.balancer import PATIENCE_MS, Balancer
from cluster.errors import RegistryUnavailable
from cluster.view import Member, View

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
DEADLINE_S = 10.0


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
        self.looks = 0

    async def become(self, *urls: str) -> None:
        """These, for so many looks that the balancer has surely acted upon them."""
        self.urls, looks = list(urls), self.looks
        await until(lambda: self.looks > looks + 5, "the balancer looks")

    async def view(self) -> View:
        self.looks += 1
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
        async with asyncio.timeout(DEADLINE_S):
            head = await reader.readuntil(b"\r\n\r\n")
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
async def front(directory: Path, *urls: str, patience_ms: int = PATIENCE_MS) -> AsyncIterator[Front]:
    assert NGINX is not None
    balancer = Balancer(directory / "nginx", free_port(), Path(NGINX), host="127.0.0.1", patience_ms=patience_ms)
    balancer.prepare()
    with (directory / "nginx.log").open("wb") as errors:
        process = await asyncio.create_subprocess_exec(*balancer.command(), stdout=errors, stderr=errors)
    members = Members(*urls)
    following = asyncio.create_task(balancer.follow(members, interval_ms=50))
    connector = aiohttp.TCPConnector(limit=200, keepalive_timeout=KEEP_ALIVE_S)
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
        async with asyncio.timeout(DEADLINE_S):
            await process.wait()


@asynccontextmanager
async def upstream(answer: Callable[[Request], bytes | None] | None = None) -> AsyncIterator[Upstream]:
    made = Upstream(answer or always(reply(204)))
    await made.start()
    try:
        yield made
    finally:
        made.die()


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
