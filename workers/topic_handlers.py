"""What the workers' own groups make of events: `accesses` stores those of file_access (step: ingest)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from sqlalchemy.orm import Session

from app import clock
from app.db import access_bounds, ingest, reports
from app.db.tables import Json
from app.db.topics import Chunk
from app.domain import access_lines
from app.domain.topics import MOST_LINES, TopicName


@dataclass(frozen=True)
class Refused:
    """An event that a handler cannot take, with why; the others of its batch are taken."""

    offset: int
    error: Json


Handler = Callable[[Session, Sequence[Chunk]], list[Refused]]
"""Handles consecutive events in the transaction that moves the group's position, so its effects happen once."""


def store_accesses(session: Session, chunks: Sequence[Chunk]) -> list[Refused]:
    """Adds accesses as POST /v1/accesses does; an access without an event_id gets its place in the topic as that.

    So a group that is set back counts nothing twice.
    """
    offsets = list(chain.from_iterable(range(chunk.first_offset, chunk.next_offset) for chunk in chunks))
    data = b"\n".join(chain.from_iterable(chunk.lines for chunk in chunks))
    bounds = access_bounds.load(session, clock.now())
    found = access_lines.read(data, max(MOST_LINES, len(offsets)), bounds)
    for line, number in zip(found.lines, found.numbers, strict=True):
        line.event_id = line.event_id or f"{TopicName.FILE_ACCESS}:{offsets[number - 1]}"
    if found.lines:
        written = ingest.copy_block(session, found.block(bounds.site_ids), f"topic {TopicName.FILE_ACCESS}")
        if written.writes:
            reports.follow(session, written.writes)
    return [Refused(offsets[error["line"] - 1], _invalid(error)) for error in found.errors]


def _invalid(error: Json) -> Json:
    field = {"pointer": error["pointer"], "detail": error["detail"]}
    return {"type": "invalid", "detail": f"{error['pointer']} {error['detail']}".strip(), "errors": [field]}


HANDLERS: Mapping[str, Handler] = {"accesses": store_accesses}
"""By the group's name; app/domain/topics.py has its topic."""
