"""`python -m node`: one node, configured by TALLY_* variables or a TOML file."""

from __future__ import annotations

import asyncio
import logging
import sys
from tomllib import TOMLDecodeError

import uvloop
from pydantic import ValidationError

from node import app, config, points
from node.errors import Misconfigured
from node.logs import set_up


def main() -> int:
    """Exit code: 0 after a drain, 2 for settings that cannot be used, 3 for stores that cannot, 1 for anything else."""
    try:
        settings = config.load(sys.argv[1] if len(sys.argv) > 1 else None)
    except ValidationError as error:
        for problem in error.errors():
            print(f"TALLY_{str(problem['loc'][0]).upper()}: {problem['msg']}", file=sys.stderr)
        return 2
    except (OSError, TOMLDecodeError) as error:
        print(f"the settings file {sys.argv[1]} cannot be read: {error}", file=sys.stderr)
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


if __name__ == "__main__":
    sys.exit(main())
