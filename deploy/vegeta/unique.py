#!/usr/bin/env python3
"""Targets for vegeta's JSON format without end: each with an idempotency key of its own.

    python3 deploy/vegeta/unique.py | vegeta attack -format=json -lazy -rate=100/s -duration=120s > results.bin

Read lazily, because a list that is read whole is sent again from its start when it ends; its repeated
idempotency keys would be answered 204 and, rightly, not counted.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import sys
import uuid
from collections.abc import Iterator


def targets(url: str, key: str, value: int) -> Iterator[str]:
    """One JSON object a line, for ever. The body is base64, as vegeta's format wants it."""
    body = base64.b64encode(json.dumps({"key": key, "value": value}).encode()).decode()
    while True:
        header = {"Content-Type": ["application/json"], "Idempotency-Key": [str(uuid.uuid4())]}
        yield json.dumps({"method": "POST", "url": f"{url.rstrip('/')}/increment", "body": body, "header": header})


def main() -> None:
    parser = argparse.ArgumentParser(description="Endless vegeta targets, each with its own idempotency key.")
    parser.add_argument("--url", default="http://127.0.0.1:3333")
    parser.add_argument("--key", default="vegeta-unique")
    parser.add_argument("--value", type=int, default=1)
    given = parser.parse_args()
    try:
        for line in targets(given.url, given.key, given.value):
            print(line)
    except BrokenPipeError:  # vegeta has had enough; nothing may be written to the closed pipe at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
