"""Which calls in flight were certainly not counted, once one of them met an error. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from node.call import Call
from node.errors import LogGap, LogRefused, LogUnrepaired


@dataclass(frozen=True, slots=True)
class Stock:
    """What is to be done with the calls in flight."""

    usable: bool  # whether the connection may be used on
    in_doubt: Sequence[Call] = ()  # from now on: they may have been run
    refused: Sequence[Call] = ()  # not run: the last ones in flight, whose numbers are used again
    refusal: LogRefused | None = None  # why


def take_stock(flight: Sequence[Call], errors: Mapping[Call, BaseException | None], all_answered: bool) -> Stock:
    """`flight` is in the order of the numbers; a call that was answered, or not sent yet, has no error.

    A refused call was not run, nor was any after it: they would have left a gap. Their increments are answered now and
    their numbers are used again. But a call in doubt may have been run before, so it stays, whatever is answered. And
    while one has no answer, all are in doubt: on a connection that was given up it may yet be run, as the one whose
    number it has.
    """
    if not all_answered or any(_says_nothing(error) for error in errors.values()):
        return Stock(False, in_doubt=list(flight))
    if flight and isinstance(errors[flight[0]], LogUnrepaired | LogGap):
        return Stock(False)  # Redis has forgotten this writer, or the call before
    for position, call in enumerate(flight):
        error = errors[call]
        if isinstance(error, LogRefused) and not call.in_doubt:
            return Stock(True, refused=list(flight)[position:], refusal=error)
    return Stock(True)


def _says_nothing(error: BaseException | None) -> bool:
    return error is not None and not isinstance(error, LogRefused)
