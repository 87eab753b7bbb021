"""API tokens: who may do what, in which namespaces. Pure; `guard.py` keeps them.

A token is 32 random bytes as text. A node is never given one, only its SHA-256: a line for each, of

    <SHA-256 in hex> <scopes> <namespaces> [name]        # read,increment billing,default billing-service

with `*` for every namespace. Two lines may stand for one client, while it goes over to a new token.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from hmac import compare_digest
from typing import Any, Literal, NamedTuple, cast, get_args

from node.errors import Forbidden, Unauthorized
from node.increment import DEFAULT_NAMESPACE, valid_namespace

Scope = Literal["read", "increment", "write", "admin"]
INCLUDED: dict[Scope, frozenset[Scope]] = {  # what else each may
    "read": frozenset(("read",)),
    "increment": frozenset(("increment",)),
    "write": frozenset(("increment", "write")),  # and take off: resets
    "admin": frozenset(get_args(Scope)),
}
ALL = "*"  # every namespace, those to come too
TOKENS_MAX = 1000
TOKEN_BYTES = 32
PREFIX = "tally_"  # so that a scanner of sources finds one that was left there
OPEN = ("/livez", "/readyz", "/openapi.json")  # for who has no token: a proxy, an orchestrator, a reader of manuals

_BEARER = re.compile(r"[Bb][Ee][Aa][Rr][Ee][Rr] +([A-Za-z0-9._~+/-]{1,255}=*) *")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_NAMESPACE_OF_RULE = re.compile(r"/(?:v1|namespaces)/<(?:\w+:)?(\w+)>")


class Need(NamedTuple):
    """What a request needs: a scope (None: any token will do) in a namespace, or in ALL."""

    scope: Scope | None
    namespace: str


Needed = Callable[[str | None, str, Mapping[str, Any]], Need | None]

SEED_POST = Need("increment", DEFAULT_NAMESPACE)
SEED_GET = Need("read", DEFAULT_NAMESPACE)
ANY = Need(None, DEFAULT_NAMESPACE)


class Token(NamedTuple):
    """What is known of one."""

    digest: bytes
    scopes: frozenset[Scope]  # with those included
    namespaces: frozenset[str]
    name: str

    def may(self, need: Need) -> bool:
        if need.scope is None:
            return True
        return need.scope in self.scopes and (ALL in self.namespaces or need.namespace in self.namespaces)


class Tokens:
    """Those that are valid."""

    def __init__(self, tokens: Iterable[Token]) -> None:
        self._by_first_byte: dict[int, list[Token]] = {}
        for token in tokens:
            self._by_first_byte.setdefault(token.digest[0], []).append(token)

    def check(self, authorization: str | None, need: Need) -> None:
        """`authorization` is the header's value. Errors: Unauthorized, Forbidden."""
        if not self._find(authorization).may(need):
            where = "in every namespace" if need.namespace == ALL else f"in the namespace {need.namespace}"
            raise Forbidden(f"This needs a token with the scope {need.scope} {where}.")

    def _find(self, authorization: str | None) -> Token:
        bearer = _BEARER.fullmatch(authorization) if authorization else None
        if bearer is None:
            raise Unauthorized
        digest, found = digest_of(bearer[1]), None
        for token in self._by_first_byte.get(digest[0], ()):
            if compare_digest(token.digest, digest):
                found = token
        if found is None:
            raise Unauthorized
        return found


def new_token() -> str:
    return PREFIX + secrets.token_urlsafe(TOKEN_BYTES)


def digest_of(token: str) -> bytes:
    """One fast hash is enough: nobody guesses 32 random bytes."""
    return sha256(token.encode()).digest()


def line_of(token: str, scopes: Iterable[str], namespaces: Iterable[str], name: str = "") -> str:
    """The line to keep. Errors: ValueError, BadRequest for what `parse_tokens` would not take."""
    line = " ".join(filter(None, (digest_of(token).hex(), ",".join(scopes), ",".join(namespaces), name)))
    _token(line)
    return line


def parse_tokens(text: str) -> list[Token]:
    """A line each, or more in one with `;` between. Errors: ValueError, which names the line and not what is in it."""
    tokens = []
    for number, line in enumerate(re.split(r"[\n;]", text), 1):
        if line.split("#")[0].strip():
            try:
                tokens.append(_token(line.split("#")[0]))
            except Exception as error:
                raise ValueError(f"line {number}: {error}") from None
    if not 1 <= len(tokens) <= TOKENS_MAX:
        raise ValueError(f"{len(tokens)} tokens; 1 to {TOKENS_MAX} are needed")
    return tokens


def _token(line: str) -> Token:
    parts = line.split()
    if not 3 <= len(parts) <= 4:
        raise ValueError("a SHA-256, scopes, namespaces (or *) and, if you like, a name without spaces are needed")
    digest, scopes, namespaces, *name = parts
    if not _DIGEST.fullmatch(digest):
        raise ValueError("it does not begin with a SHA-256 in 64 hex digits; `python3 -m cluster token` makes a line")
    if set(scopes.split(",")) - set(INCLUDED):
        raise ValueError(f"its scopes are not some of {', '.join(INCLUDED)}, with a comma between")
    given = cast("list[Scope]", scopes.split(","))
    included = frozenset[Scope]().union(*(INCLUDED[scope] for scope in given))
    within = frozenset(each if each == ALL else valid_namespace(each) for each in namespaces.split(","))
    return Token(bytes.fromhex(digest), included, within, "".join(name))


def needed_by_public(rule: str | None, method: str, arguments: Mapping[str, Any]) -> Need | None:
    """What the public listener asks of who matches a route's `rule`; None: nothing. A route that is not known here is
    for those who may everything.
    """
    if rule is None or rule in OPEN:
        return None if rule else ANY  # no such route: only who has a token is told so
    if rule == "/increment" or rule.startswith("/increment/<"):
        return SEED_GET if _reads(method) else SEED_POST
    namespace = _namespace(rule, arguments)
    if _reads(method) or rule.endswith("/counters/read"):
        return Need("read", namespace)
    return Need("increment" if rule.endswith(("/increments", "/increments/batch")) else "write", namespace)


def needed_by_operations(rule: str | None, method: str, arguments: Mapping[str, Any]) -> Need | None:
    """What the operations listener asks likewise: who may read every namespace may look at everything."""
    if rule is None or rule in OPEN:
        return None if rule else ANY
    return Need("read" if _reads(method) else "admin", _namespace(rule, arguments))


def _namespace(rule: str, arguments: Mapping[str, Any]) -> str:
    named = _NAMESPACE_OF_RULE.match(rule)
    return str(arguments[named[1]]) if named else ALL


def _reads(method: str) -> bool:
    return method in ("GET", "HEAD", "OPTIONS")
