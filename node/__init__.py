"""One node. It takes any increment, reads any counter exactly, and settles the partitions it owns.

Three paths, each readable by file names:

An increment.   `protocol.py` and `lane.py` (or `routes/increment.py`, the same route in Quart) -> `door.py` who asks,
and may
                they -> `increment.py` parse and check -> `writer.py` what queued meanwhile becomes one numbered call
                (`call.py`) -> `log.py`, `log.lua` Redis: known id? known call? else into the open batch ->
                `answers.py` 204

A settle.       `settler.py` every few seconds, per owned partition: seal (`log.lua`) -> settle (`store.py`,
                `queries.sql`: one statement) -> drop. What may be concluded from the numbers is in `settlement.py`

A node's death. Its lease runs out (`cluster/registry.lua`), the others' agents see the next view (`cluster/agent.py`)
and
                own its partitions, their settlers go on where it stopped. Nothing is handed over: the batches are in
                Redis

That is strategy `dist`. In a namespace (`namespaces.py`, `terms.py`) that counts by another, an increment goes to
Postgres itself: `strategies/direct.py` -> `committer.py` what queued meanwhile is one transaction -> `deciding.py` ->
`sync_table.py`, or, for `rollup`, a row each by `rollup_table.py`, which `roller.py` adds up every few seconds.

Where there are tokens (`tokens.py`, kept by `guard.py`), they come before all else: in the lane `guarded.py`, before
each route in Quart `routes/access.py`.

A read is `reader.py`: Postgres, or what is remembered of it, plus what waits in Redis, by the formula in
`settlement.py`. `parts.py` is where everything is constructed, `app.py` where it is started and drained; `ports.py`
says what the stores promise; `batch.py` and `routes/batch.py` take many increments at once. A node that Postgres does
not answer (`pulse.py`) leaves its partitions to others.

Words: an *increment* adds to a *counter* ("<namespace>:<key>"). A key has one *partition*. A partition's increments
gather in its *open batch*; that is *sealed*, *settled* and *dropped*. A *call* is one numbered append of a node, its
*writer* name is new at every start. An *idempotency key* that comes again within its *window* is a *replay*, with
another value a *mismatch*.
"""
