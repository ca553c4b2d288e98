"""Topics: durable logs of events in batches, appended in the order of their offsets, read from any offset, pruned.

Offsets are given out under the lock of the topic's row, which is held until the commit. So whoever sees an event sees
every event before it, and a reader that goes on from the last offset it saw never passes one that is committed later.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Select, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.db.tables import Topic, TopicBlock, TopicGroup
from app.domain.topics import WORKERS, TopicName
from app.errors import Invalid, OffsetGone

GZIP = 16 + zlib.MAX_WBITS
AHEAD = 256
"""Batches that one read looks at."""


@dataclass(frozen=True)
class Published:
    """Where a batch stands in its topic; is_duplicate: it stood there already."""

    first_offset: int
    next_offset: int
    is_duplicate: bool = False


@dataclass(frozen=True)
class Chunk:
    """Consecutive events of one batch, each a line of JSON."""

    first_offset: int
    received_at: datetime
    lines: Sequence[bytes]

    @property
    def next_offset(self) -> int:
        """The offset after its last event."""
        return self.first_offset + len(self.lines)


def publish(
    session: Session,
    name: TopicName,
    lines: Sequence[bytes],
    *,
    key: str | None = None,
    sent: bytes = b"",
    rejected: int = 0,
) -> Published:
    """Appends a batch of at least one event in the caller's transaction, each a line of JSON without its end.

    key: a batch that was stored with it before is not stored again; sent: what was sent with it, by which it is known
    again; rejected: events of the batch that were refused before. Raises Invalid for a key that was another batch's.
    """
    data = b"\n".join(lines)
    body = pack(data)
    topic = _locked(session, name)
    sha256 = hashlib.sha256(sent).hexdigest() if key else None
    if key and (known := _known(session, name, key)):
        if known.sha256 != sha256:
            raise Invalid("this Idempotency-Key was used for another batch", reason="idempotency_key_reused")
        topic.duplicates += known.lines
        return Published(known.base_offset, known.base_offset + known.lines, is_duplicate=True)
    first = topic.next_offset
    session.add(
        TopicBlock(
            topic=name, base_offset=first, lines=len(lines), size=len(data), packed=len(body), body=body, key=key,
            sha256=sha256, received_at=func.clock_timestamp(),
        )
    )  # fmt: skip
    topic.next_offset, topic.bytes, topic.rejected = (
        first + len(lines),
        topic.bytes + len(body),
        topic.rejected + rejected,
    )
    topic.published_at = func.clock_timestamp()
    session.flush()
    return Published(first, first + len(lines))


def refuse(session: Session, name: TopicName, rejected: int) -> None:
    """Counts events that were refused, where none of their batch was taken."""
    session.execute(update(Topic).where(Topic.name == name).values(rejected=Topic.rejected + rejected))


def _locked(session: Session, name: TopicName) -> Topic:
    get(session, name)
    chosen = select(Topic).where(Topic.name == name).with_for_update(key_share=True)
    return session.scalars(chosen.execution_options(populate_existing=True)).one()


def _known(session: Session, name: TopicName, key: str) -> TopicBlock | None:
    return session.scalar(select(TopicBlock).where(TopicBlock.topic == name, TopicBlock.key == key))


def get(session: Session, name: TopicName) -> Topic:
    """The topic; its row is made when it is first asked for."""
    topic = session.get(Topic, name)
    if topic is None:
        _make(session)
        topic = session.get_one(Topic, name)
    return topic


def _make(session: Session) -> None:
    """Every topic and the workers' own groups, as far as they are missing."""
    session.execute(insert(Topic).on_conflict_do_nothing(), [{"name": name} for name in TopicName])
    groups = [{"name": name, "topic": topic} for name, topic in WORKERS.items()]
    session.execute(insert(TopicGroup).on_conflict_do_nothing(), groups)


def listing(session: Session) -> Sequence[Topic]:
    """Every topic, by name."""
    get(session, TopicName.ANALYTICS)
    return session.scalars(select(Topic).order_by(Topic.name)).all()


