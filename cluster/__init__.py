"""Who owns what: the members of a cluster and the partitions each of them owns.

This package knows nothing of counters. Read it in this order:

`ring.py`      a key has one partition, a partition has one owner: consistent hashing over the members
`view.py`      the members at one epoch, and what a member gains and loses between two views
`registry.py`  the leases in Redis, by Redis' own clock (`registry.lua`)
`agent.py`     a member's life: beat, learn the view, step down when beating fails for a lease
`upstreams.py` whom nginx is to have, by the view; who is gone may only be forgotten
`balancer.py`  keeps nginx's files equal to that, and reloads it
`local/`       a whole cluster on this machine, for `python3 -m cluster up`
`attack/`      open-loop load with an audit at its end

Words: a *member* holds a *lease* that it renews by a *beat*. A *view* is the set of members at an *epoch*. The *ring*
makes one ready member the *owner* of each partition. Ownership is for efficiency; no promise rests on there being one
owner.
"""
