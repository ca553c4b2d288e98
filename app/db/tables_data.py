"""Tables of what is known: sites, prices, objects, replicas, accesses, features, predictions, policies."""

from __future__ import annotations

from datetime import date, datetime

from sqlalchemy import ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db.tables_base import BYTEWISE, EMPTY, NOW, Base, Json
from app.domain.states import (
    ObjectState,
    ReplicaState,
    SiteState,
)


class PriceBook(Base):
    """A dated list of prices; `book` has the form that app/domain/price_documents.py reads."""

    __tablename__ = "price_book"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    source: Mapped[str]
    as_of: Mapped[date]
    book: Mapped[Json]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)


class Site(Base):
    """One bucket at an S3 endpoint."""

    __tablename__ = "site"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    provider: Mapped[str]
    region: Mapped[str]
    endpoint_url: Mapped[str]
    bucket: Mapped[str]
    access_key: Mapped[str]
    secret_key_encrypted: Mapped[bytes]
    classes: Mapped[list[str]]
    latency_ms: Mapped[float]
    capacity_bytes: Mapped[int | None]
    """What all copies there may take together; None: no limit."""
    max_request_rate: Mapped[float | None]
    """Reads a second that plans give it at most, on the average of a day; None: no limit."""
    state: Mapped[SiteState] = mapped_column(server_default="probing")
    reason: Mapped[str | None]
    capabilities: Mapped[Json] = mapped_column(server_default=EMPTY)
    probed_at: Mapped[datetime | None]
    encryption_declared: Mapped[bool] = mapped_column(server_default="false")
    allow_unguarded_delete: Mapped[bool] = mapped_column(server_default="false")
    kms_keys: Mapped[Json] = mapped_column(server_default=EMPTY)
    """Keys of KMS at other sites and what stands for each here: a key, or `default` for the bucket's own encryption."""
    price_book_id: Mapped[int | None] = mapped_column(ForeignKey("price_book.id"))
    version: Mapped[int] = mapped_column(server_default="1")
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)


class Object(Base):
    """A key in the catalogue; `version` is compared and swapped by every change of what is to be read."""

    __tablename__ = "object"
    id: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(BYTEWISE, unique=True)
    state: Mapped[ObjectState] = mapped_column(server_default="unknown")
    version: Mapped[int] = mapped_column(server_default="1")
    size: Mapped[int | None]
    tags: Mapped[Json] = mapped_column(server_default=EMPTY)
    tier: Mapped[str | None]
    moved_at: Mapped[datetime | None]
    written_at: Mapped[datetime] = mapped_column(server_default=NOW)
    """When the catalogue learned of what its owner wrote last."""
    first_seen_at: Mapped[datetime] = mapped_column(server_default=NOW)
    gone_at: Mapped[datetime | None]
    """Since when it is gone; None where it is not."""


class ObjectFormer(Base):
    """What an object was until its owner wrote it anew: written when its size changes, and when it was gone."""

    __tablename__ = "object_former"
    object_id: Mapped[int] = mapped_column(ForeignKey("object.id", ondelete="CASCADE"), primary_key=True)
    until: Mapped[datetime] = mapped_column(primary_key=True)
    size: Mapped[int | None]
    gone_at: Mapped[datetime | None]
    """Since when it had been gone by then; None where it was there."""
    __table_args__ = (Index("ix_object_former_until", "until"),)


class Replica(Base):
    """One copy of an object. `pin` is what a HEAD answered: etag, version_id, size, last_modified, storage_class."""

    __tablename__ = "replica"
    id: Mapped[int] = mapped_column(primary_key=True)
    object_id: Mapped[int] = mapped_column(ForeignKey("object.id", ondelete="CASCADE"))
    site_id: Mapped[int] = mapped_column(ForeignKey("site.id", ondelete="CASCADE"), index=True)
    storage_class: Mapped[str]
    state: Mapped[ReplicaState]
    is_origin: Mapped[bool] = mapped_column(server_default="false")
    object_version: Mapped[int]
    size: Mapped[int]
    pin: Mapped[Json] = mapped_column(server_default=EMPTY)
    sha256: Mapped[str | None]
    class_since: Mapped[datetime] = mapped_column(server_default=NOW)
    verified_at: Mapped[datetime | None]
    checked_at: Mapped[datetime | None]
    """When its bytes were last found to be the recorded ones."""
    seen_at: Mapped[datetime] = mapped_column(server_default=NOW)
    absent_scans: Mapped[int] = mapped_column(server_default="0")
    draining_until: Mapped[datetime | None]
    removing: Mapped[str | None]
    """Which job, and with which fence, has it in state removing."""
    deleted_at: Mapped[datetime | None]
    __table_args__ = (Index("uq_replica_object_id_site_id", "object_id", "site_id", unique=True),)


