"""The local cluster: finds or brings Redis, Postgres and nginx, starts the nodes and keeps them.

Read in this order: `launcher` (what happens when), `guard` (why nothing stays behind), `service` and `nodes`
(one server's and one node's life), then the parts: `redis`, `postgres`, `front`.
"""
