"""What a rate needs in nodes, Redis shards and Postgres cores, computed from a run of the benchmark. Pure.

    nodes            = rate x node microseconds an increment / 1,000,000 / BUSY
    Redis shards     = rate x Redis microseconds an increment / 1,000,000 / BUSY
    rows a second    = min(rate, distinct keys / interval)
    Postgres cores   = rows a second x Postgres microseconds a row / 1,000,000 / BUSY

Cores of nginx are computed as nodes are. A node and a Redis shard use one core each, so their number is a number of
cores too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

from cluster.bench import balance

BUSY = 0.6  # how much of a core is planned for: the rest is for peaks, restarts and a neighbour's death
RATES = (10_000, 100_000, 1_000_000, 10_000_000)
DISTINCT_KEYS = (1_000, 100_000, 1_000_000, 10_000_000)  # that change within an interval
INTERVAL_S = 5.0
WINDOW_H = 24
MANY_KEYS = "1,000,000"


@dataclass(frozen=True)
class Cost:
    """CPU microseconds of one increment."""

    label: str
    node_us: float
    redis_us: float
    nginx_us: float = 0.0  # 0: it does not come through nginx

    def nodes(self, rate: float) -> int:
        return cores(rate, self.node_us)

    def shards(self, rate: float) -> int:
        return cores(rate, self.redis_us)

    def needs(self, rate: float) -> str:
        """ "nodes + shards", and cores of nginx where it comes through it."""
        needed = f"{self.nodes(rate):,} + {self.shards(rate):,}"
        return needed + (f" + {cores(rate, self.nginx_us):,}" if self.nginx_us else "")


def cores(per_second: float, us: float) -> int:
    """At least one."""
    return max(1, ceil(per_second * us / 1e6 / BUSY))


def rows_a_second(rate: float, distinct_keys: float, interval_s: float = INTERVAL_S) -> float:
    """A key that changes a thousand times in an interval is one row."""
    return min(rate, distinct_keys / interval_s)


def costs(run: Mapping[str, Any]) -> list[Cost]:
    """Errors: ValueError when the run has not measured them."""
    measured = dict(_figures(run, "costs"))
    if (told := _figures(run, "keys").get(MANY_KEYS)) is not None:
        measured[f"single, {MANY_KEYS} keys"] = told
    return [Cost(label, t["node us"], t["redis us"], t.get("nginx us", 0.0)) for label, t in measured.items()]


def _figures(run: Mapping[str, Any], name: str) -> dict[str, dict[str, float]]:
    for growth in run["growth"]:
        if growth["name"] == name and growth["points"]:
            return {point["label"]: point["figures"] for point in growth["points"]}
    raise ValueError(f"the run has no {name}: measure with `bench --json --rows costs,keys,stall,ids`")


def page(run: Mapping[str, Any]) -> str:
    """The whole of deploy/CAPACITY.md."""
    settle = next(iter(_figures(run, "stall").values()))
    ids = next(iter(_figures(run, "ids").values()))
    us_a_row = settle["postgres us a row"]
    parts = [
        _HEAD.format(busy=BUSY, machine=_machine(run)),
        _costs_table(costs(run)),
        _NEEDS,
        _needs_table(costs(run)),
        _POSTGRES.format(us=us_a_row, interval=INTERVAL_S),
        _postgres_table(us_a_row),
        _IDS.format(bytes=ids["bytes an id"], hours=WINDOW_H),
        _ids_table(ids["bytes an id"]),
        _growth_tables(run),
        _BALANCE,
        balance.table(),
    ]
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


def _machine(run: Mapping[str, Any]) -> str:
    machine, versions = run["machine"], run["versions"]
    named = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"{machine['cores']} cores {machine['model']}, {machine['kernel']}; {named}; {run['durability']}"


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    names = list(head)
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _costs_table(found: list[Cost]) -> str:
    rows = (
        (cost.label, f"{cost.node_us:.2f}", f"{cost.redis_us:.2f}", f"{cost.nginx_us:.2f}" if cost.nginx_us else "")
        for cost in found
    )
    return _table(("increments come as", "node, us each", "Redis, us each", "nginx, us each"), rows)


def _needs_table(found: list[Cost]) -> str:
    head = ("increments come as", *(f"{rate:,}/s" for rate in RATES))
    return _table(head, ((cost.label, *(cost.needs(rate) for rate in RATES)) for cost in found))


def _postgres_table(us: float) -> str:
    head = (f"distinct keys in {INTERVAL_S:g} s", *(f"{rate:,}/s" for rate in RATES))
    rows = []
    for keys in DISTINCT_KEYS:
        asked = [rows_a_second(rate, keys) for rate in RATES]
        rows.append((f"{keys:,}", *(f"{cores(each, us):,} ({each:,.0f} rows/s)" for each in asked)))
    return _table(head, rows)


def _ids_table(bytes_each: float) -> str:
    rows = []
    for rate in RATES:
        gib = [rate * 3600 * WINDOW_H * windows * bytes_each / 2**30 for windows in (1, 2)]
        rows.append((f"{rate:,}/s", *(f"{each:,.0f} GiB" for each in gib)))
    return _table(("increments with ids", "after one window", "after two, the most"), rows)


def _growth_tables(run: Mapping[str, Any]) -> str:
    shown = [each for each in run["growth"] if each["points"] and each["name"] in ("nodes", "keys", "connections")]
    return "\n\n".join([_GROWTH.strip(), *(_growth_table(growth) for growth in shown)]) if shown else ""


def _growth_table(growth: Mapping[str, Any]) -> str:
    names = list(growth["points"][0]["figures"])
    rows = ((point["label"], *(f"{point['figures'][name]:,.4g}" for name in names)) for point in growth["points"])
    return _table((growth["title"], *names), rows)


_HEAD = """
# Capacity

