"""Which addresses nginx is to have, as text and by the view. Pure.

The view is Redis' word, and a Redis that was away, or was flushed, has forgotten members that are well: their leases
ran out there, and each is back with its next beat. So whoever is gone without having said so (`draining`), and not
alone, stays for `patience_s`; the same for whoever is gone when nobody is left, or when the look before failed. If
they did die, nginx passes over them meanwhile, and answers 503 itself when none is left.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from urllib.parse import urlsplit

from cluster.view import View

MAX_MEMBERS = 1024
KEEPALIVE = 64  # idle connections to nodes, for each nginx worker

_NAME = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?:\.(?!-)[A-Za-z0-9-]{1,63}){0,8}")


def address(url: str) -> str | None:
    """`host:port` of a member's url, or None when it is anything but http://host:port.

    The registry is data: whoever can write to Redis must not be able to write nginx configuration.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return None
    shown = f"[{host}]" if ":" in host else host
    if port is None or not 1 <= port <= 65535 or url.rstrip("/").lower() != f"http://{shown}:{port}":
        return None
    if ":" in host:
        try:
            if ipaddress.IPv6Address(host).scope_id is not None:
                return None
        except ValueError:
            return None
        return f"{shown}:{port}"
    return f"{host}:{port}" if _NAME.fullmatch(host) else None


def addresses(view: View) -> tuple[str, ...]:
    """Where the ready members listen: valid ones only, each once, sorted, at most MAX_MEMBERS."""
    found = {where for member in view.ready if (where := address(member.url)) is not None}
    return tuple(sorted(found)[:MAX_MEMBERS])


def text_of(servers: Iterable[str]) -> str:
    """The text of upstreams.conf. Without a server nginx answers 503 itself."""
    lines = [f"    server {server} max_fails=0;" for server in servers]
    after = [] if lines else ["keepalive_timeout 0;"]  # of clients
    lines = lines or ["    server 127.0.0.1:1 down;  # no member is ready"]
    return "\n".join(
        ["upstream tally {", "    zone tally 256k;", *lines, f"    keepalive {KEEPALIVE};", "}", *after, ""]
    )


def servers_of(text: str) -> tuple[str, ...]:
    """The servers of such a text."""
    return tuple(re.findall(r"server (\S+) max_fails", text))


NOBODY = text_of(())


def gone(told: Iterable[str], view: View) -> set[str]:
    """Those among `told`, which nginx has, that are no members any more: who leaves in good order still is one."""
    return set(told) - {address(member.url) for member in view.members}


class Patience:
    """Who is to be in nginx at each look; remembers since when those are gone that it keeps there."""

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._gone_since: dict[str, float] = {}
        self._doubtful = False  # whether those who are gone may only be forgotten

    def look_failed(self) -> None:
        self._doubtful = True

    def servers(self, told: Iterable[str], view: View, now: float) -> tuple[str, ...]:
        """The ready members, and those among `told`, which nginx has, that may only be forgotten. Sorted."""
        ready, missing = addresses(view), gone(told, view)
        self._doubtful = bool(missing) and (self._doubtful or len(missing) > 1 or not ready)
        self._gone_since = {each: self._gone_since.get(each, now) for each in missing}
        kept = (each for each, since in self._gone_since.items() if now - since < self._patience_s)
        return tuple(sorted({*ready, *kept})[:MAX_MEMBERS]) if self._doubtful else ready
