"""What can go wrong on the operator's machine. The message is shown as it is, so it names the next step."""

from __future__ import annotations


class LocalError(Exception):
    """Expected trouble: shown as one clear line, without a traceback."""


class StartFailed(LocalError):
    """A process ended or did not get ready in time; carries the last lines of its log."""

    def __init__(self, what: str, log_lines: list[str]) -> None:
        shown = "".join(f"\n  | {line}" for line in log_lines)
        super().__init__(what + shown)
