"""The wire contract, byte for byte, of a real node and of the same node behind nginx."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from tests.http.client import CLOSED, FORM, PROXY, STRANGER, Connection, Front, increment, post, request

pytestmark = [pytest.mark.redis, pytest.mark.postgres]

NOT_FOUND = b'{"error":{"message":"Not Found."}}'
BAD_REQUEST = b'{"error":{"message":"Bad Request."}}'
TOO_MANY = b'{"error":{"message":"Too Many Requests"}}'


@pytest.fixture
def key(front: Front, request: pytest.FixtureRequest) -> str:
    """One that nothing else uses."""
    return request.node.name


async def read(front: Front, target: str) -> bytes:
    answer = await front.ask(request("GET", target))
    return answer.body if answer.status == 200 else b"%d" % answer.status


async def test_an_increment_is_answered_204_and_nothing_else(front: Front, key: str) -> None:
    answer = await front.add(key, 3)
    assert (answer.status, answer.body) == (204, b"")
    assert "content-type" not in answer.headers
    assert "content-length" not in answer.headers  # RFC 9110, 8.6
    assert "transfer-encoding" not in answer.headers
    assert "idempotent-replayed" not in answer.headers
    assert await front.value(key) == 3


async def test_a_value_just_acknowledged_is_read(front: Front, key: str) -> None:
    async with front.connect() as writing, front.connect() as reading:
        for count in range(1, 30):
            assert (await writing.ask(post(increment("just acknowledged " + front.name)))).status == 204
            front.ledger.count("just acknowledged " + front.name, 1)
            answer = await reading.ask(request("GET", "/increment/just%20acknowledged%20" + front.name))
            assert answer.body == b'{"just acknowledged %s":%d}' % (front.name.encode(), count)


async def test_the_value_is_json_with_the_key_as_its_name(front: Front) -> None:
    key = f'"quoted" \\ é 🙂 {front.name}'
    await front.add(key, 2**53 - 1)
    answer = await front.ask(request("GET", f"/increment/%22quoted%22%20%5C%20%C3%A9%20%F0%9F%99%82%20{front.name}"))
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert json.loads(answer.body) == {key: 2**53 - 1}
    assert int(answer.headers["content-length"]) == len(answer.body)


async def test_the_seeds_errors_have_the_seeds_bytes(front: Front) -> None:
    answer = await front.ask(request("GET", "/increment/unknown"))
    assert (answer.status, answer.body) == (404, NOT_FOUND)
    for bad in (b"{}", b'{"key":"a"}', b'{"key":"a","value":-1}', b'{"key":"","value":1}', b'{"key":"a","value":"1"}'):
        answer = await front.ask(post(bad))
        assert (answer.status, answer.body) == (400, BAD_REQUEST)
        assert answer.headers["content-type"] == "application/json"


async def test_form_and_json_count_alike(front: Front, key: str) -> None:
    await front.add(key, 2)
    body = f"key={key.replace('[', '%5B').replace(']', '%5D')}&value=3".encode()
    assert (await front.ask(post(body, FORM))).status == 204
    front.ledger.count(key, 3)
    assert await front.value(key) == 5


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("hello%20world", "hello world"),
        ("a%2Fb", "a/b"),
        ("a/b", "a/b"),
        ("a%2fb/", "a/b/"),
        ("/a", "/a"),
        ("a//b", "a//b"),
        ("a%2F%2Fb", "a//b"),
        ("%2e%2e", ".."),
        ("%2E", "."),
        ("...", "..."),
        ("a%2F..%2Fb", "a/../b"),
        ("%F0%9F%99%82", "🙂"),
        ("%e2%82%ac", "€"),
        ("%C3%A9", "é"),
        ("e%CC%81", "e\u0301"),
        ("a+b", "a+b"),
        ("a%2Bb", "a+b"),
        ("a%25b", "a%b"),
        ("%2541", "%41"),
        ("%41", "A"),
        ("a%3Fb", "a?b"),
        ("a%23b", "a#b"),
        ("a?b=c", "a"),
        ("%0D%0AX-Injected:%20yes", "\r\nX-Injected: yes"),
        ("%0A", "\n"),
        ("a%0Ab", "a\nb"),
        ("%EF%BB%BF", "\ufeff"),
        ("'%22%3Cb%3E", "'\"<b>"),
    ],
)
async def test_a_path_names_the_key_it_decodes_to_once(front: Front, path: str, key: str) -> None:
    await front.add(key)
    answer = await front.ask(request("GET", f"/increment/{path}"))
    assert answer.status == 200
    assert json.loads(answer.body) == {key: front.ledger.counts[key]}
    assert "x-injected" not in answer.headers


async def test_bytes_that_are_no_utf8_are_never_one_key(front: Front) -> None:
    await front.add("\ufffd")
    for path in ("%FF", "%FE", "%ED%A0%80", "%C0%AF"):
        assert await read(front, f"/increment/{path}") == b"400"
    assert await read(front, "/increment/%EF%BF%BD") == b'{"\xef\xbf\xbd":%d}' % front.ledger.counts["\ufffd"]


# --- idempotency keys -------------------------------------------------------------------------------------------------


async def test_a_repeat_is_answered_the_same_and_counts_once(front: Front, key: str) -> None:
    first = await front.add(key, 3, Idempotency_Key="one")
    assert "idempotent-replayed" not in first.headers
    for _ in range(3):
        again = await front.add(key, 3, Idempotency_Key="one")
        assert (again.status, again.body, again.headers["idempotent-replayed"]) == (204, b"", "true")
    assert await front.value(key) == 3


async def test_quoted_bare_and_in_the_body_are_one_idempotency_key(front: Front, key: str) -> None:
    await front.add(key, 3, Idempotency_Key='"a b\\"c"')
    for data in (
        post(increment(key, 3), Idempotency_Key='a b"c'),
        post(increment(key, 3, idempotency_key='a b"c')),
        post(increment(key, 3, idempotency_key='a b"c'), Idempotency_Key='"a b\\"c"'),
    ):
        answer = await front.ask(data)
        assert (answer.status, answer.headers["idempotent-replayed"]) == (204, "true")
    assert await front.value(key) == 3


async def test_an_idempotency_key_in_a_form_is_one_too(front: Front) -> None:
    key = f"form id {front.name}"
    await front.add(key, 3, Idempotency_Key="one")
    answer = await front.ask(post(f"key={key}&value=3&idempotency_key=one".encode(), FORM))
    assert (answer.status, answer.headers["idempotent-replayed"]) == (204, "true")
    assert await front.value(key) == 3


async def test_an_idempotency_key_with_another_value_is_422_and_changes_nothing(front: Front, key: str) -> None:
    await front.add(key, 3, Idempotency_Key="one")
    answer = await front.add(key, 4, Idempotency_Key="one")
    assert answer.status == 422
    assert "nothing was counted" in answer.error["message"]
    assert await front.value(key) == 3
    assert "idempotent-replayed" in (await front.add(key, 3, Idempotency_Key="one")).headers
    assert await front.value(key) == 3


async def test_two_different_idempotency_keys_are_a_bad_request(front: Front, key: str) -> None:
    answer = await front.ask(post(increment(key, 3, idempotency_key="b"), Idempotency_Key="a"))
    assert (answer.status, answer.body) == (400, BAD_REQUEST)
    assert await front.value(key) is None


async def test_one_id_counts_once_on_each_of_several_counters(front: Front, key: str) -> None:
    for name in (key, key + "2"):
        assert "idempotent-replayed" not in (await front.add(name, 3, Idempotency_Key="one")).headers
        assert await front.value(name) == 3


async def test_an_id_tried_many_times_at_once_counts_once(front: Front, key: str) -> None:
    answers = await asyncio.gather(*(front.ask(post(increment(key, 5), Idempotency_Key="storm")) for _ in range(30)))
    front.ledger.count(key, 5)
    assert {answer.status for answer in answers} == {204}
    assert sum("idempotent-replayed" not in answer.headers for answer in answers) == 1
    assert await front.value(key) == 5


# --- proxies ----------------------------------------------------------------------------------------------------------


async def test_a_proxys_own_retry_counts_once_and_its_client_is_told_nothing(node: Front) -> None:
    for _ in range(3):
        answer = await node.ask(post(increment("proxied", 7), X_Request_ID="r-1"), PROXY)
        assert (answer.status, answer.body) == (204, b"")
        assert "idempotent-replayed" not in answer.headers
    node.ledger.count("proxied", 7)
    assert await node.value("proxied") == 7


async def test_a_strangers_request_id_means_nothing(node: Front) -> None:
    for _ in range(3):
        await node.add("stranger", 7, STRANGER, X_Request_ID="r-1")
    assert await node.value("stranger") == 21


async def test_a_clients_request_id_through_nginx_means_nothing(front: Front, key: str) -> None:
    for _ in range(2):
        await front.add(key, 7, X_Request_ID="mine")
    assert await front.value(key) == 14


async def test_over_the_limit_is_429_with_the_seeds_bytes_and_counts_nothing(limited: Front) -> None:
    for _ in range(5):
        assert (await limited.add("limited")).status == 204
    answer = await limited.add("limited")
    assert (answer.status, answer.body) == (429, TOO_MANY)
    assert answer.headers["content-type"] == "application/json"
    assert 1 <= int(answer.headers["retry-after"]) <= 5
    assert await limited.value("limited") == 5, "another path has its own limit"


async def test_the_limit_is_the_clients_as_the_trusted_proxy_names_it(limited: Front) -> None:
    for client in ("203.0.113.1", "203.0.113.2"):
        for _ in range(5):
            assert (await limited.add("by proxy", 1, PROXY, X_Real_IP=client)).status == 204
        assert (await limited.add("by proxy", 1, PROXY, X_Real_IP=client)).status == 429


async def test_a_stranger_cannot_evade_the_limit_by_claiming_another_address(limited: Front) -> None:
    statuses = [
        (await limited.add("evader", 1, STRANGER, X_Real_IP=f"203.0.113.{i}", X_Forwarded_For=f"198.51.100.{i}")).status
        for i in range(7)
    ]
    assert statuses == [204] * 5 + [429] * 2


async def test_bad_requests_use_up_the_limit_too(limited: Front) -> None:
    statuses = [(await limited.ask(post(b"{}"), "127.0.0.3")).status for _ in range(6)]
    assert statuses == [400] * 5 + [429]


# --- connections ------------------------------------------------------------------------------------------------------


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
