"""Tables of work: jobs, plans, moves, migrations, budgets."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal

from sqlalchemy import ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db.tables_base import EMPTY, NOW, Base, Json, Leased
from app.domain.states import (
    JobState,
    MigrationState,
    PlanState,
    TeeState,
)

MIGRATION_KEPT = (
    "state = 'done' and reason in ('source_kept_no_guarded_delete', 'source_kept_object_lock', 'source_kept_pinned', "
    "'source_kept_too_few_replicas', 'source_kept_version_hidden')"
)
MIGRATION_ACTIVE = "state in ('queued','waiting','copying','verified','switched','draining') and after_id is null"


class Job(Leased, Base):
    """What a user or a schedule submitted and what is polled."""

    __tablename__ = "job"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    queue: Mapped[str]
    state: Mapped[JobState] = mapped_column(server_default="queued")
    args: Mapped[Json] = mapped_column(server_default=EMPTY)
    progress: Mapped[Json] = mapped_column(server_default=EMPTY)
    result: Mapped[Json | None]
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("job.id", ondelete="CASCADE"))
    created_by: Mapped[str | None]
    request_id: Mapped[str | None]
    rung_at: Mapped[datetime | None]
    rings: Mapped[int] = mapped_column(server_default="0")
    paused_reason: Mapped[str | None]
    """Nothing more is moved for it before it is resumed."""
    resumed_at: Mapped[datetime | None]
    """Errors before this time no longer count against it."""
    __table_args__ = (
        Index("ix_job_ready", "queue", "priority", "id", postgresql_where=text("state in ('queued','waiting')")),
        Index("ix_job_lease", "lease_until", postgresql_where=text("state = 'running'")),
        Index("ix_job_parent_id", "parent_id", postgresql_where=text("parent_id is not null")),
        Index("ix_job_kind_state", "kind", "state", "id"),
    )


class IdempotencyKey(Base):
    """The stored reply to a POST that started work."""

    __tablename__ = "idempotency_key"
    token_id: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    request_sha256: Mapped[str]
    status: Mapped[int | None]
    body: Mapped[Json | None]
    location: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW, index=True)


class ScheduleSlot(Base):
    """One firing of a periodic pass: unique, so that several beats do no harm."""

    __tablename__ = "schedule_slot"
    schedule: Mapped[str] = mapped_column(primary_key=True)
    slot: Mapped[datetime] = mapped_column(primary_key=True)
    job_id: Mapped[int | None]


class QueueTick(Base):
    """The last sign of life of a queue's workers."""

    __tablename__ = "queue_tick"
    queue: Mapped[str] = mapped_column(primary_key=True)
    ticked_at: Mapped[datetime]
    worker: Mapped[str]


class Plan(Base):
    """A saved plan: what it would cost, beside its baselines, and why."""

    __tablename__ = "plan"
    id: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[int | None] = mapped_column(ForeignKey("job.id"))
    apply_job_id: Mapped[int | None] = mapped_column(ForeignKey("job.id"))
    state: Mapped[PlanState]
    version: Mapped[int] = mapped_column(server_default="1")
    scope: Mapped[Json] = mapped_column(server_default=EMPTY)
    as_of: Mapped[datetime]
    inputs: Mapped[Json] = mapped_column(server_default=EMPTY)
    cost_before: Mapped[Decimal]
    cost_after: Mapped[Decimal]
    baselines: Mapped[Json] = mapped_column(server_default=EMPTY)
    one_off: Mapped[Decimal]
    objects: Mapped[int]
    moves: Mapped[int]
    solver: Mapped[Json] = mapped_column(server_default=EMPTY)
    infeasible: Mapped[list[Json] | None]
    approved_by: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    finished_at: Mapped[datetime | None]


