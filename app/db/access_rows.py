"""A block of accesses in COPY's binary form, made while the server takes it in; without numpy, for the API has none."""

from __future__ import annotations

import struct
from collections.abc import Hashable, Iterable, Iterator, Sequence
from itertools import chain, repeat
from typing import TypeVar

from app.domain.accesses import Block

SIGNATURE = b"PGCOPY\n\xff\r\n\0" + struct.pack("!ii", 0, 0)
TRAILER = struct.pack("!h", -1)
NULL = struct.pack("!i", -1)
POSTGRES_EPOCH = 946_684_800_000_000  # 2000-01-01 in microseconds since 1970, from where timestamptz counts
PIECE = 4096
"""Rows that are handed over at once: while Postgres stores them the next are made."""
FIXED = ("ts", "batch_id", "object_id", "bytes")
_HEAD = struct.Struct("!hiqiqiqiq")  # the number of fields, then each with its length
_HEAD_OF_EVENT = struct.Struct(_HEAD.format + "i")  # the length of the event's text follows
_LENGTH = struct.Struct("!i")
Value = TypeVar("Value", bound=Hashable)


class Rows:
    """The file that COPY reads: `columns` name its fields in order."""

    def __init__(self, block: Block, object_ids: Sequence[int], batch_id: int) -> None:
        """object_ids: one a line. Columns of which no line says anything are left out."""
        given = {
            "op": block.op,
            "partial_upload": block.partial_upload if any(block.partial_upload) else (),
            "site_id": block.site_id,
            "status": block.status,
            "region": block.region,
            "client": block.client,
        }
        self._said = {name: values for name, values in given.items() if _says(values)}
        self._has_events = _says(block.event_id)
        self.columns = (*FIXED, *(("event_id",) if self._has_events else ()), *self._said)
        self._block, self._ids, self._batch_id = block, object_ids, batch_id
        self._pieces = self._made()

    def read(self, size: int = -1) -> bytes:  # noqa: ARG002 - the driver takes pieces of any size
        """The next piece; empty at the end."""
        return next(self._pieces, b"")

    def _made(self) -> Iterator[bytes]:
        yield SIGNATURE
        for start in range(0, len(self._ids), PIECE):
            yield self._piece(slice(start, start + PIECE))
        yield TRAILER

    def _piece(self, part: slice) -> bytes:
        ts = [value - POSTGRES_EPOCH for value in self._block.ts[part]]
        eight = repeat(8)
        fixed: tuple[Iterable[int], ...] = (
            repeat(len(self.columns)),
            eight, ts, eight, repeat(self._batch_id), eight, self._ids[part], eight, self._block.bytes_read[part],
        )  # fmt: skip
        fields = [_fields(values[part]) for values in self._said.values()]
        if self._has_events:
            events = [None if event is None else event.encode() for event in self._block.event_id[part]]
            lengths = [-1 if event is None else len(event) for event in events]
            fields = [map(_HEAD_OF_EVENT.pack, *fixed, lengths), [event or b"" for event in events], *fields]
        else:
            fields = [map(_HEAD.pack, *fixed), *fields]
        return b"".join(chain.from_iterable(zip(*fields, strict=True)))


def _says(values: Sequence[object]) -> bool:
    return any(value is not None for value in values)


def _fields(values: Sequence[Value]) -> Iterable[bytes]:
    """Each value with its length before it; equal ones, of which there are many, are made once."""
    made = {value: _field(value) for value in set(values)}
    return map(made.__getitem__, values)


def _field(value: object) -> bytes:
    if value is None:
        return NULL
    if isinstance(value, str):
        data = value.encode()
        return _LENGTH.pack(len(data)) + data
    if isinstance(value, bool):
        return b"\0\0\0\1\1" if value else b"\0\0\0\1\0"
    return struct.pack("!iq", 8, value)
