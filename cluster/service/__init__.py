"""Tally as a service, elsewhere than on this machine: the commands that run beside the nodes, each in a container of
its own (`docker-compose.cluster.yml`).

migrate    brings the database's schema up to date, once, before the nodes start
balancer   keeps the files of an nginx that runs in another container
"""