class Move(Base):
    """One planned change: a copy added, moved or removed, or a class changed in place."""

    __tablename__ = "move"
    id: Mapped[int] = mapped_column(primary_key=True)
    plan_id: Mapped[int] = mapped_column(ForeignKey("plan.id", ondelete="CASCADE"), index=True)
    object_id: Mapped[int] = mapped_column(ForeignKey("object.id", ondelete="CASCADE"), index=True)
    object_version: Mapped[int]
    kind: Mapped[str]
    from_site_id: Mapped[int | None] = mapped_column(ForeignKey("site.id", ondelete="SET NULL"))
    from_class: Mapped[str | None]
    to_site_id: Mapped[int | None] = mapped_column(ForeignKey("site.id", ondelete="SET NULL"))
    to_class: Mapped[str | None]
    bytes: Mapped[int]
    one_off: Mapped[Decimal]
    monthly_delta: Mapped[Decimal]
    payback_days: Mapped[float | None]
    reason: Mapped[str]
    explanation: Mapped[Json] = mapped_column(server_default=EMPTY)
    not_before: Mapped[datetime | None]
    ready_by: Mapped[datetime | None]
    useful_until: Mapped[datetime | None]


class Migration(Leased, Base):
    """The durable execution of one move; with `after_id` it starts when that other one of the same object has ended."""

    __tablename__ = "migration"
    id: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[int] = mapped_column(ForeignKey("job.id"), index=True)
    plan_id: Mapped[int | None] = mapped_column(ForeignKey("plan.id"))
    move_id: Mapped[int | None] = mapped_column(ForeignKey("move.id"))
    after_id: Mapped[int | None] = mapped_column(ForeignKey("migration.id"))
    object_id: Mapped[int] = mapped_column(ForeignKey("object.id"))
    object_version: Mapped[int]
    kind: Mapped[str]
    state: Mapped[MigrationState] = mapped_column(server_default="queued")
    from_site_id: Mapped[int | None] = mapped_column(ForeignKey("site.id", ondelete="SET NULL"))
    to_site_id: Mapped[int | None] = mapped_column(ForeignKey("site.id", ondelete="SET NULL"))
    to_class: Mapped[str | None]
    intent_id: Mapped[str] = mapped_column(server_default=text("(gen_random_uuid())::text"))
    pin: Mapped[Json | None]
    result_pin: Mapped[Json | None]
    fingerprint: Mapped[Json | None]
    """What the object was before a change of class copied it onto itself; what a source carried as it was copied."""
    sha256: Mapped[str | None]
    upload_id: Mapped[str | None]
    bytes_total: Mapped[int]
    bytes_done: Mapped[int] = mapped_column(server_default="0")
    one_off: Mapped[Decimal] = mapped_column(server_default="0")
    reserved_on: Mapped[date | None]
    reserved: Mapped[Json | None]
    """What was set aside on that day, by unit: exactly that is given back or settled."""
    restore_usd: Mapped[Decimal | None]
    """What it costs to restore the source from an archive: set aside before that is asked."""
    restored_at: Mapped[datetime | None]
    """The site has taken the request to restore, so that this is spent."""
    retries: Mapped[int] = mapped_column(server_default="0")
    mismatches: Mapped[int] = mapped_column(server_default="0")
    part_size: Mapped[int | None]
    verified_at: Mapped[datetime | None]
    switched_at: Mapped[datetime | None]
    delete_intended_at: Mapped[datetime | None]
    """From then on a delete of the source may be on its way: only the engine may end the migration."""
    not_before: Mapped[datetime | None]
    ready_by: Mapped[datetime | None]
    """What is verified later comes too late for the peak that it was made for."""
    useful_until: Mapped[datetime | None]
    """What was not begun by then is not begun any more."""
    tee: Mapped[TeeState | None]
    tee_fence: Mapped[int | None]
    """The claim under which a reader may write the copy."""
    __table_args__ = (
        Index(
            "uq_migration_active",
            "object_id",
            unique=True,
            postgresql_where=text(MIGRATION_ACTIVE),
        ),
        Index(
            "ix_migration_ready",
            "job_id",
            "priority",
            "id",
            postgresql_where=text(MIGRATION_ACTIVE),
        ),
        Index("ix_migration_after_id", "after_id", postgresql_where=text("after_id is not null")),
        Index("ix_migration_kept", "next_attempt_at", postgresql_where=text(MIGRATION_KEPT)),
        Index("ix_migration_ready_by", "ready_by", postgresql_where=text("ready_by is not null")),
        Index("ix_migration_state", "state", "id"),
        Index("ix_migration_plan_object", "plan_id", "object_id"),
        Index("ix_migration_object_id", "object_id"),
        Index("ix_migration_intent_id", "intent_id"),
    )


