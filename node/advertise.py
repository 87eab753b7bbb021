"""Where others reach this node. On a machine with several networks the right address is found by a name.

The name (an alias in a compose file) stands for every node of the service, on the one network that their proxy is on:
of its addresses, the node's own is the one that it can bind. It changes when the network is taken away and given back.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable

log = logging.getLogger(__name__)

LOOK_S = 1.0


Where = tuple[str, int]  # host and port that a listener is bound to


def url_of(listener: Where, advertised: str, scheme: str = "http") -> str:
    """scheme://host:port of a listener; `advertised` empty = its own address, or for any address the host name's."""
    host, port = listener
    host = advertised or (socket.gethostbyname(socket.gethostname()) if host in ("0.0.0.0", "::") else host)
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


async def own_address(alias: str) -> str | None:
    """This machine's address among those of the name; None when it has none there now."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(alias, None, type=socket.SOCK_DGRAM)
    except OSError:
        return None
    hosts = ((family, str(where[0])) for family, _, _, _, where in found)
    return next((host for family, host in hosts if _is_ours(family, host)), None)


def _is_ours(family: int, host: str) -> bool:
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((host, 0))
        except OSError:
            return False
    return True


async def first_address(alias: str) -> str:
    """Waits until there is one: a container may start before it is on the network."""
    warned = False
    while (address := await own_address(alias)) is None:
        if not warned:
            log.warning("waiting for an address of this machine under the name %s", alias)
        warned = True
        await asyncio.sleep(LOOK_S)
    return address


async def follow(alias: str, now: str, moved: Callable[[str], Awaitable[None]]) -> None:
    """Tells every new address, until cancelled. Without one there is nothing to tell: the last one stays."""
    while True:
        await asyncio.sleep(LOOK_S)
        address = await own_address(alias)
        if address not in (None, now):
            log.info("reached at %s from now on, no longer at %s", address, now)
            now = address
            await moved(now)
