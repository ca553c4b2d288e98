"""Tables of topics: durable logs of events in batches, who has consumed how far, events that could not be handled."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db.tables_base import NOW, Base, Json
from app.domain.states import DeadLetterState


class Topic(Base):
    """A log of events. Its row is locked while offsets are given out, so that they are committed in their order."""

    __tablename__ = "topic"
    name: Mapped[str] = mapped_column(primary_key=True)
    first_offset: Mapped[int] = mapped_column(server_default="0")
    """What lies before it was removed by retention."""
    next_offset: Mapped[int] = mapped_column(server_default="0")
    """That of the next event to be published, so the number of events ever published."""
    bytes: Mapped[int] = mapped_column(server_default="0")
    """Of its stored batches, as they are packed."""
    rejected: Mapped[int] = mapped_column(server_default="0")
    """Events that were refused, ever."""
    duplicates: Mapped[int] = mapped_column(server_default="0")
    """Events of batches that were sent again, ever."""
    published_at: Mapped[datetime | None]


class TopicBlock(Base):
    """A batch of events as gzipped NDJSON: one row a batch, never one an event."""

    __tablename__ = "topic_block"
    topic: Mapped[str] = mapped_column(ForeignKey("topic.name"), primary_key=True)
    base_offset: Mapped[int] = mapped_column(primary_key=True)
    """That of its first event; the others follow without a gap."""
    lines: Mapped[int]
    size: Mapped[int]
    """Bytes, unpacked."""
    packed: Mapped[int]
    """Bytes, as it is stored."""
    body: Mapped[bytes]
    key: Mapped[str | None]
    """The Idempotency-Key that it was sent with: a batch that is sent again is stored once."""
    sha256: Mapped[str | None]
    """Of what was sent with the key."""
    received_at: Mapped[datetime] = mapped_column(server_default=NOW)
    __table_args__ = (
        Index("uq_topic_block_key", "topic", "key", unique=True, postgresql_where=text("key is not null")),
    )


class TopicGroup(Base):
    """How far a group of consumers has handled a topic, and which of its members is at it under a lease and a fence."""

    __tablename__ = "topic_group"
    name: Mapped[str] = mapped_column(primary_key=True)
    topic: Mapped[str] = mapped_column(ForeignKey("topic.name"), primary_key=True)
    partition: Mapped[int] = mapped_column(primary_key=True, server_default="0")
    """0, unless the log is Kafka's."""
    position: Mapped[int] = mapped_column(server_default="0")
    """The offset of the next event to be handled."""
    end_offset: Mapped[int | None]
    """Where a log of Kafka's ended when it was last read."""
    member: Mapped[str | None]
    lease_until: Mapped[datetime | None]
    fence: Mapped[int] = mapped_column(server_default="0")
    attempts: Mapped[int] = mapped_column(server_default="0")
    """Failures since the position last moved."""
    suspect_until: Mapped[int | None]
    """Some event from the position up to this offset could not be handled: it is searched for by halves."""
    next_attempt_at: Mapped[datetime] = mapped_column(server_default=NOW)
    error: Mapped[Json | None]
    handled: Mapped[int] = mapped_column(server_default="0")
    skipped: Mapped[int] = mapped_column(server_default="0")
    """Events that retention removed before they were handled."""
    batches: Mapped[int] = mapped_column(server_default="0")
    failures: Mapped[int] = mapped_column(server_default="0")
    busy_s: Mapped[float] = mapped_column(server_default="0")
    rung_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    updated_at: Mapped[datetime] = mapped_column(server_default=NOW)


class DeadLetter(Base):
    """An event that a group could not handle: it waits for a person while the group goes on."""

    __tablename__ = "dead_letter"
    id: Mapped[int] = mapped_column(primary_key=True)
    group_name: Mapped[str]
    topic: Mapped[str] = mapped_column(ForeignKey("topic.name"))
    partition: Mapped[int] = mapped_column(server_default="0")
    offset: Mapped[int]
    event: Mapped[bytes]
    """As it was published, whatever it is."""
    state: Mapped[DeadLetterState] = mapped_column(server_default="dead")
    error: Mapped[Json]
    attempts: Mapped[int] = mapped_column(server_default="1")
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    updated_at: Mapped[datetime] = mapped_column(server_default=NOW)
    __table_args__ = (
        Index("uq_dead_letter_event", "group_name", "topic", "partition", "offset", unique=True),
        Index("ix_dead_letter_open", "state", "id", postgresql_where=text("state in ('dead', 'retry')")),
    )
