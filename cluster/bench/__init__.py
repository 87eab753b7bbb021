"""Tally beside its peers, in one run on one machine: every row is a ratio.

`rows.py`      what is compared with what, and its goal and floor
`ours.py`      one row's way: servers up, rounds that alternate, servers down
`growth.py`    how cost grows with nodes, keys, connections, ids and rows
`load.py`      what is sent: by wrk, or by a loop of our own where there is no wrk
`openloop.py`  that loop
`peers.py`     webdis, nginx, redis-benchmark, the naive program
`stage.py`     the servers of one row, in a folder and a process group of their own
`pins.py`      which process is on which core, what they cost, what machine this is
`report.py`    the table and the JSON
`capacity.py`  what a rate needs, computed from a run (pure)
`balance.py`   how evenly keys, partitions and nodes share (pure)
`cli.py`       the command
"""
