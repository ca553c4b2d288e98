"""Migrations as work: claimed in batches under leases and fences, rung, seen, cancelled, retried."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, case, false, func, or_, select, tuple_, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased

from app.db import audit, jobs, migration_limits
from app.db.jobs import Bell
from app.db.locks import NO_KEY, in_order
from app.db.tables import Job, Migration, Object
from app.domain import restores
from app.domain.migrations import COPIED, EARLY, SWITCHED
from app.domain.states import (
    MIGRATION_FINAL,
    MIGRATION_TRANSITIONS,
    JobState,
    MigrationState,
    check_transition,
)
from app.domain.tasks import TaskName
from app.errors import Conflict, NotFound

ACTIVE = and_(Migration.state.in_(EARLY | SWITCHED), Migration.after_id.is_(None))
"""Has its object to itself; the same as the condition of the unique index."""
READER = "reader "
"""What `claimed_by` begins with where a reader has the lease, to write the copy from what it reads."""
RETRIABLE = (MigrationState.FAILED, MigrationState.DEAD, MigrationState.CANCELLED)


# -- Claimed ----------------------------------------------------------------------------------------------------------


class Claimable(StrEnum):
    """Which of a job's ready migrations may be taken."""

    ANY = "any"
    """All."""
    STARTED = "started"
    """Those that were claimed before, and those to be cancelled: the first wave is not over."""
    CANCELLED = "cancelled"
    """Only those to be cancelled: the job is paused."""


_ONLY: Mapping[Claimable, tuple[ColumnElement[bool], ...]] = {
    Claimable.ANY: (),
    Claimable.STARTED: (or_(Migration.fence > 0, Migration.cancel_requested),),
    Claimable.CANCELLED: (Migration.cancel_requested.is_(True), Migration.state.in_(EARLY)),
}


@dataclass(frozen=True)
class Claim:
    """A migration that this worker holds."""

    id: int
    fence: int


def ready(job_id: int | None = None) -> tuple[ColumnElement[bool], ...]:
    """What makes a migration claimable: active, due, and held by nobody whose lease has not lapsed.

    What must not begin yet is due all the same to be cancelled.
    """
    free = or_(Migration.lease_until.is_(None), Migration.lease_until < func.now())
    begun = or_(Migration.not_before.is_(None), Migration.not_before <= func.now(), Migration.cancel_requested)
    due = (ACTIVE, Migration.next_attempt_at <= func.now(), begun, free)
    return (*due, Migration.job_id == job_id) if job_id is not None else due


def start(session: Session, job_id: int) -> Job:
    """The job as a worker takes it up: queued becomes running, with what had failed queued again after a retry.

    Its bell was heard: what becomes ready later, by a retry or a lapsed lease, is rung for at once. Raises NotFound.
    """
    job = session.scalar(
        select(Job).where(Job.id == job_id, Job.kind == TaskName.MIGRATE).with_for_update(key_share=True)
    )
    if job is None:
        raise NotFound(f"there is no migrate job {job_id}")
    job.rung_at, job.rings = None, 0
    if job.state in jobs.READY:
        _requeue(session, _failed_first(job_id))
        paused = migration_limits.why_paused(session, job_id)
        job.state, job.started_at = JobState.RUNNING, job.started_at or func.now()
        job.reason = f"paused: {paused}" if paused else None
        session.flush()
    return job


def claim(
    session: Session, job_id: int, worker: str, lease_s: float, limit: int, *, only: Claimable = Claimable.ANY
) -> list[Claim]:
    """Takes up to `limit` ready migrations of the job, the most urgent and oldest first."""
    chosen = (
        select(Migration.id)
        .where(*ready(job_id), *_ONLY[only])
        .order_by(Migration.priority, Migration.id)
        .limit(limit)
        .with_for_update(key_share=True, skip_locked=True)
    )
    taken = (
        update(Migration)
        .where(Migration.id.in_(chosen.scalar_subquery()))
        .values(
            fence=Migration.fence + 1,
            lease_until=func.now() + timedelta(seconds=lease_s),
            claimed_by=worker,
            started_at=func.coalesce(Migration.started_at, func.now()),
        )
        .returning(Migration.id, Migration.fence)
    )
    return sorted((Claim(*row) for row in session.execute(taken)), key=lambda claim: claim.id)


