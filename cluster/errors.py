"""What can go wrong in membership. The docstring is the message."""

from __future__ import annotations


class ClusterError(Exception):
    """Membership is in trouble."""

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(detail or (self.__doc__ or "").strip())


class RegistryUnavailable(ClusterError):
    """The registry cannot be reached; check that Redis is up and TALLY_REDIS_URL is right."""
