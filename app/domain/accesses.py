"""What an access is once it is read: a block of lines in columns (step: ingest)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from typing import Self

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

    def without(self, lines: Collection[int]) -> Self:
        """The block less some lines, by their places from 0."""
        kept = [line for line in range(len(self.ts)) if line not in lines]
        columns = (getattr(self, field.name) for field in fields(self))
        return type(self)(*([column[line] for line in kept] for column in columns))