What a rate needs, by plain arithmetic from a run of the benchmark that lies beside this page (`capacity.json`). The
page is made from it:

```sh
python3 -m cluster bench --json > deploy/capacity.json
python3 -m cluster bench --capacity deploy/capacity.json > deploy/CAPACITY.md
```

Measured on: {machine}. Your machine has other figures: measure there, with nothing else running.

    nodes          = rate x node microseconds an increment / 1,000,000 / {busy}
    Redis shards   = rate x Redis microseconds an increment / 1,000,000 / {busy}
    rows a second  = min(rate, distinct keys in an interval / interval)
    Postgres cores = rows a second x Postgres microseconds a row / 1,000,000 / {busy}

A node uses one core and so does a Redis shard. {busy} is how much of a core is planned for; the rest is for peaks,
restarts and the load of a neighbour that died. Cores of nginx are computed as nodes are.

## What an increment costs

CPU time while the server was under full load, settles (one a second) included. Batches are of 1000.
"""
_NEEDS = """
## Nodes + Redis shards (+ cores of nginx)

More than one shard means more than one lane (a lane's keys share one slot of a Redis Cluster). A node writes into one
lane so far: columns that ask for more than one shard say what it takes, not what can be configured today.
"""
_POSTGRES = """
## Postgres cores

Postgres does not see increments but rows: a key that changed once or a million times within the interval of
{interval:g} s is one row of one settle. A row costs {us:.1f} us of Postgres' CPU (100,000 updates of distinct keys).
Where the cores are too many for one server, lengthen `TALLY_FLUSH_INTERVAL_MS`: it divides the rows, and no read gets
older for it.
"""
_IDS = """
## Memory of idempotency keys

{bytes:.1f} bytes of Redis memory each. A window is {hours} h by default; ids are kept for one window at least, two at
most.
"""
_GROWTH = """
## How cost grows

Rates are of one server core and one load core, so compare the microseconds. A call to Redis costs nearly the same
for one increment as for hundreds, so an increment costs most where none waits beside it (one connection) and least
under full load. That is why several nodes on one core cost more each: every one of them makes smaller calls.
"""
_BALANCE = """
## Balance

The largest share over the mean share (1.00 is even), from the ring that the nodes use (`python3 -m cluster bench
--balance`). nginx spreads requests evenly whatever a node owns; what a node owns is what it settles. So take about
ten partitions a node or more: the largest number of partitions is 4096. `TALLY_PARTITIONS` is fixed when the cluster
is founded.
"""
