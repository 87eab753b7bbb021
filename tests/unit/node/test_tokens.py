"""Tokens: what a line says, who may do what, and what each route needs."""

from __future__ import annotations

from typing import get_args

import pytest

from node.errors import Forbidden, Unauthorized
from node.tokens import (
    ALL,
    TOKENS_MAX,
    Need,
    Scope,
    Tokens,
    digest_of,
    line_of,
    needed_by_operations,
    needed_by_public,
    new_token,
    parse_tokens,
)

HASH = "0" * 64


def tokens(*lines: str) -> Tokens:
    return Tokens(parse_tokens("\n".join(lines)))


def may(known: Tokens, token: str, need: Need) -> bool:
    try:
        known.check(f"Bearer {token}", need)
    except Forbidden:
        return False
    return True


@pytest.mark.parametrize("scope", get_args(Scope))
@pytest.mark.parametrize("given", get_args(Scope))
def test_a_scope_includes_those_below_it_and_no_other(given: Scope, scope: Scope) -> None:
    included = {"write": {"increment"}, "admin": {"read", "increment", "write"}}.get(given, set()) | {given}
    known = tokens(line_of("t", [given], ["a"]))
    assert may(known, "t", Need(scope, "a")) == (scope in included)
    assert not may(known, "t", Need(scope, "b"))
    assert not may(known, "t", Need(scope, ALL))
    assert may(known, "t", Need(None, "b"))


def test_a_token_of_every_namespace_may_everywhere() -> None:
    known = tokens(line_of("t", ["read"], [ALL]))
    assert all(may(known, "t", Need("read", namespace)) for namespace in ("a", "default", ALL))
    assert not may(known, "t", Need("increment", "a"))


@pytest.mark.parametrize(
    "authorization",
    [
        *(
            None,
            "",
            "Bearer",
            "Bearer ",
            "Bearer  ",
            "t",
            "Basic t",
            "Bearer x",
            "Bearer t t",
            "Bearer t,",
            "Bearer\tt",
        ),
        *(f"Bearer {HASH}", "Bearer " + "t" * 300, "Bearer t\x00", "Bearer \xe9", f"Bearer {digest_of('t').hex()}"),
    ],
)
def test_anything_but_a_valid_token_is_refused(authorization: str | None) -> None:
    known = tokens(line_of("t", ["admin"], [ALL]))
    with pytest.raises(Unauthorized):
        known.check(authorization, Need(None, "default"))
    known.check("bearer  t", Need("admin", ALL))


def test_many_tokens_are_each_their_own() -> None:
    made = [new_token() for _ in range(TOKENS_MAX)]
    known = tokens(*(line_of(token, ["read"], [f"n{i}"]) for i, token in enumerate(made)))
    for i, token in enumerate(made):
        assert may(known, token, Need("read", f"n{i}"))
        assert not may(known, token, Need("read", f"n{i + 1}"))


def test_two_tokens_may_stand_for_one_client() -> None:
    known = tokens(line_of("old", ["read"], ["a"], "c"), line_of("new", ["read"], ["a"], "c"))
    assert all(may(known, token, Need("read", "a")) for token in ("old", "new"))


def test_lines_comments_and_semicolons() -> None:
    text = f"# who may\n\n  {HASH} read,increment a,b one  # for b, too\n{HASH[1:]}1 admin * ; {HASH[1:]}2 write c\n"
    assert [(token.name, sorted(token.namespaces)) for token in parse_tokens(text)] == [
        ("one", ["a", "b"]),
        ("", ["*"]),
        ("", ["c"]),
    ]


@pytest.mark.parametrize(
    "line",
    [
        *("", "# nothing", HASH, f"{HASH} read", "x read a", f"{HASH[1:]} read a", f"{HASH} reed a", f"{HASH} read, a"),
        *(f"{HASH} read A", f"{HASH} read a,", f"{HASH} read a name name", f"{HASH.replace('0', 'Z')} read a"),
    ],
)
def test_a_bad_line_is_named_and_not_repeated(line: str) -> None:
    with pytest.raises(ValueError, match=r"^(line 2: |0 tokens)") as caught:
        parse_tokens("\n" + line)
    assert HASH[1:] not in str(caught.value)


def test_a_tokens_own_text_is_no_line() -> None:
    """Put there by mistake, it is refused, and not shown in a log."""
    token = new_token()
    with pytest.raises(ValueError, match="line 1") as caught:
        parse_tokens(f"{token} read a")
    assert token not in str(caught.value)


@pytest.mark.parametrize("rule", ["/livez", "/readyz", "/openapi.json"])
def test_health_and_the_manual_are_open(rule: str) -> None:
    assert needed_by_public(rule, "GET", {}) is needed_by_operations(rule, "GET", {}) is None


@pytest.mark.parametrize(
    ("method", "rule", "need"),
    [
        ("POST", "/increment", Need("increment", "default")),
        ("GET", "/increment/<rest:_key>", Need("read", "default")),
        ("POST", "/v1/<name>/increments", Need("increment", "n")),
        ("POST", "/v1/<name>/increments/batch", Need("increment", "n")),
        ("GET", "/v1/<name>/counters/<rest:key>", Need("read", "n")),
        ("HEAD", "/v1/<name>/counters", Need("read", "n")),
        ("POST", "/v1/<string:name>/counters/read", Need("read", "n")),
        ("POST", "/v1/<name>/counters/<path:key>/reset", Need("write", "n")),
        ("POST", "/v1/<name>/reversals", Need("write", "n")),
        ("DELETE", "/v1/<name>/counters/<rest:key>", Need("write", "n")),
        ("POST", "/v1/all", Need("write", ALL)),
        ("GET", "/whatever", Need("read", ALL)),
        ("PATCH", "/whatever", Need("write", ALL)),
        ("GET", None, Need(None, "default")),
        ("POST", None, Need(None, "default")),
    ],
)
def test_what_a_route_of_the_public_listener_needs(method: str, rule: str | None, need: Need) -> None:
    assert needed_by_public(rule, method, {"name": "n", "key": "k"}) == need


@pytest.mark.parametrize(
    ("method", "rule", "need"),
    [
        ("GET", "/cluster", Need("read", ALL)),
        ("GET", "/metrics", Need("read", ALL)),
        ("POST", "/drain", Need("admin", ALL)),
        ("GET", "/namespaces", Need("read", ALL)),
        ("GET", "/namespaces/<name>", Need("read", "n")),
        ("PUT", "/namespaces/<name>", Need("admin", "n")),
        ("GET", None, Need(None, "default")),
    ],
)
def test_what_a_route_of_the_operations_listener_needs(method: str, rule: str | None, need: Need) -> None:
    assert needed_by_operations(rule, method, {"name": "n"}) == need