def renew(session: Session, claims: Iterable[Claim], lease_s: float) -> dict[int, bool]:
    """Prolongs leases in one statement; returns, for those still ours, whether cancelling was asked for."""
    mine = tuple_(Migration.id, Migration.fence).in_([(claim.id, claim.fence) for claim in claims])
    renewed = (
        update(Migration)
        .where(in_order(mine, ACTIVE, Migration.lease_until.is_not(None)))
        .values(lease_until=func.now() + timedelta(seconds=lease_s))
        .returning(Migration.id, Migration.cancel_requested)
    )
    return dict(session.execute(renewed).all())


def asked_to_stop(session: Session, job_id: int, claims: Iterable[Claim]) -> set[int]:
    """Which of the claims are to be cancelled; all of them, and the unclaimed too, when the whole job is."""
    job = session.get_one(Job, job_id, populate_existing=True)
    if job.cancel_requested:
        cancel_all(session, job_id)
    mine = Migration.id.in_([claim.id for claim in claims])
    early = Migration.state.in_(EARLY)  # what has switched goes on to its end
    return set(session.scalars(select(Migration.id).where(mine, early, Migration.cancel_requested)))


def release(session: Session, claims: Iterable[Claim]) -> None:
    """Gives claims back that were not worked on."""
    mine = tuple_(Migration.id, Migration.fence).in_([(claim.id, claim.fence) for claim in claims])
    session.execute(update(Migration).where(in_order(mine)).values(lease_until=None, claimed_by=None))


def any_leased(session: Session) -> bool:
    """Whether some worker renews the lease of a migration: the queue is being worked on."""
    held = (ACTIVE, Migration.lease_until > func.now(), Migration.claimed_by.not_like(f"{READER}%"))
    return session.scalar(select(Migration.id).where(*held).limit(1)) is not None


def to_ring(session: Session, room: int, first_s: float, cap_s: float) -> list[Bell]:
    """At most `room` jobs that a worker has to see to and were not rung for long enough; notes the ring.

    Those have ready migrations, are to be cancelled, or run although their last migration was ended by a change of the
    world. A job that has ended is rung too: what it switched is deleted after the grace. What is paused is rung only to
    be cancelled.
    """
    if room <= 0:
        return []
    go_on = false() if migration_limits.all_paused(session) else Job.paused_reason.is_(None)
    wait_s = func.least(cap_s, first_s * func.power(2.0, func.greatest(Job.rings - 1, 0)))
    due = or_(Job.rung_at.is_(None), Job.rung_at + wait_s * timedelta(seconds=1) < func.now())
    waiting = select(Migration.id).where(Migration.job_id == Job.id, *ready()).exists()
    is_open = select(Migration.id).where(Migration.job_id == Job.id, Migration.state.in_(EARLY)).exists()
    to_end = and_(Job.state == JobState.RUNNING, or_(Job.cancel_requested, ~is_open))
    unstarted = Job.state.in_(jobs.READY)  # those are rung with all other jobs
    chosen = (
        select(Job.id)
        .where(Job.kind == TaskName.MIGRATE, ~unstarted, due, or_(and_(waiting, go_on), to_end))
        .order_by(Job.priority, Job.id)
        .limit(room)
        .with_for_update(key_share=True, skip_locked=True)
    )
    rung = (
        update(Job)
        .where(Job.id.in_(chosen.scalar_subquery()))
        .values(rung_at=func.now(), rings=Job.rings + 1)
        .returning(Job)
    )
    return jobs.bells(session.scalars(rung).all())


# -- Seen and changed by users ----------------------------------------------------------------------------------------


def get(session: Session, migration_id: int) -> Migration:
    """The migration. Raises NotFound."""
    found = session.get(Migration, migration_id)
    if found is None:
        raise NotFound(f"there is no migration {migration_id}")
    return found


def listing(
    session: Session,
    *,
    state: str | None = None,
    job_id: int | None = None,
    plan_id: int | None = None,
    before_id: int | None = None,
    limit: int = 50,
) -> list[Row[tuple[Migration, str]]]:
    """Migrations with their object's key, newest first, older than `before_id`."""
    statement = select(Migration, Object.key).join(Object).order_by(Migration.id.desc()).limit(limit)
    wanted = {Migration.state: state, Migration.job_id: job_id, Migration.plan_id: plan_id}
    statement = statement.where(*(column == value for column, value in wanted.items() if value is not None))
    if before_id is not None:
        statement = statement.where(Migration.id < before_id)
    return list(session.execute(statement))


def counts_by_state(session: Session) -> dict[str, int]:
    """How many migrations are in each state, of those that there are."""
    counted = select(Migration.state, func.count()).group_by(Migration.state)
    return {str(state): count for state, count in session.execute(counted)}


