"""docker-compose.cluster.yml, where there is no engine."""

from __future__ import annotations

import json
import re
from pathlib import Path

import yaml

FILE = Path(__file__).resolve().parents[2] / "docker-compose.cluster.yml"
SECRET = re.compile(r"PASSWORD|TOKEN|://[^/\s]*:[^/\s]*@")


def test_no_secret_is_an_argument_which_everybody_on_the_machine_sees() -> None:
    services = yaml.safe_load(FILE.read_text())["services"]
    assert SECRET.search(json.dumps(services["attack"]))  # it is given there, but by the environment
    for name, service in services.items():
        arguments = [service.get("entrypoint"), service.get("command"), service.get("healthcheck")]
        assert not SECRET.search(json.dumps(arguments)), name
