"""Tables of metrics: streams, their samples by bucket, and items by weight."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Index
from sqlalchemy.orm import Mapped, mapped_column

from app.db.tables_base import BYTEWISE, NOW, Base, Json


class MetricStream(Base):
    """A metric's name and a group that have samples; gone with its last sample."""

    __tablename__ = "metric_stream"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(BYTEWISE)
    label: Mapped[str] = mapped_column(BYTEWISE)
    """The group; empty where samples have none."""
    expired: Mapped[int] = mapped_column(server_default="0")
    """Samples that are no longer kept."""
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    __table_args__ = (Index("uq_metric_stream_name_label", "name", "label", unique=True),)


class MetricPart(Base):
    """Samples of a stream and bucket that came together, or were merged: as app/domain/metric_moments.py counts them.

    Only ever added and deleted, so that writers never wait for each other; readers merge.
    """

    __tablename__ = "metric_part"
    stream_id: Mapped[int] = mapped_column(primary_key=True)
    bucket: Mapped[datetime] = mapped_column(primary_key=True)
    """Its start."""
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    count: Mapped[int]
    base: Mapped[float]
    total: Mapped[float]
    m2: Mapped[float]
    low: Mapped[float]
    high: Mapped[float]
    sketched: Mapped[bool]
    body: Mapped[bytes]
    """The values, or their sketch, as app/domain/metric_sketches.py stores them."""
    __table_args__ = (Index("ix_metric_part_bucket", "bucket"),)


class MetricItems(Base):
    """The heaviest items of a metric in a bucket, of what came together or was merged."""

    __tablename__ = "metric_items"
    name: Mapped[str] = mapped_column(BYTEWISE, primary_key=True)
    bucket: Mapped[datetime] = mapped_column(primary_key=True)
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    weights: Mapped[Json]
    error: Mapped[float]
