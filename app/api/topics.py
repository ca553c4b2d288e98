"""Topics: events are published in batches, committed before the reply, and read from any offset (step: publish)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial

from flask import Response, request
from pydantic import Field
from sqlalchemy.orm import Session

from app import auth, clock, kafka, queue
from app.api import security, submit, waiting
from app.api.accesses import NDJSON, TYPES, LineError
from app.api.pages import decode, encode
from app.api.router import Router
from app.api.schemas import MAX_ID, In, Json, Out
from app.api.topic_groups import GroupOut, shown
from app.db import access_bounds, dead_letters, topic_groups, topics
from app.db.session import session_scope
from app.db.tables import Topic
from app.db.topics import Chunk
from app.domain import access_lines, topic_lines
from app.domain.roles import Role
from app.domain.tasks import TaskName
from app.domain.topic_lines import Events
from app.domain.topics import INTAKE, WORKERS, TopicName, topic_of
from app.errors import FieldError, Invalid, UnsupportedMedia
from app.settings import get_settings

router = Router("events")
MOST_READ, MOST_READ_BYTES = 5000, 4 * 2**20


class PublishQuery(In):
    """How a batch is taken."""

    strict: bool = Field(False, description="Refuse the whole batch for one bad event.")


class Published(Out):
    """What became of a batch: its events have the offsets from `first_offset` up to, without, `next_offset`."""

    topic: str
    partition: int | None = Field(None, description="Of Kafka's, where events go through it: so are the offsets.")
    first_offset: int | None
    next_offset: int | None
    accepted: int
    duplicates: int = Field(description="All of its events, when the batch was sent before with the same key.")
    rejected: int
    errors: list[LineError]


class TopicOut(Out):
    """A log of events with its offsets and the groups that consume it."""

    name: str
    first_offset: int = Field(description="What lies before it was removed by retention.")
    next_offset: int = Field(description="Of the next event; so many were ever published.")
    bytes: int
    rejected: int
    duplicates: int
    published_at: datetime | None
    groups: list[GroupOut]


class TopicsOut(Out):
    """Every topic."""

    items: list[TopicOut]
    next_cursor: str | None = None


class EventsQuery(In):
    """From where to read, how much, and how long to wait for a first event."""

    offset: int | None = Field(None, ge=0, le=MAX_ID, description="Offset of the first event; the log's begin without.")
    cursor: str | None = Field(None, max_length=64, description="`next_cursor` of the page before.")
    limit: int = Field(100, ge=1, le=MOST_READ, description="Events of a page; of at most 4 MiB.")
    wait: int = Field(0, ge=0, le=30, description="Seconds to wait at the log's end for an event.")

    def begin(self) -> int | None:
        """The offset that is asked for. Raises Invalid."""
        if self.cursor is None:
            return self.offset
        if self.offset is not None:
            raise Invalid(errors=(FieldError("/cursor", "give an offset or a cursor, not both"),))
        text = decode(self.cursor)
        if not (text.isascii() and text.isdigit() and len(text) < 19):
            raise Invalid(errors=(FieldError("/cursor", "not a cursor of this list"),))
        return int(text)


class EventOut(Out):
    """One event."""

    offset: int
    at: datetime = Field(description="When it was received.")
    event: Json


class EventsOut(Out):
    """A page of a topic's events, in the order of their offsets."""

    items: list[EventOut]
    next_cursor: str | None = Field(description="Where the next page begins; null at the log's end.")
    next_offset: int = Field(description="The offset after the page's last event.")
    first_offset: int
    end_offset: int = Field(description="The offset of the next event to be published.")


@router.post(
    "/events/<name:topic>", Role.OPERATOR, query=PublishQuery, answer=Published, limited=False, reads=NDJSON,
    takes_key=True,
)  # fmt: skip
def publish_events(topic: str, query: PublishQuery) -> Json:
    """Appends a batch of events, NDJSON or a JSON array, plain or gzip; sent again with its key it is stored once.

    Events of `file_access` are accesses as POST /v1/accesses takes them; those of other topics any JSON objects.
    """
    name = topic_of(topic)
    if request.mimetype not in TYPES:
        raise UnsupportedMedia("send NDJSON with the header Content-Type: application/x-ndjson, or a JSON array")
    return publish(name, security.unpacked_body(get_settings().ingest_max_bytes), strict=query.strict)


def publish(name: TopicName, data: bytes, *, strict: bool = False) -> Json:
    """Appends what a request holds; the reply. Raises Invalid for a bad event where `strict` says so."""
    key = submit.idempotency_key()
    with session_scope() as session:
        found = READERS.get(name, _read_any)(session, data)
        if strict and found.errors:
            pointers = (
                FieldError(f"/{error['line'] - 1}{error['pointer']}", error["detail"]) for error in found.errors
            )
            raise Invalid(f"{len(found.errors)} events are wrong; nothing was taken", errors=tuple(pointers))
        if key:
            key = f"{auth.identity().token_id}:{key}"
        if not kafka.enabled():
            reply, groups = _append(session, name, found, key, data)
        elif found.errors:
            topics.refuse(session, name, len(found.errors))
    if kafka.enabled():
        reply, groups = _to_kafka(name, found, key), [INTAKE]
    for group in groups:
        queue.ring(TaskName.CONSUME, group)
    return reply


