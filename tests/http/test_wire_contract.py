"""The wire contract, byte for byte, of a real node and of the same node behind nginx."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.http.client import FORM, PROXY, STRANGER, Front, increment, post, request

pytestmark = [pytest.mark.redis, pytest.mark.postgres]

NOT_FOUND = b'{"error":{"message":"Not Found."}}'
BAD_REQUEST = b'{"error":{"message":"Bad Request."}}'
TOO_MANY = b'{"error":{"message":"Too Many Requests"}}'


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
    assert int(answer.headers["retry-after"]) == 120
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


async def test_an_encoded_slash_does_not_make_a_route(front: Front) -> None:
    key = f"2Fencoded {front.name}"
    assert (await front.add(key)).status == 204
    for target in (f"/increment%{key}", f"/%69ncrement%{key}"):
        assert (await front.ask(request("GET", target.replace(" ", "%20")))).status == 404, target
