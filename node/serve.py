"""The listeners: sockets, and the servers on them. The only module that knows which servers there are.

Both servers are run inside our loop, without their signal handlers: when to stop is the node's decision (see node.py).
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import uvicorn
from hypercorn.asyncio import serve as hypercorn_serve
from hypercorn.config import Config as HypercornConfig

from node.advertise import Where, url_of
from node.config import Config
from node.errors import Misconfigured
from node.protocol import LimitedProtocol

BACKLOG = 2048
KEEP_ALIVE_S = 75  # longer than nginx keeps an idle connection, so that nginx closes it first


def listen(host: str, port: int, shared: bool = False) -> socket.socket:
    """A listening TCP socket. `shared` ports are listened on by several processes, between which the kernel balances.

    Errors: OSError, naming the address.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise OSError(error.errno, f"{error.strerror} ({host}:{port}); choose another port") from error
    return listener


class Sockets:
    """A node's listening sockets, open from the first moment and closed at the last."""

    def __init__(self, config: Config) -> None:
        self.public = [listen(config.host, config.port)]
        self.operations = listen(config.ops_host, config.ops_port)
        if config.shared_port:
            self.public.append(listen(config.host, config.shared_port, shared=True))
        # Noted now: a server may take a socket over, and then it can be asked no more.
        self._bound: list[Where] = [each.getsockname()[:2] for each in (self.public[0], self.operations)]
        self._schemes = ["https" if cert else "http" for cert in (config.tls_cert, config.ops_tls_cert)]

    def __enter__(self) -> Sockets:
        return self

    def __exit__(self, *_: object) -> None:
        for listener in (*self.public, self.operations):
            listener.close()

    def urls(self, host: str) -> tuple[str, str]:
        """Of the public listener and of the operations listener, for others; `host` empty = the listeners' own."""
        public, operations = (url_of(at, host, scheme) for at, scheme in zip(self._bound, self._schemes, strict=True))
        return public, operations


class Tls(NamedTuple):
    """Two PEM files."""

    cert: str
    key: str

    @classmethod
    def of(cls, cert: str, key: str) -> Tls | None:
        """None for none. Errors: Misconfigured when they cannot be used: better now than at the first client."""
        if not cert:
            return None
        try:
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(cert, key, password=_unknown)
        except (OSError, ValueError) as error:  # an SSLError is an OSError
            raise Misconfigured(f"TLS cannot be spoken with {cert} and {key}: {error}") from error
        return cls(cert, key)


def _unknown() -> str:
    raise ValueError("a key without a passphrase is needed")


class Server(Protocol):
    """A server on sockets of its own, in our loop."""

    async def run(self) -> None:
        """Serves until `stop`; then finishes what is in flight, and returns."""
        ...

    def stop(self) -> None: ...


class Uvicorn(uvicorn.Server):
    """uvicorn on given sockets; `protocol` makes the protocol of each connection."""

    def __init__(
        self, app: Any, sockets: Sequence[socket.socket], protocol: Any = LimitedProtocol, tls: Tls | None = None
    ) -> None:
        config = uvicorn.Config(
            app,
            http=protocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            access_log=False,
            log_config=None,
            log_level="warning",
            proxy_headers=False,
            server_header=False,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_S,
            ssl_certfile=tls and tls.cert,
            ssl_keyfile=tls and tls.key,
        )
        super().__init__(config)
        self._sockets = list(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def run(self) -> None:  # type: ignore[override]
        """When it is cancelled, too, it listens no more: uvloop cannot be closed while clients go on connecting."""
        try:
            await self.serve(self._sockets)
        finally:
            for server in getattr(self, "servers", ()):
                server.close()

    def stop(self) -> None:
        self.should_exit = True


class Hypercorn:
    """Hypercorn on given sockets."""

    def __init__(self, app: Any, sockets: Sequence[socket.socket], tls: Tls | None = None) -> None:
        self._app = app
        self._stop = asyncio.Event()
        self._config = HypercornConfig()
        self._config.bind = [f"fd://{listener.detach()}" for listener in sockets]
        self._config.keep_alive_timeout = KEEP_ALIVE_S
        self._config.include_server_header = False
        self._config.accesslog = None
        self._config.errorlog = None
        self._config.graceful_timeout = 1.0
        if tls is not None:
            self._config.certfile, self._config.keyfile = tls

    async def run(self) -> None:
        await hypercorn_serve(self._app, self._config, shutdown_trigger=self._stop.wait)

    def stop(self) -> None:
        self._stop.set()
