from __future__ import annotations

from pathlib import Path

import pytest

from cluster.local.errors import LocalError
from cluster.local.launcher import Options


def options(**environment: str) -> Options:
    return Options(Path("data"), environment=environment)


def test_the_rate_limit_is_off_unless_it_is_given() -> None:
    assert options().rate_limit == "0"
    assert options(TALLY_RATE_LIMIT="1000/5s").rate_limit == "1000/5s"


def test_a_dead_node_stays_dead_for_longer_than_a_lease() -> None:
    assert options().restart_s == 5.0
    assert options(TALLY_LEASE_MS="10000").restart_s == 12.0


@pytest.mark.parametrize("text", ["0", "-1", "many", "²", "1.5"])
def test_settings_that_make_no_sense_are_named(text: str) -> None:
    with pytest.raises(LocalError, match="TALLY_PARTITIONS"):
        _ = options(TALLY_PARTITIONS=text).partitions


def test_strangers_reach_the_public_port_only_where_there_are_tokens_or_they_are_welcome() -> None:
    assert options().host == options(TALLY_ALLOW_ANONYMOUS="").host == "127.0.0.1"
    for told in ("TALLY_TOKENS", "TALLY_TOKENS_FILE", "TALLY_ALLOW_ANONYMOUS"):
        assert options(**{told: "true"}).host == ""
