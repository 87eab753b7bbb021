"""A batch as its route reads it."""

from __future__ import annotations

from node.batch import Given, quick_batch, strict_batch
from node.terms import Namespace


def parse_batch(content_type: str | None, body: bytes, namespace: Namespace) -> list[Given]:
    """By the quick reader where that will do. Errors: BadRequest, for the request as a whole."""
    items = quick_batch(content_type, body, namespace)
    return strict_batch(content_type, body, namespace) if items is None else items
