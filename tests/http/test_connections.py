"""What happens on a connection: order, slowness, departures, and what a client may not do to a node."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from tests.http.client import CLOSED, PROXY, Connection, Front, increment, post, request

pytestmark = [pytest.mark.redis, pytest.mark.postgres]


async def test_pipelined_requests_are_answered_in_their_order(front: Front, key: str) -> None:
    sent = []
    async with front.connect() as connection:
        for i in range(40):
            sent += [
                post(increment(key)),
                request("GET", f"/increment/unknown%20{i}"),
                post(b"{}"),
                request("GET", "/x"),
            ]
        await connection.send(b"".join(sent))
        answers = [(await connection.answer()).status for _ in sent]
    assert answers == [204, 404, 400, 404] * 40
    front.ledger.count(key, 40)
    assert await front.value(key) == 40


async def test_a_broken_request_is_answered_after_those_before_it(front: Front, key: str) -> None:
    async with front.connect() as connection:
        await connection.send(
            post(increment(key)) * 3 + request("GET", "/x") + b"nonsense\r\n\r\n" + post(increment(key))
        )
        statuses = [(await connection.answer()).status for _ in range(5)]
        assert statuses == [204, 204, 204, 404, 400]
        assert await connection.closed()
    front.ledger.count(key, 3)
    assert await front.value(key) == 3


@pytest.mark.parametrize("head", [b"GET /x HTTP/1.1\r\n", b"GET /x HTTP/1.1\r\nHost: a\r\nExpect: x\r\n"])
async def test_a_head_that_is_refused_is_answered_after_the_requests_before_it(node: Front, head: bytes) -> None:
    async with node.connect() as connection:
        await connection.send(post(increment("before a refused head")) + head + b"\r\n")
        assert (await connection.answer()).status == 204
        assert (await connection.answer()).status in (400, 417)
        assert await connection.closed()
    node.ledger.count("before a refused head", 1)


async def test_a_client_that_leaves_before_its_refusal_harms_nobody(node: Front) -> None:
    for _ in range(5):
        async with node.connect() as connection:
            await connection.send(post(increment("a", 0)) * 20 + b"GET /x HTTP/1.1\r\n\r\n")
    node.ledger.count("a", 0)
    assert (await node.add("a")).status == 204


async def test_a_broken_body_is_answered_after_the_requests_before_it(front: Front, key: str) -> None:
    broken = b"POST /increment HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
    async with front.connect() as connection:
        await connection.send(post(increment(key)) + broken)
        assert [(await connection.answer()).status for _ in range(2)] == [204, 400]
        assert await connection.closed()
    front.ledger.count(key, 1)
    assert await front.value(key) == 1


async def test_a_connection_serves_many_requests_good_and_bad(front: Front, key: str) -> None:
    async with front.connect() as connection:
        for _ in range(5):
            assert (await connection.ask(post(increment(key)))).status == 204
            assert (await connection.ask(post(b"\xff"))).status == 400
            assert (await connection.ask(request("PUT", "/increment", b"x"))).status == 405
            assert (await connection.ask(request("HEAD", "/increment/x"))).status == 404
    front.ledger.count(key, 5)
    assert await front.value(key) == 5


async def test_a_request_that_comes_byte_by_byte_is_counted(front: Front, key: str) -> None:
    async with front.connect() as connection:
        for i in range(len(data := post(increment(key), Idempotency_Key='"x"'))):
            await connection.send(data[i : i + 1])
            await asyncio.sleep(0)
        assert (await connection.answer()).status == 204
    front.ledger.count(key, 1)
    assert await front.value(key) == 1


async def test_a_body_follows_once_100_continue_was_said(front: Front, key: str) -> None:
    head, _, body = post(increment(key), Expect="100-continue").partition(b"\r\n\r\n")
    async with front.connect() as connection:
        await connection.send(head + b"\r\n\r\n")
        async with asyncio.timeout(5):
            assert await connection.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert (await connection.ask(body)).status == 204
    front.ledger.count(key, 1)
    assert await front.value(key) == 1


async def test_a_slow_body_does_not_hold_up_others(front: Front, key: str) -> None:
    head, _, body = post(increment(key)).partition(b"\r\n\r\n")
    async with front.connect() as slow:
        await slow.send(head + b"\r\n\r\n" + body[:5])
        began = time.monotonic()
        for _ in range(20):
            await front.add(key)
        assert time.monotonic() - began < 5
        assert await front.value(key) == 20
        assert (await slow.ask(body[5:])).status == 204
    front.ledger.count(key, 1)
    assert await front.value(key) == 21


async def test_a_client_that_leaves_in_the_middle_of_the_body_counts_nothing(front: Front, key: str) -> None:
    data = post(increment(key))
    for end in (5, 60, len(data) - 1):
        async with front.connect() as connection:
            await connection.send(data[:end])
    assert (await front.add(key)).status == 204
    assert await front.value(key) == 1


async def test_a_client_that_leaves_right_after_the_body_is_counted_once_or_not_at_all(front: Front, key: str) -> None:
    for i in range(10):
        name = f"{key} {i}"
        async with front.connect() as connection:
            await connection.send(post(increment(name, 5), Idempotency_Key="once"))
        assert await front.value(name) in (None, 5)
        answer = await front.ask(post(increment(name, 5), Idempotency_Key="once"))
        assert answer.status == 204, "its retry settles the matter"
        front.ledger.count(name, 5)
        assert await front.value(name) == 5


async def test_a_client_that_repeats_without_a_key_counts_twice_if_the_first_had_counted(
    front: Front, key: str
) -> None:
    async with front.connect() as connection:
        await connection.send(post(increment(key, 5)))
        give_up_at = time.monotonic() + 60
        while await front.value(key) != 5:  # it has counted, and the client leaves without its answer
            assert time.monotonic() < give_up_at
            await asyncio.sleep(0.01)
    front.ledger.count(key, 5)
    assert (await front.ask(post(increment(key, 5)))).status == 204
    front.ledger.count(key, 5)
    assert await front.value(key) == 10


async def test_a_trailer_is_no_header(node: Front) -> None:
    body = increment("trailer")
    head = (
        b"POST /increment HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    for _ in range(2):
        data = head + b"%x\r\n%s\r\n0\r\nIdempotency-Key: x\r\nX-Request-ID: x\r\n\r\n" % (len(body), body)
        assert (await node.ask(data, PROXY)).status == 204
    node.ledger.count("trailer", 2)
    assert await node.value("trailer") == 2


async def test_head_is_get_without_a_body(front: Front, key: str) -> None:
    await front.add("head", 5)
    got = await front.ask(request("GET", "/increment/head"))
    head = await front.ask(request("HEAD", "/increment/head"))
    assert (head.status, head.headers["content-length"]) == (200, str(len(got.body)))


async def test_a_method_that_is_not_allowed_is_told_which_are(front: Front) -> None:
    answer = await front.ask(request("DELETE", "/increment"))
    assert answer.status == 405
    assert "POST" in answer.headers["allow"]
    assert answer.error == {"message": "Method Not Allowed."}


async def test_livez_and_readyz_answer_on_the_public_listener(front: Front) -> None:
    for path, status in (("/livez", "alive"), ("/readyz", "ready")):
        answer = await front.ask(request("GET", path))
        assert (answer.status, json.loads(answer.body)["status"]) == (200, status)


# --- what a client may not do to a node -------------------------------------------------------------------------------


async def test_a_head_without_end_is_cut_off(node: Front) -> None:
    for start in (b"GET /increment/x HTTP/1.1\r\nHost: a\r\nX: ", b"GET /", b"", b"x"):
        async with node.connect() as connection:
            await connection.send(start)
            sent = await flood(connection, b"y" * 4096, 40 * 1024 * 1024)
            assert sent < 20 * 1024 * 1024, "most of it was never read"


async def test_trailers_without_end_are_cut_off(node: Front) -> None:
    head = (
        b"POST /increment HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    async with node.connect() as connection:
        await connection.send(head + b"1\r\nx\r\n0\r\nX: ")
        assert await flood(connection, b"y" * 4096, 40 * 1024 * 1024) < 20 * 1024 * 1024


async def test_a_body_of_a_gigabyte_is_refused_and_not_read(node: Front) -> None:
    async with node.connect() as connection:
        await connection.send(b"POST /increment HTTP/1.1\r\nHost: a\r\nContent-Length: 1073741824\r\n\r\n")
        assert (await connection.answer()).status == 413
        assert await flood(connection, b"y" * 65536, 100 * 1024 * 1024) < 50 * 1024 * 1024


async def test_line_breaks_before_a_request_are_borne_but_not_for_ever(node: Front) -> None:
    assert (await node.ask(b"\r\n\r\n" + request("GET", "/increment/x"))).status == 404
    async with node.connect() as connection:
        assert await flood(connection, b"\r\n" * 2048, 40 * 1024 * 1024) < 20 * 1024 * 1024


async def flood(connection: Connection, data: bytes, limit: int) -> int:
    """Sends until the other side closes; how many bytes it took, buffers in between included."""
    sent = 0
    async with asyncio.timeout(15):
        while sent < limit and not connection.writer.is_closing():
            try:
                connection.writer.write(data)
                await connection.writer.drain()
            except ConnectionError:
                break
            sent += len(data)
    return sent


async def test_the_answer_to_an_oversized_head_reaches_a_client_that_is_still_sending(node: Front) -> None:
    data = request("GET", "/increment/x", Cookie="c" * 200_000)
    for _ in range(5):
        answer = await node.ask(data)
        assert answer != CLOSED
        assert (answer.status, answer.error) == (431, {"message": "Request Header Fields Too Large."})
        assert answer.headers["connection"] == "close"
