"""A stand-in for a node, for tests of the supervisor alone: it answers /readyz and obeys signals."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

STAND_IN = """
import http.server, json, os, signal, sys, threading

if os.environ.get("STAND_IN") == "fails":
    sys.exit("settings cannot be used")
draining = threading.Event()

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"status": "draining" if draining.is_set() else "ready"}).encode()
        self.send_response(503 if draining.is_set() else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        pass

def drain(*_):
    draining.set()
    threading.Timer(float(os.environ.get("STAND_IN_DRAIN_S", "0.6")), lambda: os._exit(0)).start()

signal.signal(signal.SIGTERM, drain)
http.server.ThreadingHTTPServer((os.environ["TALLY_HOST"], int(os.environ["TALLY_PORT"])), Handler).serve_forever()
"""


@pytest.fixture
def stand_in(tmp_path: Path) -> list[str]:
    """The command of a stand-in node."""
    script = tmp_path / "stand_in.py"
    script.write_text(STAND_IN)
    return [sys.executable, str(script)]