class AccessBatch(Base):
    """One ingested block; rolled up exactly once."""

    __tablename__ = "access_batch"
    id: Mapped[int] = mapped_column(primary_key=True)
    accepted: Mapped[int]
    source: Mapped[str | None]
    ts_min: Mapped[datetime | None]
    ts_max: Mapped[datetime | None]
    received_at: Mapped[datetime] = mapped_column(server_default=NOW)
    rolled_up_at: Mapped[datetime | None]
    __table_args__ = (Index("ix_access_batch_open", "id", postgresql_where=text("rolled_up_at is null")),)


class Access(Base):
    """One read or write of an object; partitioned by day of `ts`, pruned by retention.

    Each index costs as much to write as the row itself: there is none but what finds duplicates, and the ranges of
    batches and times, which cost next to nothing since both grow as rows are added.
    """

    __tablename__ = "access"
    ts: Mapped[datetime] = mapped_column()
    batch_id: Mapped[int] = mapped_column()
    object_id: Mapped[int] = mapped_column()
    op: Mapped[str]
    site_id: Mapped[int | None]
    bytes: Mapped[int] = mapped_column(server_default="0")
    status: Mapped[int | None]
    event_id: Mapped[str | None] = mapped_column(BYTEWISE)
    region: Mapped[str | None]
    client: Mapped[str | None]
    partial_upload: Mapped[bool] = mapped_column(server_default="false")
    __table_args__ = (
        Index("uq_access_ts_event_id", "ts", "event_id", unique=True, postgresql_where=text("event_id is not null")),
        Index("ix_access_batch_id_ts", "batch_id", "ts", postgresql_using="brin"),
        {"postgresql_partition_by": "RANGE (ts)"},
    )
    __mapper_args__ = {"primary_key": (batch_id, ts, object_id, event_id)}  # noqa: RUF012 - as SQLAlchemy reads it


class AccessHour(Base):
    """Accesses of an object in one hour by readers of one region."""

    __tablename__ = "access_hour"
    object_id: Mapped[int] = mapped_column(primary_key=True)
    hour: Mapped[datetime] = mapped_column(primary_key=True)
    region: Mapped[str] = mapped_column(primary_key=True, server_default="")
    reads: Mapped[int]
    writes: Mapped[int]
    bytes_read: Mapped[int]
    partial_uploads: Mapped[int]
    last_ts: Mapped[datetime]
    __table_args__ = (Index("ix_access_hour_hour", "hour", postgresql_using="brin"),)


class Feature(Base):
    """The newest feature vector of an object, in the order of ml.features.NAMES."""

    __tablename__ = "feature"
    object_id: Mapped[int] = mapped_column(ForeignKey("object.id", ondelete="CASCADE"), primary_key=True)
    as_of: Mapped[datetime]
    values: Mapped[list[float]]


class Prediction(Base):
    """The newest prediction of an object; written only when it changed."""

    __tablename__ = "prediction"
    object_id: Mapped[int] = mapped_column(ForeignKey("object.id", ondelete="CASCADE"), primary_key=True)
    model_version_id: Mapped[int] = mapped_column(ForeignKey("model_version.id"))
    as_of: Mapped[datetime]
    p_raw: Mapped[float]
    p_hot: Mapped[float]
    p_low: Mapped[float]
    p_high: Mapped[float]
    tier: Mapped[str]
    reads_30d: Mapped[float]
    bytes_30d: Mapped[float]
    demand_version_id: Mapped[int | None] = mapped_column(ForeignKey("model_version.id"))
    """Of the reads and bytes; None where no version of the demand model serves and Gamma–Poisson says them."""
    reads_1d: Mapped[float | None]
    bytes_1d: Mapped[float | None]
    reads_7d: Mapped[float | None]
    bytes_7d: Mapped[float | None]
    reads_30d_low: Mapped[float | None]
    """With 10 % they are fewer."""
    reads_30d_high: Mapped[float | None]
    """With 10 % they are more."""


class ObjectOpinion(Base):
    """What the voters last said of an object, by site, as app/db/opinions.py reads it; written only when it changed."""

    __tablename__ = "object_opinion"
    object_id: Mapped[int] = mapped_column(ForeignKey("object.id", ondelete="CASCADE"), primary_key=True)
    model_version_id: Mapped[int] = mapped_column(ForeignKey("model_version.id"))
    as_of: Mapped[datetime]
    ballots: Mapped[Json]
    back_at: Mapped[datetime | None]
    """When reads last brought it back that had made a colder class too dear."""


class Policy(Base):
    """A version of a policy document; the highest version of a name is in force."""

    __tablename__ = "policy"
    name: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    document: Mapped[Json]
    created_by: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
