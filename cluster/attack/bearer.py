"""The token that an attack brings with every request, for a cluster that asks for one: TALLY_TOKEN."""

from __future__ import annotations

import os


def headers() -> dict[str, str]:
    """Of every request. From the environment and not from an option: a command line is for everybody to see."""
    token = os.environ.get("TALLY_TOKEN")
    return {"Authorization": f"Bearer {token}"} if token else {}
