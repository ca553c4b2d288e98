"""What an access is once it is read: a block of lines in columns (step: ingest)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

MAX_KEY_BYTES = 1024
"""A key has no more bytes of UTF-8."""


@dataclass(frozen=True)
class Block:
    """Validated lines in columns, all of the same length; `None` where a line does not say."""

    ts: Sequence[int]
    """Microseconds since 1970 UTC."""
    key: Sequence[str]
    """At most 1,024 bytes of UTF-8, without NUL."""
    op: Sequence[str]
    """GET, HEAD, PUT or DELETE."""
    site_id: Sequence[int | None]
    bytes_read: Sequence[int]
    status: Sequence[int | None]
    event_id: Sequence[str | None]
    region: Sequence[str | None]
    client: Sequence[str | None]
    partial_upload: Sequence[bool]
