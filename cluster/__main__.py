"""`python3 -m cluster`: from nothing but Python >= 3.11.

Only the standard library is imported here. What the commands need is made first, once: `.venv` beside the
packages, from the pinned requirements, and then this program executes itself there. Where everything needed
can be imported already (installed as `tally`, in an image, in an active environment) it just goes on.
"""

from __future__ import annotations

import sys

if sys.version_info < (3, 11):  # noqa: UP036  whoever has an older one is to learn it here, not from a traceback
    version = ".".join(str(part) for part in sys.version_info[:2])
    sys.exit(f"Tally needs Python 3.11 or newer, this is {version}: try python3.11 (or python3.12, ...) -m cluster.")

import fcntl
import hashlib
import os
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import IO, NoReturn

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "deploy" / "requirements" / "all.txt"
ENVIRONMENT = ROOT / ".venv"
PYTHON = ENVIRONMENT / "bin" / "python"
STAMP = ENVIRONMENT / "tally-requirements.sha256"
NEEDED = [
    *("aiohttp", "aiolimiter", "asyncpg", "click", "httptools", "hypercorn", "msgspec", "pydantic_settings", "quart"),
    *("quart_schema", "redis", "rich", "statsd", "structlog", "uhashring", "uvicorn", "uvloop"),
]
TRIED = "TALLY_BOOTSTRAPPED"
NO_VENV = (
    "This Python cannot make environments: `apt install python3-venv` (or your system's package of that name), "
    "or with uv: `uv venv --seed .venv`. Then try again."
)


def main() -> None:
    """The command `tally` and `python3 -m cluster`."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        bootstrap(missing)
    from cluster.cli import run

    run()


def bootstrap(missing: list[str]) -> NoReturn:
    """Makes the environment if need be and executes this program in it. Does not return."""
    if TRIED in os.environ or not REQUIREMENTS.exists():
        sys.exit(f"These packages are missing: {', '.join(missing)}. Install Tally with `pip install .` in its clone.")
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    with REQUIREMENTS.open("rb") as lock:  # several may start at once: one installs, the others wait
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_complete(wanted):
            try:
                install(wanted)
            except OSError as error:
                sys.exit(f"Cannot make {ENVIRONMENT}: {error}. Make it writable, or remove it and try again.")
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    os.environ.update({TRIED: "1", "PYTHONPATH": path})
    os.execv(PYTHON, [str(PYTHON), "-m", "cluster", *sys.argv[1:]])


def is_complete(wanted: str) -> bool:
    """Whether the environment runs, and was made from these very requirements."""
    try:
        stamped = STAMP.read_text() == wanted
        runs = subprocess.run([PYTHON, "-c", ""], stderr=subprocess.DEVNULL, check=False).returncode == 0
    except OSError:
        return False
    return stamped and runs


def install(wanted: str) -> None:
    """Makes or completes the environment. The stamp comes last, so an interrupted one is done again."""
    ENVIRONMENT.mkdir(exist_ok=True)
    STAMP.unlink(missing_ok=True)
    if not can_pip():
        if find_spec("venv") is None or find_spec("ensurepip") is None:
            sys.exit(NO_VENV)
        say(f"making {ENVIRONMENT} ...")
        step([sys.executable, "-m", "venv", "--clear", str(ENVIRONMENT)], NO_VENV)
    options = ["--disable-pip-version-check", "--no-input", "--require-hashes", "--only-binary", ":all:"]
    trouble = "The packages could not be installed: is there a network (or a package index)? Then try again."
    step([str(PYTHON), "-m", "pip", "install", *options, "-r", str(REQUIREMENTS)], trouble)
    STAMP.write_text(wanted)
    say("ready.", end="\n")


def can_pip() -> bool:
    """Whether there is an environment that runs and has pip."""
    try:
        return subprocess.run([PYTHON, "-m", "pip", "--version"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def step(command: list[str], trouble: str) -> None:
    """Runs a command, shows how far it is; when it fails, its last lines and what to do."""
    lines: list[str] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        follow(process.stdout, lines)
    if process.returncode != 0:
        shown = "".join(f"\n  | {line}" for line in lines[-12:])
        sys.exit(f"{trouble}{shown}")


def follow(output: IO[str] | None, lines: list[str]) -> None:
    """Collects the lines; each package that pip comes to is a step forward."""
    count = 0
    for line in output or ():
        lines.append(line.rstrip())
        if line.startswith("Collecting "):
            count += 1
            say(f"installing into {ENVIRONMENT.name} (only once): {count} packages ...")


def say(text: str, end: str = "") -> None:
    """One line on stderr, written over on a terminal."""
    if sys.stderr.isatty():
        print(f"\r\033[Ktally: {text}", end=end, file=sys.stderr, flush=True)
    elif end or "packages" not in text:
        print(f"tally: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
