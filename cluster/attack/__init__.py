"""Load with an audit at its end: what was acknowledged must be counted once, and the load can prove it.

`plan.py`      what is sent when (pure)
`route.py`     where to: the seed's routes, or those of a namespace
`load.py`      the open loop that sends it
`readback.py`  the values through the public port, and the rows in Postgres
`audit.py`     lost and doubled, key by key and increment by increment (pure)
`bounds.py`    what a read may say meanwhile (pure)
`faults.py`    which faults come when (pure)
`chaos.py`     makes them, on a local cluster
`report.py`    what is said at the end
`cli.py`       the command
"""
