"""The one way back for work that was lost on its way: lapsed leases, unrung rows, old rows."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import case, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.db import jobs, migrations
from app.db.jobs import READY, Bell
from app.db.tables import Job, QueueTick
from app.domain.states import JobState
from app.domain.tasks import QueueName


def release_lapsed(session: Session, max_attempts: int, limit: int = 500) -> list[Bell]:
    """Gives back jobs whose worker stopped renewing, which counts as an attempt; returns waiting parents' bells."""
    lapsed = (
        select(Job.id)
        .where(Job.state == JobState.RUNNING, Job.lease_until < func.now())
        .limit(limit)
        .with_for_update(key_share=True, skip_locked=True)
        .scalar_subquery()
    )
    given_up = Job.attempts + 1 >= max_attempts
    ended = or_(given_up, Job.cancel_requested)
    rows = session.execute(
        update(Job)
        .where(Job.id.in_(lapsed))
        .values(
            attempts=Job.attempts + 1,
            fence=Job.fence + 1,
            lease_until=None,
            state=case((Job.cancel_requested, JobState.CANCELLED), (given_up, JobState.DEAD), else_=JobState.QUEUED),
            finished_at=case((ended, func.now())),
            reason="worker_lost",
            next_attempt_at=func.now(),
            rung_at=None,
            rings=0,
        )
        .returning(Job.id, Job.kind, Job.state, Job.parent_id)
    ).all()
    for row in rows:
        if row.state == JobState.DEAD:
            jobs.alert_dead(session, row.id, row.kind, "worker_lost")
    parents = [row.parent_id for row in rows if row.parent_id and row.state != JobState.QUEUED]
    return [bell for parent in parents if (bell := jobs.wake(session, parent))]


def to_ring(session: Session, queue: QueueName, room: int, first_s: float, cap_s: float) -> list[Bell]:
    """At most `room` ready jobs of the queue that were not rung for long enough, most urgent first; notes the ring."""
    if room <= 0:
        return []
    wait_s = func.least(cap_s, first_s * func.power(2.0, func.greatest(Job.rings - 1, 0)))
    due = or_(Job.rung_at.is_(None), Job.rung_at + wait_s * timedelta(seconds=1) < func.now())
    chosen = (
        select(Job.id)
        .where(Job.queue == queue, Job.state.in_(READY), Job.next_attempt_at <= func.now(), due)
        .order_by(Job.priority, Job.id)
        .limit(room)
        .with_for_update(key_share=True, skip_locked=True)
        .scalar_subquery()
    )
    rung = update(Job).where(Job.id.in_(chosen)).values(rung_at=func.now(), rings=Job.rings + 1).returning(Job)
    return jobs.bells(session.scalars(rung).all())


def tick(session: Session, queue: QueueName, worker: str) -> None:
    """The queue's workers are alive and consume."""
    statement = insert(QueueTick).values(queue=queue, worker=worker, ticked_at=func.now())
    session.execute(
        statement.on_conflict_do_update(
            index_elements=["queue"], set_={"ticked_at": func.now(), "worker": statement.excluded.worker}
        )
    )


def late_queues(session: Session, late_s: float) -> list[str]:
    """Queues without a sign of life for `late_s` seconds, unless a job of theirs renews its lease."""
    now = func.now()
    ticked = set(session.scalars(select(QueueTick.queue).where(QueueTick.ticked_at > now - timedelta(seconds=late_s))))
    working = set(
        session.scalars(select(Job.queue).where(Job.state == JobState.RUNNING, Job.lease_until > now).distinct())
    )
    if migrations.any_leased(session):
        working.add(QueueName.MIGRATE)
    return [queue for queue in QueueName if queue not in ticked | working]
