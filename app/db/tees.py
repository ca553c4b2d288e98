"""Copies that readers write: a planned move's lease given to a reader, its write allowed, its outcome taken."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from app.db import audit, jobs, migration_limits, migration_steps, migration_work
from app.db.jobs import Bell
from app.db.migration_work import Work
from app.db.migrations import READER, Claim, ready
from app.db.tables import Job, Migration, Object
from app.domain import tees
from app.domain.migrations import COPIES
from app.domain.pins import Pin
from app.domain.sites import SiteAddress
from app.domain.states import JOB_FINAL, MigrationState, TeeState
from app.errors import Conflict, ForetideError, NotFound

WRITING = ", writing"
"""What `claimed_by` ends with once the write was allowed, which it is once."""
UNBEGUN = (MigrationState.QUEUED, MigrationState.WAITING)


@dataclass(frozen=True)
class Limits:
    """What readers may write: objects of so many bytes at most, within so many seconds; attempts as workers have."""

    size: int
    lease_s: float
    attempts: int


@dataclass(frozen=True)
class Offer:
    """A move that a reader may make the copy of, until its lease runs out."""

    migration_id: int
    fence: int
    expires_at: datetime


def offer(session: Session, key: str, source_id: int, limits: Limits, reader: str) -> Offer | None:
    """Gives a reader of the key at a site the lease of its planned copy from there, if there is one to be had.

    The move is begun as a worker would: pinned to what the catalogue knows, its budget set aside, the attempt counted.
    Nothing is waited for, and each move is offered once.
    """
    wanted = (Object.key == key, Migration.object_id == Object.id, Migration.tee.is_(None), *ready())
    if session.scalar(select(Migration.id).where(*wanted).limit(1)) is None:
        return None
    free = select(Object.id).where(Object.key == key).with_for_update(key_share=True, skip_locked=True)
    object_id = session.scalar(free)
    if object_id is None:
        return None
    row = session.scalar(
        select(Migration)
        .where(
            *ready(),
            Migration.object_id == object_id,
            Migration.from_site_id == source_id,
            Migration.kind.in_(COPIES),
            Migration.state.in_(UNBEGUN),
            Migration.tee.is_(None),
            Migration.upload_id.is_(None),
            Migration.cancel_requested.is_(False),
            Migration.attempts < limits.attempts - 1,
        )
        .with_for_update(key_share=True, skip_locked=True)
    )
    if row is None or not _may_start(session, row):
        return None
    try:
        _begin(session, row, limits)
    except ForetideError:  # the worker meets it too, and tells of it
        return None
    return _lease(session, row.id, limits.lease_s, reader)


def _may_start(session: Session, row: Migration) -> bool:
    job = session.get_one(Job, row.job_id)
    if job.state in JOB_FINAL or job.cancel_requested or migration_limits.why_paused(session, row.job_id):
        return False
    return row.fence > 0 or migration_limits.room(session, row.job_id, migration_limits.load(session)) != 0


def _begin(session: Session, row: Migration, limits: Limits) -> None:
    (work,) = migration_work.load(session, [Claim(row.id, row.fence)])
    pin = work.facts.source_replica.pin if work.facts.source_replica else None
    tees.check(work.facts, pin, work.source_sha256, limits.size)
    if pin is not None:
        migration_steps.only(migration_steps.begin(session, [(work, pin)]))


def _lease(session: Session, migration_id: int, lease_s: float, reader: str) -> Offer:
    taken = (
        update(Migration)
        .where(Migration.id == migration_id)
        .values(
            fence=Migration.fence + 1,
            lease_until=func.now() + timedelta(seconds=lease_s),
            claimed_by=f"{READER}{reader}",
            started_at=func.coalesce(Migration.started_at, func.now()),
            tee=TeeState.OFFERED,
            tee_fence=Migration.fence + 1,
        )
        .returning(Migration.fence, func.now() + timedelta(seconds=lease_s))
    )
    fence, expires_at = session.execute(taken.execution_options(synchronize_session=False)).one()
    return Offer(migration_id, fence, expires_at)


@dataclass(frozen=True)
class Write:
    """Where a reader writes the copy, and as what."""

    key: str
    destination: SiteAddress
    to_class: str
    """As the destination's server calls it."""
    intent: str
    checks_sha256: bool
    expires_at: datetime


def allow(session: Session, migration_id: int, fence: int, read: tuple[str, int], lease_s: float, actor: str) -> Write:
    """Lets the reader that has the lease write what it has read, and gives it that long from now.

    read: ETag and size of what it was answered. Raises NotFound, or Conflict when the lease is over or another's, was
    prolonged already, or the reader has read something else than was pinned.
    """
    row = _leased(session, migration_id, fence)
    if row.claimed_by != f"{READER}{actor}":
        raise Conflict(f"the write of migration {migration_id} was allowed already, or offered to another reader")
    pin = Pin.from_json(row.pin)
    if pin is None or read != (pin.etag, pin.size):
        raise Conflict("what was read is not what the move has pinned")
    row.lease_until, row.claimed_by = func.now() + timedelta(seconds=lease_s), f"{READER}{actor}{WRITING}"
    session.flush()
    (work,) = migration_work.load(session, [Claim(migration_id, fence)])
    to_class = work.facts.to_class or "STANDARD"
    told = {"key": work.key, "to": work.destination.name, "class": to_class, "fence": fence}
    audit.append(session, actor, "migration.tee", f"migration {migration_id}", told)
    session.refresh(row)
    return Write(
        work.key, work.destination, dict(work.destination.class_names).get(to_class, to_class), work.intent,
        bool(work.facts.destination and work.facts.destination.capabilities.checksum_sha256),
        row.lease_until or work.now,
    )  # fmt: skip


def told(session: Session, migration_id: int, fence: int, outcome: TeeState, detail: str, actor: str) -> Bell:
    """Takes what the reader says of its write, and gives the move back to the workers. Raises NotFound or Conflict."""
    row = _leased(session, migration_id, fence)
    row.tee, row.lease_until, row.claimed_by, row.next_attempt_at = outcome, None, None, func.now()
    data = {"outcome": outcome, "detail": detail, "fence": fence}
    audit.append(session, actor, "migration.teed", f"migration {migration_id}", data)
    return jobs.bell(session.get_one(Job, row.job_id))


def settled(session: Session, work: Work, outcome: TeeState) -> Work:
    """What the engine has found of a reader's write. Raises LeaseLost when the claim is another's."""
    migration_work.mine(session, work.claim).tee = outcome
    return replace(work, tee=outcome)


def _leased(session: Session, migration_id: int, fence: int) -> Migration:
    row = session.scalar(select(Migration).where(Migration.id == migration_id).with_for_update(key_share=True))
    if row is None:
        raise NotFound(f"there is no migration {migration_id}")
    is_held = row.lease_until is not None and row.lease_until > (session.scalar(select(func.now())) or row.lease_until)
    if not is_held or (row.tee, row.tee_fence, row.fence) != (TeeState.OFFERED, fence, fence):
        raise Conflict(f"the lease of migration {migration_id} is over: a worker copies")
    return row