def cancel_all(session: Session, job_id: int) -> None:
    """Asks all of a job's migrations that have not switched to stop."""
    early = (Migration.job_id == job_id, Migration.state.in_(EARLY), Migration.cancel_requested.is_(False))
    session.execute(update(Migration).where(in_order(*early)).values(cancel_requested=True, next_attempt_at=func.now()))


def cancel(session: Session, migration_id: int, actor: str) -> Migration:
    """Asks a migration that has not switched to stop; at once when nobody works on it. Raises NotFound or Conflict."""
    found = _locked(session, migration_id)
    if found.state not in EARLY:
        raise Conflict(f"migration {migration_id} cannot be cancelled any more: it is {found.state}")
    found.cancel_requested = True
    found.next_attempt_at = func.now()  # a worker discards what it had written so far
    audit.append(session, actor, "migration.cancel", f"migration {migration_id}")
    session.flush()
    return found


def retry(session: Session, migration_id: int, actor: str) -> Migration:
    """Queues an ended migration again with all its attempts; ring its job's bell. Raises NotFound or Conflict."""
    job = session.get_one(Job, get(session, migration_id).job_id, with_for_update=NO_KEY)
    found = _locked(session, migration_id)
    check_transition(MIGRATION_TRANSITIONS, MigrationState(found.state), MigrationState.QUEUED)
    _requeue(session, (Migration.id == migration_id,))
    session.refresh(found)
    if found.state != MigrationState.QUEUED:
        raise Conflict("another migration has the object now")
    if job.state in (JobState.FAILED, JobState.DEAD, JobState.CANCELLED):
        job.state, job.finished_at, job.reason, job.cancel_requested = JobState.RUNNING, None, None, False
    job.rung_at, job.rings = None, 0
    audit.append(session, actor, "migration.retry", f"migration {migration_id}")
    return found


def release_next(session: Session, migration_id: int, state: MigrationState) -> None:
    """Lets the move of the same object that waited for this one start, or skips it when this one came to nothing."""
    waiting = update(Migration).where(Migration.after_id == migration_id, Migration.state.in_(EARLY))
    if state in COPIED:
        version = select(Object.version).where(Object.id == Migration.object_id).scalar_subquery()
        session.execute(waiting.values(after_id=None, object_version=version, next_attempt_at=func.now()))
        return
    skipped = waiting.values(state=MigrationState.SKIPPED, reason=f"earlier_move_{state}", finished_at=func.now())
    for next_id in session.scalars(skipped.returning(Migration.id)).all():
        release_next(session, next_id, MigrationState.SKIPPED)


def _failed_first(job_id: int) -> tuple[ColumnElement[bool], ...]:
    """The job's migrations that a retry of the job does again: of each object the first, as only one may be active."""
    other = aliased(Migration)
    earlier = select(other.id).where(
        other.job_id == job_id,
        other.object_id == Migration.object_id,
        other.id < Migration.id,
        other.state.in_(RETRIABLE),
    )
    return (Migration.job_id == job_id, Migration.state.in_(RETRIABLE), ~earlier.exists())


def _requeue(session: Session, which: tuple[ColumnElement[bool], ...]) -> None:
    """Queues those again whose object no other migration has: one may take it in this very moment, and is seen then."""
    other = aliased(Migration)
    moving = select(other.id).where(
        other.object_id == Migration.object_id, other.id != Migration.id, other.state.not_in(MIGRATION_FINAL)
    )
    fresh = update(Migration).where(in_order(*which, ~moving.exists()))
    while True:
        try:
            with session.begin_nested():
                session.execute(fresh.values(**_FRESH))
        except IntegrityError:  # the unique index of active migrations
            continue
        return


def _unless_asleep(column: InstrumentedAttribute[Any]) -> ColumnElement[Any]:
    """What was paid for a restore; nothing when the restored copy is gone, so that another is asked for."""
    return case((Migration.reason == restores.NEEDED, None), else_=column)


_FRESH: Mapping[str, object] = {
    "state": MigrationState.QUEUED,
    "attempts": 0,
    "mismatches": 0,
    "cancel_requested": False,
    "after_id": None,
    "reason": None,
    "error": None,
    "finished_at": None,
    "lease_until": None,
    "next_attempt_at": func.now(),
    "restore_usd": _unless_asleep(Migration.restore_usd),
    "restored_at": _unless_asleep(Migration.restored_at),
}


def _locked(session: Session, migration_id: int) -> Migration:
    statement = select(Migration).where(Migration.id == migration_id).with_for_update(key_share=True)
    found = session.scalar(statement, execution_options={"populate_existing": True})
    if found is None:
        raise NotFound(f"there is no migration {migration_id}")
    return found
