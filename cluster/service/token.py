"""`tally token`: makes an API token, and the line by which nodes know it."""

from __future__ import annotations

import os
from pathlib import Path

import click

from cluster.errors import ClusterError


@click.command()
@click.option("--scopes", default="read,increment", show_default=True, help="Of read, increment, write, admin.")
@click.option("--namespaces", default="default", show_default=True, help="With commas between; * for all.")
@click.option("--name", default="", help="Whose it is; a word.")
@click.option(
    "--file", "path", type=click.Path(path_type=Path, dir_okay=False), help="Add the line to this TALLY_TOKENS_FILE."
)
def token(scopes: str, namespaces: str, name: str, path: Path | None) -> None:
    """Make an API token. It is shown this once; the nodes are given the line, which has only its SHA-256."""
    from node.errors import BadRequest  # not at import: the other commands need no node
    from node.tokens import line_of, new_token

    made = new_token()
    try:
        line = line_of(made, scopes.split(","), namespaces.split(","), name)
        if path is not None:
            _append(path, line)
    except (ValueError, BadRequest) as error:
        raise click.UsageError(f"No such token can be made: {error}.") from error
    except OSError as error:
        raise ClusterError(f"The line cannot be added to {path}: {error}") from error
    click.echo(made)
    if path is None:
        click.echo(line)


def _append(path: Path, line: str) -> None:
    """In one write, so that a node that reads meanwhile finds whole lines."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(descriptor, f"{line}\n".encode())
    finally:
        os.close(descriptor)
