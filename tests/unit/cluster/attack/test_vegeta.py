"""The vegeta targets in deploy/vegeta: what they send is a valid increment."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parents[4]
FOLDER = TOP / "deploy" / "vegeta"


def test_the_targets_post_the_body_file_to_the_public_port() -> None:
    request, header, body = (FOLDER / "targets").read_text().splitlines()
    assert request == "POST http://127.0.0.1:3333/increment"
    assert header == "Content-Type: application/json"
    assert json.loads((TOP / body.removeprefix("@")).read_text()) == {"key": "vegeta", "value": 1}


def test_unique_targets_have_an_idempotency_key_each_and_end_with_their_reader() -> None:
    command = [sys.executable, str(FOLDER / "unique.py"), "--url", "http://h:1/", "--key", "k", "--value", "2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [json.loads(process.stdout.readline()) for _ in range(50)]
        process.stdout.close()
        assert process.wait(10) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert {(line["method"], line["url"]) for line in lines} == {("POST", "http://h:1/increment")}
    assert {base64.b64decode(line["body"]) for line in lines} == {b'{"key": "k", "value": 2}'}
    assert len({line["header"]["Idempotency-Key"][0] for line in lines}) == 50
    assert lines[0]["header"]["Content-Type"] == ["application/json"]
