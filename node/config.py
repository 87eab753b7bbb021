"""A node's settings: TALLY_* variables over a TOML file over the defaults. Read once, at the start; every bad one is
named.
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import unquote, urlsplit

from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from node.limiter import Rate
from node.points import Point
from node.terms import DEFAULT_STRATEGY, StrategyName
from node.tokens import parse_tokens
from node.watches import WATCHERS_PER_CLIENT_MAX

SCHEMES = {"redis_url": ("redis", "rediss", "unix"), "postgres_dsn": ("postgresql", "postgres")}
SECRET_CHARS_MIN = 6
Port = Annotated[int, Field(ge=0, le=65535)]


class Config(BaseSettings):
    """One node. Times carry their unit in the name."""

    model_config = SettingsConfigDict(env_prefix="TALLY_", frozen=True, extra="forbid", arbitrary_types_allowed=True)

    node: str = Field("node", pattern=r"^[A-Za-z0-9_.-]{1,64}$", description="the operator's name for this node")
    host: str = Field("127.0.0.1", description="the public listener's address")
    port: Port = Field(3333, description="the public listener's port; 0 = any free one")
    shared_port: Port = Field(
        0, description="a port all nodes of this machine listen on together (SO_REUSEPORT); 0 = none"
    )
    ops_host: str = Field("127.0.0.1", description="the operations listener's address; keep it private")
    ops_port: Port = Field(9333, description="the operations listener's port; 0 = any free one")
    advertise_host: str = Field("", description="the address others reach this node by; empty = the listener's")
    advertise_alias: str = Field(
        "", description="a name that has this machine's address on the network of its proxy; then it is advertised"
    )
    server: Literal["uvicorn", "hypercorn"] = Field(
        "uvicorn", description="what serves the public listener; hypercorn: behind a proxy only"
    )
    hot_lane: bool = Field(True, description="whether the two hot routes have their fast entrance (uvicorn only)")

    redis_url: str = Field("redis://127.0.0.1:6379/0", description="registry, ids and open batches")
    postgres_dsn: str = Field("postgresql://127.0.0.1:5432/tally", description="the store of record")
    strategy: StrategyName = Field(
        DEFAULT_STRATEGY, description="how the default namespace counts; fixed when the cluster is founded"
    )
    partitions: int = Field(64, ge=1, le=4096, description="fixed when the cluster is founded")
    flush_interval_ms: int = Field(5000, ge=10, le=3_600_000, description="between two settlings of a partition")
    lease_ms: int = Field(3000, ge=300, le=60_000, description="a member that has not beaten for so long is out")

    deadline_ms: int = Field(
        2000, ge=100, le=60_000, description="a request is answered within it; a proxy in front must wait longer"
    )
    inbox_max: int = Field(50_000, ge=1, description="increments that may wait in the node; more are answered 503")
    idempotency_window_s: int = Field(86_400, ge=60, description="idempotency keys are remembered at least so long")
    request_id_window_s: int = Field(60, ge=10, description="a trusted proxy's request ids likewise")
    rewind_horizon_ms: int = Field(
        15_000, ge=0, description="acknowledged calls are kept so long at least, for a Redis that goes back in time"
    )
    rewind_bytes_max: int = Field(128 * 1024 * 1024, ge=0, description="of calls kept; then the oldest are let go")
    rate_limit: str = Field("1000/5s", description="requests per client address and path; 0 = no limit")
    watchers_per_client_max: int = Field(
        WATCHERS_PER_CLIENT_MAX,
        ge=0,
        description="watches at once from a client address; 0 = as many as the node takes",
    )
    trusted_proxies: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode] = Field(
        (), description="networks whose X-Real-IP and X-Request-ID are believed"
    )

    tokens: str = Field("", description="lines of node/tokens.py, with ; between; empty = none")
    tokens_file: str = Field("", description="a file of such lines; read again when it changes, and on SIGHUP")
    allow_anonymous: bool = Field(
        False,
        validate_default=True,
        description="whether a node without tokens may listen where other machines reach it: something else keeps "
        "strangers out",
    )

    tls_cert: str = Field("", description="PEM file of the public listener's certificate chain; empty = no TLS")
    tls_key: str = Field("", validate_default=True, description="PEM file of its key")
    ops_tls_cert: str = Field("", description="likewise for the operations listener")
    ops_tls_key: str = Field("", validate_default=True, description="PEM file of its key")

    drain_notice_ms: int = Field(
        1500, ge=0, le=60_000, description="a leaving node serves on so long, for its proxies to notice"
    )
    drain_deadline_ms: int = Field(20_000, ge=100, description="then what is not finished is given up")
    kill_point: str = Field(
        "", description="for tests: `point:n`, where this node kills itself when it comes there for the n-th time"
    )
    statsd: str = Field("127.0.0.1:8125", description="host:port; empty = off")
    statsd_prefix: str = Field("tally", description="before every metric's name")
    log_format: Literal["text", "json"] = Field("text", description="of the log on stderr")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="the least that is logged")

    @field_validator("trusted_proxies", mode="before")
    @classmethod
    def _networks(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(ip_network(part.strip(), strict=False) for part in value.split(",") if part.strip())
        return value

    @field_validator("tls_key", "ops_tls_key")
    @classmethod
    def _beside_a_certificate(cls, value: str, info: ValidationInfo) -> str:
        cert = (info.field_name or "").replace("key", "cert")
        if bool(value) != bool(info.data.get(cert)):
            raise ValueError(f"TALLY_{cert.upper()} and its key belong together: set both, or none")
        return value

    @field_validator("tokens")
    @classmethod
    def _are_tokens(cls, value: str) -> str:
        if value:
            parse_tokens(value)
        return value

    @field_validator("allow_anonymous")
    @classmethod
    def _not_in_the_open(cls, value: bool, info: ValidationInfo) -> bool:
        given = info.data
        if value or given.get("tokens") or given.get("tokens_file"):
            return value
        exposed = [name for name in ("host", "ops_host") if not is_loopback(given.get(name, "127.0.0.1"))]
        if exposed:
            raise ValueError(
                f"{' and '.join(f'TALLY_{name.upper()}={given[name]}' for name in exposed)} can be reached from other "
                "machines, and there are no tokens: set TALLY_TOKENS_FILE (`python3 -m cluster token` makes a line "
                "for it), or TALLY_ALLOW_ANONYMOUS=true where a network or a proxy keeps strangers out"
            )
        return value

    @field_validator("statsd")
    @classmethod
    def _an_address(cls, value: str) -> str:
        host, _, port = value.rpartition(":")
        if value and not (host and port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            raise ValueError(f"{value!r} is not host:port (or empty for none)")
        return value

    @field_validator("redis_url", "postgres_dsn")
    @classmethod
    def _a_url(cls, value: str, info: ValidationInfo) -> str:
        schemes = SCHEMES[info.field_name or ""]
        if value.partition("://")[0] not in schemes:  # the value may hold a password: it is not repeated
            raise ValueError(f"a URL that begins with {'://, '.join(schemes)}:// is needed")
        if not _has_ports(value):  # a driver's message would have what stands there, maybe a piece of a password
            raise ValueError("its port is no number: is everything odd in its password percent-encoded?")
        return value

    @field_validator("kill_point")
    @classmethod
    def _a_point(cls, value: str) -> str:
        if value:
            Point.parse(value)
        return value

    @field_validator("rate_limit")
    @classmethod
    def _a_rate(cls, value: str) -> str:
        Rate.parse(value)
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        toml = TomlConfigSettingsSource(settings_cls, toml_file=cls.model_config.get("toml_file"))
        return init_settings, env_settings, toml


def _has_ports(url: str) -> bool:
    """Whether ports are numbers, where a URL has them. One of Postgres may have several hosts."""
    try:
        hosts = urlsplit(url).netloc.rpartition("@")[2].split(",")
    except ValueError:
        return False
    ports = [port for host in hosts for _, colon, port in [host.rpartition("]")[2].partition(":")] if colon]
    return all(port.isascii() and port.isdigit() for port in ports)


def secrets_of(*urls: str) -> list[str]:
    """The passwords in URLs, as they are written there and as they are. Those of a few letters are also words."""
    written = [password for url in urls if (password := urlsplit(url).password)]
    found = {form for password in written for form in (password, unquote(password))}
    return sorted((secret for secret in found if len(secret) >= SECRET_CHARS_MIN), key=len, reverse=True)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a listener there. A name but "localhost" may mean anything."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def load(toml_file: str | None = None) -> Config:
    """The settings of this process.

    Errors: pydantic.ValidationError, which names every bad one; OSError or tomllib.TOMLDecodeError for the file.
    """
    if toml_file:
        Path(toml_file).open("rb").close()  # pydantic takes a file that is not there for an empty one

    class FromFile(Config):
        model_config = SettingsConfigDict(**{**Config.model_config, "toml_file": toml_file})

    return FromFile() if toml_file else Config()
