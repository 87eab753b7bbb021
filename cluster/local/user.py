"""Who Postgres runs as. It refuses root, so root drops it to another user, who may not be able to enter a
folder."""

from __future__ import annotations

import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from cluster.local.errors import LocalError

CANDIDATES = ("postgres", "nobody")


class PopenUser(TypedDict, total=False):
    """The arguments of subprocess that make a child run as a user."""

    user: int
    group: int
    extra_groups: list[int]


@dataclass(frozen=True)
class User:
    """A user other than ours, whom only root can become."""

    name: str
    uid: int
    gid: int

    def popen(self) -> PopenUser:
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def may(self, test: str, path: Path) -> bool:
        """Asks the system, as that user: `test` is an operator of test(1), as -w or -x. Ancestors count."""
        asked = subprocess.run(["/bin/sh", "-c", f'test {test} "$1"', "sh", path], cwd="/", check=False, **self.popen())
        return asked.returncode == 0


def server_user(data: Path) -> User | None:
    """As whom Postgres is to run: None (ourselves) unless we are root.

    Data that exists belongs to the user who made it, so that a cluster of a plain user can be started by
    root.
    """
    if os.geteuid() != 0:
        return None
    if data.exists() and (owner := data.stat().st_uid) != 0:
        return _user(pwd.getpwuid(owner))
    for name in CANDIDATES:
        try:
            return _user(pwd.getpwnam(name))
        except KeyError:
            continue
    raise LocalError("Postgres refuses root and there is no user `postgres` or `nobody`: run `up` as another user.")


def _user(entry: pwd.struct_passwd) -> User:
    return User(entry.pw_name, entry.pw_uid, entry.pw_gid)
