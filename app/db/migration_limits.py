"""What keeps moves back: the limits in force, pauses with their reason, a job's first wave, too many errors."""

from __future__ import annotations

from sqlalchemy import ColumnElement, and_, func, or_, select, update
from sqlalchemy.orm import Session

from app.db import alerts, audit, jobs, policies
from app.db.jobs import Bell
from app.db.locks import NO_KEY, in_order
from app.db.tables import Job, Json, Migration
from app.domain.limits import Limits, Wave, may_start, too_many_errors
from app.domain.migrations import COPIED, EARLY
from app.domain.policies import Policies
from app.domain.states import JOB_FINAL, MIGRATION_FINAL, MigrationState, Mode
from app.domain.tasks import TaskName
from app.errors import Conflict, Invalid, NotFound

PAUSED = "paused"
"""The reason of a migration that waits for a pause to end; the job or the limits say why."""


def load(session: Session) -> Limits:
    """The limits in force."""
    return Limits.of(policies.load(session).document("limits"))


def why_paused(session: Session, job_id: int) -> str | None:
    """Why nothing of the job is moved now: the mode, the limits or the job itself says so; None: it goes on."""
    known = policies.load(session)
    return _all_paused(known) or session.scalar(select(Job.paused_reason).where(Job.id == job_id))


def all_paused(session: Session) -> bool:
    """Whether no job at all may move anything."""
    return _all_paused(policies.load(session)) is not None


def _all_paused(known: Policies) -> str | None:
    if known.mode is Mode.PAUSED:
        return str(known.document("mode").get("reason") or "the mode is paused")
    return known.document("pause").get("reason")


def pause(session: Session, reason: str, *, actor: str, job_id: int | None = None) -> int:
    """Stops moves before their next step or part, of one job or of all; returns how many wait now.

    What has been copied so far is kept. Raises Invalid without a reason, NotFound, or Conflict when the job has ended.
    """
    if not reason.strip():
        raise Invalid("say why in `reason`")
    if job_id is None:
        policies.put(session, "pause", {"reason": reason}, actor=actor)
    else:
        job = _job(session, job_id)
        job.paused_reason = reason
    audit.append(session, actor, "migrations.pause", f"job {job_id}" if job_id else "migrations", {"reason": reason})
    return _mark(session, reason, job_id)


def resume(session: Session, *, actor: str, job_id: int | None = None) -> list[Bell]:
    """Lets moves go on, of one job or of all; returns the bells to ring. Errors so far no longer count against them.

    Raises NotFound, or Conflict when nothing is paused.
    """
    if job_id is None:
        if policies.load(session).document("pause").get("reason") is None:
            raise Conflict("moves are not paused")
        policies.put(session, "pause", {"reason": None}, actor=actor)
        which = and_(Job.kind == TaskName.MIGRATE, Job.paused_reason.is_(None))
    else:
        if _job(session, job_id).paused_reason is None:
            raise Conflict(f"job {job_id} is not paused")
        which = Job.id == job_id
    go_on = update(Job).where(_in_order(session, which))
    go_on = go_on.values(paused_reason=None, reason=None, resumed_at=func.now(), rung_at=None, rings=0)
    found = session.scalars(go_on.returning(Job)).all()
    waited = in_order(Migration.job_id.in_([job.id for job in found]), Migration.reason == PAUSED)
    session.execute(update(Migration).where(waited).values(reason=None, next_attempt_at=func.now()))
    for job in found:
        alerts.clear(session, "migrations_paused", f"job {job.id}")
    audit.append(session, actor, "migrations.resume", f"job {job_id}" if job_id else "migrations")
    return [jobs.bell(job) for job in found]


def _job(session: Session, job_id: int) -> Job:
    job = session.scalar(
        select(Job).where(Job.id == job_id, Job.kind == TaskName.MIGRATE).with_for_update(key_share=True)
    )
    if job is None:
        raise NotFound(f"there is no migrate job {job_id}")
    if job.state in JOB_FINAL:
        raise Conflict(f"job {job_id} has ended already: {job.state}")
    return job


