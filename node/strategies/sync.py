"""`sync`: an increment is acknowledged when Postgres has committed its counter's new value."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from node.committer import Committer, commit_held
from node.counters import Counters
from node.increment import VALUE_MAX
from node.strategies.direct import Direct

AT_ONCE = 2  # groups: while one waits for its commit, the next comes as far as its locks


def sync(
    counters: Counters, now: Callable[[], float], deadline_s: float, inbox_max: int, request_id_window_s: int
) -> Direct:
    committer = Committer(partial(commit_held, counters), now, deadline_s, inbox_max, AT_ONCE)
    return Direct(counters, committer, committer, VALUE_MAX, request_id_window_s)
