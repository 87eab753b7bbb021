"""What can go wrong, by blame. The docstring is the message; `answers.py` has the one table from error to HTTP
answer.
"""

from __future__ import annotations


class TallyError(Exception):
    """Something went wrong."""

    def __init__(self, detail: str | None = None) -> None:
        self.message = detail or " ".join((self.__doc__ or "").split())  # what is answered
        super().__init__(self.message)


# --- the caller's: repeating the same request will not help -------------------------------------------------------


class BadRequest(TallyError):
    """Bad Request."""


class Unauthorized(TallyError):
    """A token is needed: send `Authorization: Bearer <token>` with one that is valid here."""


class Forbidden(TallyError):
    """This token may not do that."""


class NotFound(TallyError):
    """Not Found."""


class UnknownCounter(NotFound):
    def __init__(self, namespace: str = "this namespace") -> None:
        super().__init__(f"There is no counter with this key in {namespace}.")


class MethodNotAllowed(TallyError):
    """Method Not Allowed."""


class PayloadTooLarge(TallyError):
    """Payload Too Large."""


class TooManyRequests(TallyError):
    """Too Many Requests"""  # without a full stop: the wire contract fixes the bytes


class Mismatch(TallyError):
    """This idempotency key was used on this counter with another value, or for something else (an increment, a reset);
    nothing was counted. Use a new key for what is new.
    """


class CounterFull(TallyError):
    """This counter, or what is not settled of it, is close to the largest value it can hold; nothing was counted.
    Try again in some seconds; if that does not help, count on under a new key.
    """


class OutOfBounds(TallyError):
    """The total would pass a bound; nothing was counted."""


class StrategyFixed(TallyError):
    """A namespace keeps the strategy it was founded with; choose another name for counters that count otherwise."""


class TooManyNamespaces(TallyError):
    """There are as many namespaces as there may be; nothing was counted. Use one that is there."""


# --- ours or our stores': the same request may succeed later ------------------------------------------------------


class Unavailable(TallyError):
    """Tally cannot answer now; try again."""

    counted: bool | str = False  # "unknown" when the increment may have been counted

    def __init__(self, detail: str | None = None, cause: str = "") -> None:
        super().__init__(detail)
        self.cause = cause  # a driver's words, which may name addresses: for the log only

    def __str__(self) -> str:
        """For the log."""
        return self.cause or self.message


class Overloaded(Unavailable):
    """Too many increments are waiting; nothing was counted. Try again later."""


class Draining(Unavailable):
    """This node is leaving; nothing was counted. Try again."""


class LogUnavailable(Unavailable):
    """Redis cannot be reached; try again."""


class Unanswered(Unavailable):
    """Redis has not answered in time; the increment may have been counted. Try again with the same idempotency key."""

    counted = "unknown"


class LogRefused(LogUnavailable):
    """Redis takes nothing now; nothing was changed. Try again later."""


class LogGap(LogRefused):
    """Redis refused what came before this; nothing was changed. Try again."""


class LogUnrepaired(LogRefused):
    """Redis has lost something, which is being put back; nothing was changed. Try again."""


class StoreUnavailable(Unavailable):
    """Postgres cannot be reached; try again."""


class StoreRefused(StoreUnavailable):
    """Postgres refused this; nothing was changed. Try again later."""


class StoreOverflow(StoreRefused):
    """A sum has passed what Postgres can hold; nothing was changed."""


class StoreUnanswered(StoreUnavailable):
    """Postgres has not answered in time; it may have been counted. Try again with the same idempotency key."""

    counted = "unknown"


# --- the deployment's: an operator has to act ---------------------------------------------------------------------


class Misconfigured(TallyError):
    """The stores are not set up as the promises need it."""
