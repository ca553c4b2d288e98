"""Tables of models' lives: versions, their files, what shadows say, drift, pages of batches and of uploads."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db.tables_base import EMPTY, NOW, Base, Json
from app.domain.states import ModelState


class ModelName(Base):
    """What outlives the versions of a name, so that neither a number nor an ETag is ever given twice."""

    __tablename__ = "model_name"
    name: Mapped[str] = mapped_column(primary_key=True)
    last_version: Mapped[int]
    """The newest number that was given, of a version that may be deleted."""
    deleted_revisions: Mapped[int] = mapped_column(server_default="0")
    """What deleted versions had counted, and one a deletion."""


class ModelVersion(Base):
    """One trained version of a model: what it learned from, what it was measured against, where it is in its life."""

    __tablename__ = "model_version"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    version: Mapped[int]
    state: Mapped[ModelState] = mapped_column(server_default="candidate")
    revision: Mapped[int] = mapped_column(server_default="1")
    """Grows with each change of its state."""
    algorithm: Mapped[str]
    data_from: Mapped[datetime | None]
    data_to: Mapped[datetime | None]
    rows: Mapped[Json] = mapped_column(server_default=EMPTY)
    """Rows of each part that it learned from and was measured on."""
    features: Mapped[list[str]]
    params: Mapped[Json] = mapped_column(server_default=EMPTY)
    metrics: Mapped[Json] = mapped_column(server_default=EMPTY)
    baselines: Mapped[Json] = mapped_column(server_default=EMPTY)
    importances: Mapped[Json] = mapped_column(server_default=EMPTY)
    reference: Mapped[Json] = mapped_column(server_default=EMPTY)
    """How its features were spread when it was trained, as ml/drift.py reads it."""
    libraries: Mapped[Json] = mapped_column(server_default=EMPTY)
    gate: Mapped[Json] = mapped_column(server_default=EMPTY)
    """What was found beside the champion of its time: in training, and on what happened while it was shadow."""
    parent: Mapped[int | None]
    """The version that served when it was trained."""
    replaced: Mapped[int | None]
    """The version that served before it: where a rollback leads."""
    reason: Mapped[str | None]
    job_id: Mapped[int | None]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    shadow_since: Mapped[datetime | None]
    promoted_at: Mapped[datetime | None]
    retired_at: Mapped[datetime | None]
    __table_args__ = (
        Index("uq_model_version_name_version", "name", "version", unique=True),
        Index("uq_model_version_champion", "name", unique=True, postgresql_where=text("state = 'champion'")),
        Index("uq_model_version_shadow", "name", unique=True, postgresql_where=text("state = 'shadow'")),
    )


class ModelArtifact(Base):
    """A model's bytes: `skops` (the fitted estimator), `packed` (arrays as npz, scored without sklearn) or `baseline`.

    `baseline` is the best baseline in packed form: it serves when the model's own file is refused. `calibration` is the
    curve that was renewed since the training, from `outcomes` (the training's rows that it did not learn from) and
    from what came later.
    """

    __tablename__ = "model_artifact"
    model_version_id: Mapped[int] = mapped_column(ForeignKey("model_version.id", ondelete="CASCADE"), primary_key=True)
    format: Mapped[str] = mapped_column(primary_key=True)
    sha256: Mapped[str]
    hmac: Mapped[str]
    body: Mapped[bytes]


class ShadowScore(Base):
    """What a shadow and the champion beside it said of one object of a sample at one time; gone when it is judged."""

    __tablename__ = "shadow_score"
    model_version_id: Mapped[int] = mapped_column(ForeignKey("model_version.id", ondelete="CASCADE"), primary_key=True)
    as_of: Mapped[datetime] = mapped_column(primary_key=True)
    object_id: Mapped[int] = mapped_column(ForeignKey("object.id", ondelete="CASCADE"), primary_key=True)
    said: Mapped[list[float]]
    """A probability, or the quantiles of a count."""
    said_champion: Mapped[list[float]]
    __table_args__ = (Index("ix_shadow_score_object_id", "object_id"),)


class ModelDrift(Base):
    """The newest comparison of a version's features and probabilities with what is seen now."""

    __tablename__ = "model_drift"
    model_version_id: Mapped[int] = mapped_column(ForeignKey("model_version.id", ondelete="CASCADE"), primary_key=True)
    as_of: Mapped[datetime]
    report: Mapped[Json]


class BatchPage(Base):
    """Lines of a batch of predictions as gzipped NDJSON: page 0 is what was sent, the others what came of it."""

    __tablename__ = "batch_page"
    job_id: Mapped[int] = mapped_column(ForeignKey("job.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    lines: Mapped[int]
    body: Mapped[bytes]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW, index=True)


class UploadPage(Base):
    """Gzipped lines of an upload that is still under way; when it is whole they become its job's in `batch_page`."""

    __tablename__ = "upload_page"
    upload_id: Mapped[UUID] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    lines: Mapped[int]
    body: Mapped[bytes]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW, index=True)
