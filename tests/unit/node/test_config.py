"""A node's settings: where they come from, and that every bad one is named."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from tomllib import TOMLDecodeError

import pytest
from pydantic import ValidationError

from node.config import Config, load, secrets_of


@pytest.fixture
def env(monkeypatch: pytest.MonkeyPatch):
    def set_(**settings: str) -> None:
        for name, value in settings.items():
            monkeypatch.setenv(f"TALLY_{name.upper()}", value)

    return set_


def bad_names(error: ValidationError) -> set[str]:
    return {str(problem["loc"][0]) for problem in error.errors()}


def test_the_defaults_are_the_contracts() -> None:
    config = Config()
    assert (config.host, config.port, config.rate_limit, config.statsd) == (
        "127.0.0.1",
        3333,
        "1000/5s",
        "127.0.0.1:8125",
    )
    assert (config.partitions, config.flush_interval_ms, config.lease_ms) == (64, 5000, 3000)
    assert (config.idempotency_window_s, config.drain_notice_ms, config.trusted_proxies) == (86_400, 1500, ())
    assert (config.shared_port, config.server) == (0, "uvicorn")


def test_the_environment_wins_over_the_file_and_the_file_over_the_defaults(env, tmp_path: Path) -> None:
    file = tmp_path / "tally.toml"
    file.write_text('node = "from-file"\nport = 4000\ntrusted_proxies = ["10.0.0.0/8"]\n')
    env(port="5000")
    config = load(str(file))
    assert (config.node, config.port, config.lease_ms) == ("from-file", 5000, 3000)
    assert config.trusted_proxies == (ip_network("10.0.0.0/8"),)


@pytest.mark.parametrize(
    ("text", "networks"),
    [
        ("", ()),
        ("127.0.0.1", ("127.0.0.1/32",)),
        ("127.0.0.1/32, ::1", ("127.0.0.1/32", "::1/128")),
        ("10.1.2.3/8,", ("10.0.0.0/8",)),
    ],
)
def test_trusted_proxies_are_networks_separated_by_commas(env, text: str, networks: tuple[str, ...]) -> None:
    env(trusted_proxies=text)
    assert Config().trusted_proxies == tuple(ip_network(network) for network in networks)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("node", ""),
        ("node", "a b"),
        ("node", "x" * 65),
        ("port", "65536"),
        ("port", "-1"),
        ("port", "http"),
        ("ops_port", "1.5"),
        ("partitions", "0"),
        ("partitions", "4097"),
        ("flush_interval_ms", "0"),
        ("lease_ms", "1"),
        ("deadline_ms", "1e9"),
        ("inbox_max", "0"),
        ("idempotency_window_s", "1"),
        ("rate_limit", "1000"),
        ("rate_limit", "1000/0s"),
        ("rate_limit", "-1/5s"),
        ("rate_limit", "1000/5"),
        ("trusted_proxies", "proxy.example"),
        ("trusted_proxies", "10.0.0.0/33"),
        ("statsd", "localhost"),
        ("statsd", "localhost:"),
        ("statsd", ":8125"),
        ("statsd", "localhost:abc"),
        ("statsd", "localhost:65536"),
        ("redis_url", "127.0.0.1:6379"),
        ("redis_url", ""),
        ("postgres_dsn", "host=localhost"),
        ("postgres_dsn", "postgresql://user:pass/word@localhost/tally"),
        ("postgres_dsn", "postgresql://[::1/tally"),
        ("redis_url", "redis://:pass#word@localhost"),
        ("tls_key", "key.pem"),
        ("ops_tls_key", "key.pem"),
        ("tokens", "x"),
        ("allow_anonymous", "perhaps"),
        ("log_format", "xml"),
        ("log_level", "loud"),
        ("kill_point", "nowhere:1"),
        ("kill_point", "sealed:0"),
        ("server", "apache"),
    ],
)
def test_a_bad_setting_is_refused_by_its_name(env, name: str, value: str) -> None:
    env(**{name: value})
    with pytest.raises(ValidationError) as caught:
        load()
    assert bad_names(caught.value) == {name}


def test_every_bad_setting_is_named_at_once(env) -> None:
    env(port="x", lease_ms="x", rate_limit="x", trusted_proxies="x")
    with pytest.raises(ValidationError) as caught:
        load()
    assert bad_names(caught.value) == {"port", "lease_ms", "rate_limit", "trusted_proxies"}


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://u:p@h1:5432,h2:5433/tally?target_session_attrs=primary",
        "postgresql://u:p%2Fq@[::1]:5432/tally",
        "postgresql:///tally?host=/run/postgresql",
        "postgresql://localhost/tally",
    ],
)
def test_a_dsn_may_have_several_hosts_or_none(env, dsn: str) -> None:
    env(postgres_dsn=dsn)
    assert load().postgres_dsn == dsn


def test_a_certificate_without_its_key_is_refused(env) -> None:
    env(tls_cert="cert.pem")
    with pytest.raises(ValidationError) as caught:
        load()
    assert bad_names(caught.value) == {"tls_key"}


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_a_node_on_loopback_needs_no_tokens(env, host: str) -> None:
    env(host=host, ops_host=host)
    assert load().host == host


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "10.1.2.3", "tally.example", "::ffff:10.1.2.3"])
def test_one_that_others_reach_needs_tokens_or_a_word(env, host: str) -> None:
    env(host=host)
    with pytest.raises(ValidationError, match="TALLY_TOKENS_FILE") as caught:
        load()
    assert bad_names(caught.value) == {"allow_anonymous"}
    for settings in ({"allow_anonymous": "true"}, {"tokens_file": "tokens"}, {"tokens": f"{'0' * 64} read a"}):
        assert Config(host=host, **settings).host == host


def test_the_passwords_of_urls_are_secrets_as_they_are_written_and_as_they_are() -> None:
    urls = "redis://:hunter2%2Fhunter2@h", "postgresql://tally:tally@h/tally", "redis://h"
    assert secrets_of(*urls) == ["hunter2%2Fhunter2", "hunter2/hunter2"]


def test_the_message_of_a_bad_url_does_not_repeat_its_password(env) -> None:
    env(redis_url="reddis://:hunter2@localhost")
    with pytest.raises(ValidationError) as caught:
        load()
    assert all("hunter2" not in problem["msg"] for problem in caught.value.errors())


def test_a_name_that_does_not_exist_is_refused_in_a_file_and_borne_in_the_environment(env, tmp_path: Path) -> None:
    env(servers="another program's")
    load()
    file = tmp_path / "tally.toml"
    file.write_text("flush_intervall_ms = 100\n")
    with pytest.raises(ValidationError) as caught:
        load(str(file))
    assert bad_names(caught.value) == {"flush_intervall_ms"}


def test_a_file_that_is_missing_or_no_toml_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"missing\.toml"):
        load(str(tmp_path / "missing.toml"))
    (tmp_path / "bad.toml").write_text("port: 3333\n")
    with pytest.raises(TOMLDecodeError):
        load(str(tmp_path / "bad.toml"))


def test_settings_do_not_change_once_they_are_read() -> None:
    with pytest.raises(ValidationError):
        Config().port = 1  # type: ignore[misc]
