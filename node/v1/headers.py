"""Headers of requests and answers, for `/openapi.json`: those that are Tally's, not the connection's. Pure."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

SPELT = {"etag": "ETag", "www_authenticate": "WWW-Authenticate"}  # those that are not in Title-Case


def name(field: str) -> str:
    return SPELT.get(field, field.replace("_", "-").title())


# --- what requests say --------------------------------------------------------------------------------------------

BARE, QUOTED = r"[!#-~]([ -~]{0,253}[!-~])?", r'"([ !#-\[\]-~]|\\["\\]){1,255}"'
IDEMPOTENCY_KEY = rf"^({BARE}|{QUOTED})$"


class Idempotency(Struct, rename=name):
    idempotency_key: (
        Annotated[
            str,
            Meta(
                pattern=IDEMPOTENCY_KEY,
                description="The client's own name for what it asks: asked again, it counts once. Bare or quoted.",
            ),
        ]
        | UnsetType
    ) = UNSET


class OfBatch(Idempotency, rename=name):
    prefer: (
        Annotated[
            str,
            Meta(description="`return=minimal` leaves the list of results out.", examples=["return=minimal"]),
        ]
        | UnsetType
    ) = UNSET


class Conditional(Struct, rename=name):
    if_none_match: (
        Annotated[str, Meta(description="An ETag: while the answer is what it was, it is a 304 without a body.")]
        | UnsetType
    ) = UNSET


# --- what answers say ---------------------------------------------------------------------------------------------


class Replayed(Struct, rename=name):
    idempotent_replayed: (
        Annotated[
            Literal["true"], Meta(description="It had been done before, all of it, under the same idempotency key.")
        ]
        | UnsetType
    ) = UNSET


class Tagged(Struct, rename=name):
    etag: Annotated[str, Meta(pattern='^"[0-9a-f]{16}"$', description="Of the answer as it is, for If-None-Match.")]
    cache_control: Literal["no-cache"]


class Streamed(Struct, rename=name):
    cache_control: Literal["no-store"]


class Refused(Struct, rename=name):
    x_content_type_options: Literal["nosniff"]


class Challenged(Refused, rename=name):
    www_authenticate: Literal['Bearer realm="tally"']


class Later(Refused, rename=name):
    retry_after: Annotated[int, Meta(ge=1, description="Seconds.")]


class NotAllowed(Refused, rename=name):
    allow: Annotated[str, Meta(description="The methods that there are.", examples=["GET, HEAD, OPTIONS"])]


class Negotiated(Struct, rename=name):
    """An error's beside these, where it comes in two forms; what cannot be read as HTTP is refused without it."""

    vary: Literal["Accept"] | UnsetType = UNSET


def of_error(status: int) -> type[Refused]:
    match status:
        case 401:
            return Challenged
        case 429 | 503:
            return Later
        case _:
            return Refused
