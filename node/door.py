"""What every entrance does around a request: who is asking, may they, and how what came of it is answered and
metered.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address

from node import answers
from node.answers import Answer
from node.call import Outcome
from node.errors import BadRequest, TallyError, TooManyRequests, Unavailable
from node.increment import Increment
from node.limiter import Limiter
from node.metrics import COUNTED
from node.ports import Meter
from node.terms import DEFAULT_STRATEGY, StrategyName

log = logging.getLogger(__name__)

PEERS_MAX = 1024  # whose trust is remembered
CAUSES_MAX = 64  # of errors, that were logged


class Door:
    """One for all listeners of a node."""

    def __init__(
        self,
        limiter: Limiter,
        meter: Meter,
        trusted: Sequence[IPv4Network | IPv6Network],
        strategy: StrategyName = DEFAULT_STRATEGY,
    ) -> None:
        """`strategy` is the default namespace's."""
        self._limiter, self._meter, self._trusted = limiter, meter, tuple(trusted)
        self._metric = COUNTED[strategy]
        self.key_required = False  # whether the default namespace requires an idempotency key
        self._peers: dict[str, bool] = {}  # address -> whether it is a trusted proxy
        self._counted = 0
        self._causes = {""}

    def admit(self, peer: str, real_ip: str | None, path: str) -> bool:
        """Whether `peer` is a trusted proxy: only its word is taken for who asks, and for a request's id.

        Errors: TooManyRequests.
        """
        trusted = self._peers.get(peer)
        if trusted is None:
            trusted = self._look_at(peer)
        if not self._limiter.admit(asker(peer, real_ip, trusted), path):
            raise TooManyRequests
        return trusted

    def check(self, increment: Increment) -> None:
        """Whether the default namespace takes it. Errors: BadRequest."""
        if self.key_required and (increment.idempotency_key is None or increment.short_lived):
            raise BadRequest

    def counted(self, outcome: Outcome, increment: Increment) -> Answer:
        if outcome is Outcome.COUNTED:
            self._counted += 1
            return answers.NO_CONTENT
        answer = answers.of_outcome(outcome, increment.short_lived)
        if outcome is Outcome.REPLAYED:
            self._meter.count("api.replayed")
        self._meter.count(answers.COUNT[answer.status])
        return answer

    def counted_batch(self, found: Sequence[Outcome | TallyError], strategy: StrategyName) -> None:
        """Meters the items of a batch, each as if it had come alone."""
        if times := found.count(Outcome.COUNTED):
            self._meter.count(COUNTED[strategy], times)
        if times := found.count(Outcome.REPLAYED):
            self._meter.count("api.replayed", times)

    def decided(self, status: int, outcome: Outcome, strategy: StrategyName) -> None:
        """Meters one increment, or one reset, that was answered with this status."""
        self.counted_batch([outcome], strategy)
        if status in answers.COUNT:
            self._meter.count(answers.COUNT[status])

    def failed(self, error: TallyError, detailed: bool = False, passed_on: bool = False) -> Answer:
        """`detailed` says what was wrong with a request; the seed's two routes have one fixed body for it.
        `passed_on` is an increment's, by a proxy that may have asked another node before.
        """
        if isinstance(error, BadRequest) and not detailed:
            error = BadRequest()
        if isinstance(error, Unavailable) and error.cause not in self._causes:
            self._log_cause(error)
        retry_after_s = self._limiter.retry_after_s if isinstance(error, TooManyRequests) else answers.RETRY_AFTER_S
        answer = answers.of_error(error, retry_after_s, passed_on)
        if answer.status in answers.COUNT:
            self._meter.count(answers.COUNT[answer.status])
        return answer

    def _log_cause(self, error: Unavailable) -> None:
        """Once: clients are not told, and what keeps a node from counting or settling it says by itself."""
        if len(self._causes) >= CAUSES_MAX:
            self._causes.clear()
        self._causes.add(error.cause)
        if error.cause:
            log.warning("a request failed: %s", error.cause)

    def meter_counted(self) -> None:
        """Tells the meter of the increments counted since the last time. Telling it of each would cost more than all
        else.
        """
        counted, self._counted = self._counted, 0
        if counted:
            self._meter.count(self._metric, counted)
            self._meter.count("api.create_key", counted)

    def _look_at(self, peer: str) -> bool:
        if len(self._peers) >= PEERS_MAX:
            self._peers.clear()
        trusted = self._peers[peer] = _within(peer, self._trusted)
        return trusted


def asker(peer: str, real_ip: str | None, by_proxy: bool) -> str:
    """The address of who asks: of a trusted proxy, whom it names."""
    return real_ip if by_proxy and real_ip else peer


def _within(peer: str, networks: Sequence[IPv4Network | IPv6Network]) -> bool:
    try:
        address = ip_address(peer)
    except ValueError:  # a Unix socket has no address
        return False
    return any(address in network for network in networks)