def _in_order(session: Session, which: ColumnElement[bool]) -> ColumnElement[bool]:
    """Those jobs that have not ended, locked in the order of their ids.

    By a statement of its own: one that locks and changes the same rows may wait for whoever waits for its own lock.
    """
    chosen = select(Job.id).where(which, Job.state.not_in(JOB_FINAL)).order_by(Job.id)
    return Job.id.in_(session.scalars(chosen.with_for_update(key_share=True)).all())


def _mark(session: Session, reason: str, job_id: int | None) -> int:
    """Gives what waits its reason, and the jobs theirs."""
    which = Job.kind == TaskName.MIGRATE if job_id is None else Job.id == job_id
    session.execute(update(Job).where(_in_order(session, which)).values(reason=f"paused: {reason}"))
    idle = and_(Migration.state.in_((MigrationState.QUEUED, MigrationState.WAITING)), Migration.lease_until.is_(None))
    mine = idle if job_id is None else and_(idle, Migration.job_id == job_id)
    fresh = or_(Migration.reason.is_(None), Migration.attempts == 0)
    session.execute(update(Migration).where(in_order(mine, fresh)).values(reason=PAUSED))
    return session.scalar(select(func.count()).select_from(Migration).where(mine)) or 0


def room(session: Session, job_id: int, limits: Limits) -> int | None:
    """How many more of the job's moves may be claimed now; None: any number, from now on."""
    since = select(func.coalesce(Job.resumed_at, Job.started_at)).where(Job.id == job_id).scalar_subquery()
    failing = and_(Migration.state == MigrationState.WAITING, Migration.attempts > 0)
    failed = and_(Migration.state.in_((MigrationState.FAILED, MigrationState.DEAD)), Migration.finished_at > since)
    gone = or_(Migration.state.in_(COPIED | MIGRATION_FINAL), Migration.state == MigrationState.WAITING)
    moves, started, left, wrong = session.execute(
        select(
            func.count(),
            func.count().filter(Migration.fence > 0),
            func.count().filter(gone, Migration.fence > 0),
            func.count().filter(or_(failing, failed)),
        ).where(Migration.job_id == job_id)
    ).one()
    return may_start(Wave(moves, started, left, wrong), limits)


def _stands_still(session: Session, job_id: int, limits: Limits) -> bool:
    """Whether the first wave has ended so badly that nothing follows it, though too few ended to say so."""
    begun = (Migration.job_id == job_id, Migration.state.in_(EARLY), Migration.fence > 0)
    if session.scalar(select(Migration.id).where(*begun).limit(1)) is not None:
        return False
    return room(session, job_id, limits) == 0


def stop_on_errors(session: Session, job_id: int, limits: Limits) -> bool:
    """Pauses the job when too many of its moves have failed since it was last resumed; returns whether it did."""
    job = session.get_one(Job, job_id, with_for_update=NO_KEY)
    if job.paused_reason is not None or job.state in JOB_FINAL:
        return False
    since = job.resumed_at or job.started_at or job.created_at  # a retry of one of its moves starts none
    ended = (Migration.job_id == job_id, Migration.finished_at > since)
    bad = Migration.state.in_((MigrationState.FAILED, MigrationState.DEAD))
    switched = (Migration.job_id == job_id, Migration.switched_at > since)
    errors = session.scalar(select(func.count()).where(*ended, bad)) or 0
    if not errors:
        return False
    good = session.scalar(select(func.count()).where(*switched)) or 0
    still_open = session.scalar(
        select(Migration.id).where(Migration.job_id == job_id, Migration.state.in_(EARLY)).limit(1)
    )
    reason = too_many_errors(errors, errors + good, limits)
    if reason is None and _stands_still(session, job_id, limits):
        reason = f"{errors} moves of the first wave failed"
    if reason is None or still_open is None:
        return False
    pause(session, reason, actor="worker", job_id=job_id)
    message = f"job {job_id} is paused: {reason}; then: foretide migrate resume --job {job_id}"
    data: Json = {"job_id": job_id, "errors": errors, "ended": errors + good}
    alerts.raise_alert(session, "migrations_paused", "critical", message, subject=f"job {job_id}", data=data)
    return True