class MigrationPart(Base):
    """The ledger of finished parts: a killed worker's successor goes on from here."""

    __tablename__ = "migration_part"
    migration_id: Mapped[int] = mapped_column(ForeignKey("migration.id", ondelete="CASCADE"), primary_key=True)
    part_number: Mapped[int] = mapped_column(primary_key=True)
    etag: Mapped[str]
    size: Mapped[int]
    sha256: Mapped[str]


class OldVersion(Base):
    """A version that a move has left in a versioned bucket: nobody reads it, and it costs as long as it stands."""

    __tablename__ = "old_version"
    id: Mapped[int] = mapped_column(primary_key=True)
    object_id: Mapped[int] = mapped_column(ForeignKey("object.id", ondelete="CASCADE"))
    site_id: Mapped[int] = mapped_column(ForeignKey("site.id", ondelete="CASCADE"))
    migration_id: Mapped[int | None] = mapped_column(ForeignKey("migration.id", ondelete="SET NULL"))
    version_id: Mapped[str]
    pin: Mapped[Json]
    size: Mapped[int]
    left_at: Mapped[datetime] = mapped_column(server_default=NOW)
    ended_at: Mapped[datetime | None]
    """It was removed, or is left for good; before, `reason` says why it could not go yet."""
    reason: Mapped[str | None]
    __table_args__ = (
        Index("uq_old_version", "site_id", "object_id", "version_id", unique=True),
        Index("ix_old_version_standing", "id", postgresql_where=text("ended_at is null")),
    )


class Saving(Base):
    """The account of a change of class or site: $ that the object has cost since, and would have cost had it stayed."""

    __tablename__ = "saving"
    migration_id: Mapped[int] = mapped_column(ForeignKey("migration.id", ondelete="CASCADE"), primary_key=True)
    object_id: Mapped[int] = mapped_column(ForeignKey("object.id", ondelete="CASCADE"), index=True)
    cohort: Mapped[str]
    site: Mapped[str]
    from_site: Mapped[str]
    from_class: Mapped[str]
    to_class: Mapped[str]
    size: Mapped[int]
    demotion: Mapped[bool]
    days_before: Mapped[float]
    """For how long it had been in the class that it left."""
    is_owed: Mapped[bool]
    """Whether the account of the change before counts what leaving that class cost."""
    moved_on: Mapped[date]
    through: Mapped[date]
    """The last day that is counted."""
    ended_on: Mapped[date | None]
    """When it was found to lie there no more."""
    reason: Mapped[str | None]
    """Why its days are not counted yet."""
    unknown_days: Mapped[int] = mapped_column(server_default="0")
    """Days of which no access at all was ingested: they count for nothing."""
    idle_days: Mapped[float]
    fee: Mapped[Decimal | None]
    """None: its prices were never known."""
    actual: Mapped[Decimal]
    stayed: Mapped[Decimal]
    owed: Mapped[Decimal]
    """What leaving the class would cost now, or did cost."""
    __table_args__ = (Index("ix_saving_cohort_moved_on", "cohort", "moved_on"),)


class Budget(Base):
    """What moves may use in a day, reserved when claimed and settled at the switch; money in integer nano-dollars."""

    __tablename__ = "budget"
    day: Mapped[date] = mapped_column(primary_key=True)
    unit: Mapped[str] = mapped_column(primary_key=True)
    reserved: Mapped[int] = mapped_column(server_default="0")
    spent: Mapped[int] = mapped_column(server_default="0")
