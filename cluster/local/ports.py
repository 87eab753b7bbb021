"""Free TCP ports on this machine, the same ones again after a restart where they are still free."""

from __future__ import annotations

import random
import socket
from collections.abc import Mapping

from cluster.local.errors import LocalError

LOW, HIGH = 20_000, 30_000
"""Below the range from which systems take the ports of outgoing connections: a node that restarts must not
find its port taken by some client's connection."""
TRIES = 500


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a server could listen there now. Connections in TIME_WAIT do not matter."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError:
            return False
    return True


class Ports:
    """Gives every part of the cluster its port, by name ("redis", "n1", "n1-ops")."""

    def __init__(self, remembered: Mapping[str, int] | None = None) -> None:
        self.given: dict[str, int] = {}
        self._remembered = dict(remembered or {})

    def take(self, name: str) -> int:
        """A free port for `name`: the one it had before, or another."""
        before = self.given.get(name) or self._remembered.get(name)
        others = {port for other, port in self.given.items() if other != name}
        if before is not None and before not in others and is_free(before):
            return self._give(name, before)
        reserved = others | set(self._remembered.values())
        for _ in range(TRIES):
            port = random.randrange(LOW, HIGH)
            if port not in reserved and is_free(port):
                return self._give(name, port)
        raise LocalError(f"No free TCP port between {LOW} and {HIGH}: end some servers and try again.")

    def to_remember(self) -> dict[str, int]:
        """Everyone's last port, also of those who do not run this time."""
        return self._remembered | self.given

    def take_public(self, wanted: int) -> int:
        """The public port: exactly the wanted one, or any when it is 0. LocalError when it is taken."""
        if wanted == 0:
            return self.take("public")
        if not is_free(wanted, "0.0.0.0"):  # nginx listens on every address
            raise LocalError(f"Port {wanted} is in use: choose another with --port (0 takes any free one).")
        return self._give("public", wanted)

    def _give(self, name: str, port: int) -> int:
        self.given[name] = port
        return port
