"""What has come of a job's migrations: its progress, its end, and the alert of a long backlog."""

from __future__ import annotations

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from app.db import alerts, jobs
from app.db.jobs import Bell
from app.db.locks import NO_KEY
from app.db.tables import Job, Migration, Plan
from app.domain.migrations import COPIED, EARLY, Tally
from app.domain.states import JOB_FINAL, JobState, MigrationState, PlanState
from app.settings import get_settings


def settle_job(session: Session, job_id: int) -> Bell | None:
    """Writes the job's progress, and its end once every migration has switched or ended.

    It succeeds unless some failed or are dead. What waits for its grace goes on afterwards without the job. Returns the
    bell of a parent that waited.
    """
    job = session.get_one(Job, job_id, with_for_update=NO_KEY)
    counts = tally(session, job_id)
    job.progress = {"done": counts.planned - counts.open, "total": counts.planned, "unit": "moves"}
    job.rung_at, job.rings = None, 0
    if counts.outcome is None:
        return None
    session.execute(
        update(Plan)
        .where(Plan.apply_job_id == job_id, Plan.state == PlanState.APPLYING)
        .values(state=PlanState.APPLIED, finished_at=func.now())
    )
    if job.state in JOB_FINAL:  # cancelled before it was begun
        return None
    stopped = job.cancel_requested and counts.cancelled
    job.state = JobState.CANCELLED if stopped else counts.outcome
    job.result, job.finished_at = counts.as_json(), func.now()
    job.reason = {JobState.FAILED: "migrations_failed", JobState.CANCELLED: "cancelled"}.get(job.state)
    session.flush()
    return jobs.wake(session, job.parent_id) if job.parent_id else None


def tally(session: Session, job_id: int) -> Tally:
    """What has come of a job's migrations so far."""
    retried = func.count().filter(Migration.retries > 0)
    rows = session.execute(
        select(Migration.state, Migration.reason, func.count(), retried)
        .where(Migration.job_id == job_id)
        .group_by(Migration.state, Migration.reason)
    ).all()
    told = (MigrationState.SKIPPED, MigrationState.BLOCKED, MigrationState.FAILED, MigrationState.DEAD)
    reasons: dict[str, int] = {}
    for state, reason, count, _ in rows:
        if state in told and reason:
            reasons[reason] = reasons.get(reason, 0) + count

    def number(*states: MigrationState) -> int:
        return sum(count for state, _, count, _ in rows if state in states)

    return Tally(
        planned=number(*MigrationState),
        verified=number(*COPIED),
        skipped=number(MigrationState.SKIPPED),
        blocked=number(MigrationState.BLOCKED),
        failed=number(MigrationState.FAILED, MigrationState.DEAD),
        cancelled=number(MigrationState.CANCELLED),
        open=number(*EARLY),
        retried=sum(again for *_, again in rows),
        reasons=reasons,
    )


def watch_backlog(session: Session) -> None:
    """Raises the alert migration_backlog while more migrations are queued than the setting allows (source 004)."""
    queued = session.scalar(select(func.count()).where(Migration.state == MigrationState.QUEUED)) or 0
    if queued > get_settings().backlog_alert:
        message = f"{queued} migration tasks queued"
        alerts.raise_alert(session, "migration_backlog", "warning", message, data={"queued": queued})
    else:
        alerts.clear(session, "migration_backlog")
