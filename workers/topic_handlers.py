"""What the workers' own groups make of events: `accesses` and `metrics` store them (steps: ingest, metrics)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from sqlalchemy.orm import Session

from app import clock
from app.db import access_bounds, ingest, reports
from app.db.tables import Json
from app.db.topics import Chunk
from app.domain import access_lines
from app.domain.metrics import Samples
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


def store_metrics(session: Session, chunks: Sequence[Chunk]) -> list[Refused]:
    """Adds samples as POST /v1/metrics does; one without a time has that at which it was received."""
    from app.db import metric_parts
    from app.domain import metric_lines

    refused: list[Refused] = []
    found, offsets = Samples([], [], [], [], []), list[int]()
    for chunk in chunks:
        data, now = b"\n".join(chunk.lines), metric_parts.microseconds(chunk.received_at)
        read = metric_lines.read(data, max(MOST_LINES, len(chunk.lines)), now)
        refused += [Refused(chunk.first_offset + error["line"] - 1, _invalid(error)) for error in read.errors]
        found = _joined(found, read.samples)
        offsets += [chunk.first_offset + number - 1 for number in read.numbers]
    if offsets:
        items = found.item if any(found.item or ()) else None  # a top list is kept only of what has items
        added = metric_parts.add(session, replace(found, item=items), now=clock.now())
        refused += [Refused(offsets[each.row], _invalid(vars(each))) for each in added.refused]
    return refused


def _joined(first: Samples, more: Samples) -> Samples:
    return Samples(
        [*first.name, *more.name],
        [*first.value, *more.value],
        [*first.ts, *more.ts],
        _texts(first.group, len(first.name)) + _texts(more.group, len(more.name)),
        _texts(first.item, len(first.name)) + _texts(more.item, len(more.name)),
    )


def _texts(given: Sequence[str | None] | None, length: int) -> list[str | None]:
    return [None] * length if given is None else list(given)


def _invalid(error: Json) -> Json:
    field = {"pointer": error["pointer"], "detail": error["detail"]}
    return {"type": "invalid", "detail": f"{error['pointer']} {error['detail']}".strip(), "errors": [field]}


HANDLERS: dict[str, Handler] = {"accesses": store_accesses, "metrics": store_metrics}
"""By the group's name; app/domain/topics.py has its topic."""