def read(session: Session, name: TopicName, offset: int, lines: int, size: int) -> list[Chunk]:
    """Events from an offset on, at most so many, and of at most so many bytes unless the first batch has more.

    Nothing at the log's end. Raises OffsetGone for what retention has removed, Invalid for what is not there yet.
    """
    topic = get(session, name)
    if offset < topic.first_offset:
        raise OffsetGone(
            f"offset {offset} of topic {name} was removed by retention; it goes on at {topic.first_offset}"
        )
    if offset > topic.next_offset:
        raise Invalid(f"topic {name} ends at offset {topic.next_offset}", reason="offset_ahead")
    if offset == topic.next_offset:
        return []
    chunks: list[Chunk] = []
    for row in session.execute(_blocks(name, offset, offset + lines, size)):
        first, skipped = max(offset, row.base_offset), max(0, offset - row.base_offset)
        taken = unpack(row.body, row.size).split(b"\n")[skipped : skipped + lines]
        chunks.append(Chunk(first, row.received_at, taken))
        lines -= len(taken)
    return chunks


def between(session: Session, name: TopicName, since: datetime | None, until: datetime | None) -> tuple[int, int]:
    """The first offset and that after the last of the batches that came in [since, until), as far as they are kept."""
    mine = [TopicBlock.topic == name]
    mine += [TopicBlock.received_at >= since] if since else []
    mine += [TopicBlock.received_at < until] if until else []
    ends = select(func.min(TopicBlock.base_offset), func.max(TopicBlock.base_offset + TopicBlock.lines)).where(*mine)
    first, end = session.execute(ends).one()
    return (0, 0) if first is None or end is None else (int(first), int(end))


def _blocks(name: TopicName, offset: int, until: int, size: int) -> Select[int, datetime, int, bytes]:
    """The batches that hold the offsets, as far as they are not too large together."""
    begin = select(func.max(TopicBlock.base_offset)).where(TopicBlock.topic == name, TopicBlock.base_offset <= offset)
    before = func.sum(TopicBlock.size).over(order_by=TopicBlock.base_offset) - TopicBlock.size
    ahead = (
        select(TopicBlock.base_offset, before.label("before"))
        .where(TopicBlock.topic == name, TopicBlock.base_offset.between(begin.scalar_subquery(), until - 1))
        .order_by(TopicBlock.base_offset)
        .limit(AHEAD)
        .subquery()
    )
    return (
        select(TopicBlock.base_offset, TopicBlock.received_at, TopicBlock.size, TopicBlock.body)
        .join(ahead, ahead.c.base_offset == TopicBlock.base_offset)
        .where(TopicBlock.topic == name, (ahead.c.before == 0) | (ahead.c.before + TopicBlock.size <= size))
        .order_by(TopicBlock.base_offset)
    )


def prune(session: Session, name: TopicName, keep: timedelta, most_bytes: int) -> int:
    """Removes whole batches from the log's begin: those past an age, and the oldest of more than so many bytes.

    Returns how many events were removed. The log's end stays where it is.
    """
    topic = _locked(session, name)
    kept = func.sum(TopicBlock.packed).over(order_by=TopicBlock.base_offset.desc()).label("kept")
    ranked = select(TopicBlock.base_offset, TopicBlock.lines, TopicBlock.received_at, kept)
    c = ranked.where(TopicBlock.topic == name).subquery().c
    old = (c.received_at < func.now() - keep) | (c.kept > most_bytes)
    until = session.scalar(select(func.max(c.base_offset + c.lines)).where(old))
    if until is None:
        return 0
    gone = (
        delete(TopicBlock).where(TopicBlock.topic == name, TopicBlock.base_offset < until).returning(TopicBlock.packed)
    )
    topic.bytes -= sum(session.scalars(gone))
    removed, topic.first_offset = until - topic.first_offset, until
    session.flush()
    return int(removed)


def pack(data: bytes) -> bytes:
    """Lines as they are stored: the quickest gzip."""
    packer = zlib.compressobj(1, zlib.DEFLATED, GZIP)
    return packer.compress(data) + packer.flush()


def unpack(body: bytes, size: int) -> bytes:
    """The same, unpacked: never more than the size that was noted."""
    return zlib.decompressobj(GZIP).decompress(body, max(1, size))