def _to_kafka(name: TopicName, found: Events, key: str | None) -> Json:
    counts: Json = {
        "accepted": len(found.lines),
        "duplicates": 0,
        "rejected": len(found.errors),
        "errors": found.errors,
    }
    if not found.lines:
        return {"topic": name, "partition": None, "first_offset": None, "next_offset": None, **counts}
    return {"topic": name, **vars(kafka.publish(name, found.lines, key)), **counts}


def _append(session: Session, name: TopicName, found: Events, key: str | None, sent: bytes) -> tuple[Json, list[str]]:
    counts: Json = {"accepted": 0, "duplicates": 0, "rejected": len(found.errors), "errors": found.errors}
    if not found.lines:
        end = topics.get(session, name).next_offset
        topics.refuse(session, name, len(found.errors))
        return {"topic": name, "first_offset": end, "next_offset": end, **counts}, []
    done = topics.publish(session, name, found.lines, key=key, sent=sent, rejected=len(found.errors))
    counts["duplicates" if done.is_duplicate else "accepted"] = done.next_offset - done.first_offset
    reply = {"topic": name, "first_offset": done.first_offset, "next_offset": done.next_offset, **counts}
    return reply, topic_groups.ring(session, WORKERS, name)


def _read_any(_: Session, data: bytes) -> Events:
    return topic_lines.read(data, get_settings().ingest_max_lines)


def _read_accesses(session: Session, data: bytes) -> Events:
    """Events that are accesses, checked as their consumer will; they are stored as they were sent."""
    limit = get_settings().ingest_max_lines
    given = topic_lines.read(data, limit)
    found = access_lines.read(b"\n".join(given.lines), limit, access_bounds.load(session, clock.now()))
    if not found.errors:
        return given
    events = Events([given.lines[n - 1] for n in found.numbers], [given.numbers[n - 1] for n in found.numbers])
    wrong = [{**error, "line": given.numbers[error["line"] - 1]} for error in found.errors]
    events.errors = sorted([*given.errors, *wrong], key=lambda error: error["line"])
    return events


READERS: dict[TopicName, Callable[[Session, bytes], Events]] = {TopicName.FILE_ACCESS: _read_accesses}
"""How events are read of topics whose events have a form."""


@router.get("/events", Role.VIEWER, answer=TopicsOut)
def list_topics() -> TopicsOut:
    """Every topic with its size, its offsets, its groups and how far they lag."""
    with session_scope() as session:
        rows, groups = topics.listing(session), shown(topic_groups.standings(session), dead_letters.counts(session))
    return TopicsOut(items=[_topic(row, [group for group in groups if group.topic == row.name]) for row in rows])


def _topic(row: Topic, groups: list[GroupOut]) -> TopicOut:
    names = ("name", "first_offset", "next_offset", "bytes", "rejected", "duplicates", "published_at")
    return TopicOut(**{name: getattr(row, name) for name in names}, groups=groups)


@router.get("/events/<name:topic>", Role.VIEWER, query=EventsQuery, answer=EventsOut, limited=False)
def read_events(topic: str, query: EventsQuery) -> Response:
    """A topic's events from an offset on; with `wait`, at the log's end, as soon as there is one."""
    name, begin = topic_of(topic), query.begin()
    page = _page(name, begin, query.limit)
    if query.wait and not page.chunks:
        again = partial(_page, name, page.begin, query.limit)
        page = next((now for now in waiting.reads(again, query.wait) if now.chunks), page)
    return Response(page.as_json(), content_type="application/json")


class _Page:
    """Events of a page with the log's ends; its JSON is put together of the events as they are stored."""

    def __init__(self, begin: int, chunks: Sequence[Chunk], first: int, end: int) -> None:
        self.begin, self.chunks = begin, chunks
        self._first, self._end = first, end

    def as_json(self) -> bytes:
        next_offset = self.chunks[-1].next_offset if self.chunks else self.begin
        items = b",".join(
            b'{"offset":%d,"at":"%s","event":%s}' % (offset, chunk.received_at.isoformat().encode(), line)
            for chunk in self.chunks
            for offset, line in enumerate(chunk.lines, chunk.first_offset)
        )
        cursor = b'"%s"' % encode(str(next_offset)).encode() if next_offset < self._end else b"null"
        return b'{"items":[%s],"next_cursor":%s,"next_offset":%d,"first_offset":%d,"end_offset":%d}' % (
            items, cursor, next_offset, self._first, self._end,
        )  # fmt: skip


def _page(name: TopicName, begin: int | None, limit: int) -> _Page:
    with session_scope() as session:
        row = topics.get(session, name)
        offset = row.first_offset if begin is None else begin
        return _Page(
            offset, topics.read(session, name, offset, limit, MOST_READ_BYTES), row.first_offset, row.next_offset
        )
