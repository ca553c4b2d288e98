"""Tables of what is watched: alerts, audit, tokens, samples, route decisions, faults, counters."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db.tables_base import BYTEWISE, EMPTY, NOW, Base, Json
from app.domain.states import (
    AlertState,
)


class Alert(Base):
    """Something that a person should know; one open alert a kind and subject."""

    __tablename__ = "alert"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    subject: Mapped[str] = mapped_column(server_default="")
    severity: Mapped[str]
    message: Mapped[str]
    data: Mapped[Json] = mapped_column(server_default=EMPTY)
    state: Mapped[AlertState] = mapped_column(server_default="active")
    count: Mapped[int] = mapped_column(server_default="1")
    first_at: Mapped[datetime] = mapped_column(server_default=NOW)
    last_at: Mapped[datetime] = mapped_column(server_default=NOW)
    acked_by: Mapped[str | None]
    resolved_at: Mapped[datetime | None]
    __table_args__ = (
        Index("uq_alert_open", "kind", "subject", unique=True, postgresql_where=text("state <> 'resolved'")),
    )


class Audit(Base):
    """Who changed what; only ever appended to."""

    __tablename__ = "audit"
    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(server_default=NOW, index=True)
    actor: Mapped[str]
    action: Mapped[str]
    subject: Mapped[str]
    data: Mapped[Json] = mapped_column(server_default=EMPTY)
    request_id: Mapped[str | None]


class Token(Base):
    """A bearer token; only its SHA-256 is kept."""

    __tablename__ = "token"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    prefix: Mapped[str]
    sha256: Mapped[str] = mapped_column(unique=True)
    role: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class EndpointSample(Base):
    """One observation of a site: by a probe, a routed read's outcome or a user's own monitoring."""

    __tablename__ = "endpoint_sample"
    id: Mapped[int] = mapped_column(primary_key=True)
    site_id: Mapped[int] = mapped_column(ForeignKey("site.id", ondelete="CASCADE"))
    ts: Mapped[datetime]
    source: Mapped[str]
    ok: Mapped[bool]
    latency_ms: Mapped[float | None]
    load: Mapped[float | None]
    in_flight: Mapped[int | None]
    error: Mapped[str | None]
    __table_args__ = (Index("ix_endpoint_sample_site_id_ts", "site_id", "ts"),)


class RouteDecision(Base):
    """Which replica a read was sent to, why, and what came of it."""

    __tablename__ = "route_decision"
    id: Mapped[str] = mapped_column(primary_key=True)
    ts: Mapped[datetime] = mapped_column(server_default=NOW, index=True)
    object_id: Mapped[int]
    site_id: Mapped[int]
    reason: Mapped[str]
    predicted_ms: Mapped[float | None]
    alternatives: Mapped[list[Json]]
    latency_ms: Mapped[float | None]
    status: Mapped[int | None]
    bytes: Mapped[int | None]
    quality_score: Mapped[float | None]
    outcome_at: Mapped[datetime | None]


class Fault(Base):
    """An injected fault of a site, always with an end."""

    __tablename__ = "fault"
    site_id: Mapped[int] = mapped_column(ForeignKey("site.id", ondelete="CASCADE"), primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    probability: Mapped[float]
    latency_ms: Mapped[float | None]
    status: Mapped[int | None]
    """What a throttled request is answered."""
    expires_at: Mapped[datetime]


class Finding(Base):
    """Something in which a site and the catalogue differ, found by a scrub; open until one no longer finds it."""

    __tablename__ = "finding"
    id: Mapped[int] = mapped_column(primary_key=True)
    site_id: Mapped[int] = mapped_column(ForeignKey("site.id", ondelete="CASCADE"))
    key: Mapped[str] = mapped_column(BYTEWISE)
    kind: Mapped[str]
    why: Mapped[str]
    size: Mapped[int | None]
    intent: Mapped[str | None]
    """The mark of the migration that wrote it."""
    pin: Mapped[Json] = mapped_column(server_default=EMPTY)
    """What stands at the site."""
    first_seen_at: Mapped[datetime] = mapped_column(server_default=NOW)
    last_seen_at: Mapped[datetime] = mapped_column(server_default=NOW)
    resolved_at: Mapped[datetime | None]
    __table_args__ = (
        Index("uq_finding_open", "site_id", "key", "kind", unique=True, postgresql_where=text("resolved_at is null")),
    )


class ScrubLine(Base):
    """One key in a scrub that is under way: as the first dump of the catalogue had it, and as the site listed it."""

    __tablename__ = "scrub_line"
    job_id: Mapped[int] = mapped_column(ForeignKey("job.id", ondelete="CASCADE"), primary_key=True)
    key: Mapped[str] = mapped_column(BYTEWISE, primary_key=True)
    known: Mapped[Json | None]
    listed: Mapped[Json | None]


class Counter(Base):
    """A total that must survive every process, such as simulate_events_total."""

    __tablename__ = "counter"
    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[int] = mapped_column(server_default="0")
