"""The command line of a node: its usage, and from settings to an exit code."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from collections.abc import Sequence
from textwrap import fill, indent
from tomllib import TOMLDecodeError

import uvloop
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from node import app, config, points
from node.errors import Misconfigured
from node.logs import set_up

WIDTH = 90


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 after a drain, 2 for settings that cannot be used, 3 for stores that cannot, 1 for anything else."""
    file = parser().parse_args(arguments).file
    try:
        settings = config.load(file)
    except ValidationError as error:
        for problem in error.errors():
            print(f"TALLY_{str(problem['loc'][0]).upper()}: {problem['msg']}", file=sys.stderr)
        return 2
    except (OSError, TOMLDecodeError) as error:
        print(f"the settings file {file} cannot be read: {error}", file=sys.stderr)
        return 2
    secrets = config.secrets_of(settings.redis_url, settings.postgres_dsn)
    set_up(settings.log_format, settings.log_level, secrets)
    points.arm(settings.kill_point)
    log = logging.getLogger("node")
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(app.run(settings))
    except Exception as error:  # whatever it is, the process ends, and its last line says why
        cause = root_of(error)
        expected = isinstance(cause, Misconfigured | OSError)
        log.error("%s", cause, exc_info=None if expected else error)
        return 3 if isinstance(cause, Misconfigured) else 1
    return 0


def root_of(error: Exception) -> Exception:
    """The first of what a task group gathered."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


def parser() -> argparse.ArgumentParser:
    """Takes a file, and nothing else: settings have one name each, as variables and in the file."""
    made = argparse.ArgumentParser(
        prog="python3 -m node",
        description="One node of Tally. Ctrl-C or SIGTERM drains it.",
        epilog=usage(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument(
        "file", nargs="?", metavar="SETTINGS.toml", help="the settings below, in lower case and without TALLY_"
    )
    return made


def usage() -> str:
    """Every setting: its variable, what it is, its default."""
    lines = ["settings, as variables, or else in the file, or else as they stand here:"]
    for name, field in config.Config.model_fields.items():
        lines += [f"  TALLY_{name.upper()}={default(field)}", indent(fill(field.description or "", WIDTH), " " * 6)]
    return "\n".join(lines)


def default(field: FieldInfo) -> str:
    """As one would write it into the variable."""
    value = field.default
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
