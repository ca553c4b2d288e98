"""Jobs: submitted, claimed under a lease and a fence, renewed, ended, rung again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import ColumnElement, and_, func, or_, select, update
from sqlalchemy.orm import Session

from app.db import alerts
from app.db.tables import Job, Json
from app.domain.jobs import Verdict
from app.domain.states import JOB_FINAL, JOB_TRANSITIONS, JobState, check_transition
from app.domain.tasks import TASKS, QueueName, TaskName
from app.errors import Conflict, LeaseLost, NotFound, Overloaded

READY = (JobState.QUEUED, JobState.WAITING)
AHEAD_COUNTED = 1000
"""A list of jobs tells how many are ahead of each, so the count of a long queue ends here."""


@dataclass(frozen=True)
class Bell:
    """A message to be sent after the transaction: which task, for which job, how urgent (0 first to 7)."""

    kind: TaskName
    job_id: int
    priority: int


def submit(
    session: Session,
    kind: TaskName,
    args: Json | None = None,
    *,
    priority: int = 4,
    actor: str = "system",
    request_id: str | None = None,
    parent_id: int | None = None,
    limit: int | None = None,
) -> Job:
    """Adds a queued job; ring its `bell` after the transaction.

    limit: the number of unfinished jobs of the queue at which Overloaded is raised instead.
    """
    queue = TASKS[kind].queue
    if limit is not None and _unfinished_reach(session, queue, limit):
        raise Overloaded(f"queue {queue} holds {limit} unfinished jobs", retry_after_s=30)
    job = Job(
        kind=kind,
        queue=queue,
        state=JobState.QUEUED,
        args=args or {},
        priority=priority,
        created_by=actor,
        request_id=request_id,
        parent_id=parent_id,
        rung_at=func.now(),
        rings=1,
    )
    session.add(job)
    session.flush()
    return job


def _unfinished_reach(session: Session, queue: QueueName, limit: int) -> bool:
    reached = select(Job.id).where(Job.queue == queue, Job.state.in_(READY)).offset(limit - 1).limit(1)
    return session.scalar(reached) is not None


def bell(job: Job) -> Bell:
    """What to ring for this job."""
    return Bell(TaskName(job.kind), job.id, job.priority)


def bells(found: Sequence[Job]) -> list[Bell]:
    """What to ring for these jobs, most urgent and oldest first: rows that were changed come back in any order."""
    return [bell(job) for job in sorted(found, key=lambda job: (job.priority, job.id))]


def claim(session: Session, job_id: int, worker: str, lease_s: float) -> Job | None:
    """Takes the job if it is ready and nobody has it; None otherwise."""
    return _claim_where(session, Job.id == job_id, worker, lease_s)


def claim_next(session: Session, kind: TaskName, worker: str, lease_s: float) -> Job | None:
    """Takes the most urgent, then oldest, ready job of this kind; None when there is none."""
    return _claim_where(session, and_(Job.queue == TASKS[kind].queue, Job.kind == kind), worker, lease_s)


def _claim_where(session: Session, which: ColumnElement[bool], worker: str, lease_s: float) -> Job | None:
    chosen = (
        select(Job.id)
        .where(which, Job.state.in_(READY), Job.next_attempt_at <= func.now())
        .order_by(Job.priority, Job.id)
        .limit(1)
        .with_for_update(key_share=True, skip_locked=True)
        .scalar_subquery()
    )
    return session.scalar(
        update(Job)
        .where(Job.id == chosen)
        .values(
            state=JobState.RUNNING,
            fence=Job.fence + 1,
            lease_until=func.now() + timedelta(seconds=lease_s),
            claimed_by=worker,
            started_at=func.coalesce(Job.started_at, func.now()),
            reason=None,
        )
        .returning(Job)
    )


def next_ready(session: Session, queue: QueueName) -> Bell | None:
    """The bell of the most urgent ready job of the queue, noted as rung; None when there is none."""
    chosen = (
        select(Job.id)
        .where(Job.queue == queue, Job.state.in_(READY), Job.next_attempt_at <= func.now())
        .order_by(Job.priority, Job.id)
        .limit(1)
        .with_for_update(key_share=True, skip_locked=True)
        .scalar_subquery()
    )
    job = session.scalar(
        update(Job).where(Job.id == chosen).values(rung_at=func.now(), rings=Job.rings + 1).returning(Job)
    )
    return bell(job) if job else None


def not_rung(session: Session, job_id: int) -> None:
    """Notes that this job's bell did not reach the broker, so that the next sweep rings it."""
    session.execute(update(Job).where(Job.id == job_id, Job.state.in_(READY)).values(rung_at=None, rings=0))


def renew(session: Session, job_id: int, fence: int, lease_s: float) -> bool:
    """Prolongs the lease; returns whether cancelling was asked for. Raises LeaseLost when the fence is another's."""
    statement = update(Job).where(*_mine(job_id, fence)).values(lease_until=func.now() + timedelta(seconds=lease_s))
    asked = session.scalar(statement.returning(Job.cancel_requested))
    if asked is None:
        raise LeaseLost
    return bool(asked)


def hold(session: Session, job_id: int, fence: int) -> None:
    """Keeps the claim until this transaction ends, so that its effects happen once. Raises LeaseLost."""
    if session.scalar(select(Job.id).where(*_mine(job_id, fence)).with_for_update(key_share=True)) is None:
        raise LeaseLost


def set_progress(session: Session, job_id: int, fence: int, progress: Json) -> None:
    """Writes how far the job is. Raises LeaseLost."""
    if session.scalar(update(Job).where(*_mine(job_id, fence)).values(progress=progress).returning(Job.id)) is None:
        raise LeaseLost


def set_args(session: Session, job_id: int, fence: int, args: Json) -> None:
    """Writes from where the next attempt goes on. Raises LeaseLost."""
    if session.scalar(update(Job).where(*_mine(job_id, fence)).values(args=args).returning(Job.id)) is None:
        raise LeaseLost


def succeed(session: Session, job_id: int, fence: int, result: Json) -> Bell | None:
    """Ends the job well; returns the bell of a parent that waited for it. Raises LeaseLost."""
    return _end(session, job_id, fence, state=JobState.SUCCEEDED, result=result, error=None, reason=None)


def fail(session: Session, job: Job, verdict: Verdict, error: Json) -> Bell | None:
    """Ends or postpones a job as the verdict says; a dead one raises an alert. Raises LeaseLost."""
    values: dict[str, object] = {"reason": verdict.reason, "error": error, "state": verdict.state}
    if verdict.counts:
        values["attempts"] = Job.attempts + 1
    if verdict.state is JobState.WAITING:
        postpone(session, job.id, job.fence, verdict.delay_s, **values)
        return None
    if verdict.state is JobState.DEAD:
        alert_dead(session, job.id, job.kind, verdict.reason)
    return _end(session, job.id, job.fence, **values)


def alert_dead(session: Session, job_id: int, kind: str, reason: str) -> None:
    """Raises the alert of a job that was given up."""
    message = f"job {job_id} ({kind}) was given up after its last attempt: {reason}; `foretide jobs retry {job_id}`"
    alerts.raise_alert(session, "job_dead", "critical", message, subject=f"job {job_id}", data={"job_id": job_id})


def postpone(session: Session, job_id: int, fence: int, delay_s: float, **values: object) -> None:
    """Gives the job back to wait `delay_s` seconds; values: further columns. Raises LeaseLost."""
    fresh = {
        "state": JobState.WAITING,
        "lease_until": None,
        "next_attempt_at": func.now() + timedelta(seconds=delay_s),
        "rung_at": None,
        "rings": 0,
    }
    statement = update(Job).where(*_mine(job_id, fence)).values(**fresh | values)
    if session.scalar(statement.returning(Job.id)) is None:
        raise LeaseLost


def _end(session: Session, job_id: int, fence: int, **values: object) -> Bell | None:
    ended = update(Job).where(*_mine(job_id, fence)).values(lease_until=None, finished_at=func.now(), **values)
    row = session.execute(ended.returning(Job.id, Job.parent_id)).one_or_none()
    if row is None:
        raise LeaseLost
    return wake(session, row.parent_id) if row.parent_id else None


def wake(session: Session, parent_id: int) -> Bell | None:
    """A parent that waits for its children is ready again."""
    parent = session.scalar(
        update(Job)
        .where(Job.id == parent_id, Job.state == JobState.WAITING)
        .values(state=JobState.QUEUED, next_attempt_at=func.now(), rung_at=func.now(), rings=1)
        .returning(Job)
    )
    return bell(parent) if parent else None


def _mine(job_id: int, fence: int) -> tuple[ColumnElement[bool], ...]:
    return (Job.id == job_id, Job.fence == fence, Job.state == JobState.RUNNING)


def get(session: Session, job_id: int) -> Job:
    """The job. Raises NotFound."""
    job = session.get(Job, job_id)
    if job is None:
        raise NotFound(f"there is no job {job_id}")
    return job


def children(session: Session, parent_id: int) -> list[Job]:
    """The jobs that this one started, oldest first."""
    return list(session.scalars(select(Job).where(Job.parent_id == parent_id).order_by(Job.id)))


def ahead(session: Session, job: Job) -> int:
    """How many ready jobs of its queue will be claimed before this one, counted up to AHEAD_COUNTED."""
    before = or_(Job.priority < job.priority, and_(Job.priority == job.priority, Job.id < job.id))
    found = select(Job.id).where(Job.queue == job.queue, Job.state.in_(READY), before).limit(AHEAD_COUNTED).subquery()
    return session.scalar(select(func.count()).select_from(found)) or 0


def listing(
    session: Session,
    *,
    kind: str | None = None,
    state: str | None = None,
    before_id: int | None = None,
    limit: int = 50,
) -> Sequence[Job]:
    """Jobs, newest first, of this kind and state, older than `before_id`."""
    statement = select(Job).order_by(Job.id.desc()).limit(limit)
    if kind:
        statement = statement.where(Job.kind == kind)
    if state:
        statement = statement.where(Job.state == state)
    if before_id:
        statement = statement.where(Job.id < before_id)
    return session.scalars(statement).all()


def _with_children(session: Session, job_id: int) -> Job:
    """The job, locked after its children, as a child's end locks both. Raises NotFound."""
    session.execute(
        select(Job.id).where(Job.parent_id == job_id).order_by(Job.id.desc()).with_for_update(key_share=True)
    )
    job = session.scalar(select(Job).where(Job.id == job_id).with_for_update(key_share=True))
    if job is None:
        raise NotFound(f"there is no job {job_id}")
    return job


def cancel(session: Session, job_id: int) -> Job:
    """Asks the job to stop: at once when nobody works on it. Raises NotFound, or Conflict when it has ended."""
    job = _with_children(session, job_id)
    if job.state in JOB_FINAL:
        raise Conflict(f"job {job_id} has ended already: {job.state}")
    job.cancel_requested = True
    for child in children(session, job_id):
        if child.state not in JOB_FINAL:
            cancel(session, child.id)
    if job.state in READY:
        job.state, job.finished_at, job.reason = JobState.CANCELLED, func.now(), "cancelled"
    session.flush()
    return job


def retry(session: Session, job_id: int) -> Job:
    """Makes an ended job ready again with all its attempts; a run's steps that did not succeed are ready again too.

    Raises NotFound, or Conflict when it has not failed.
    """
    job = _with_children(session, job_id)
    if job.state not in JOB_FINAL:
        raise Conflict(f"job {job_id} has not ended: it is {job.state}")
    _make_ready(session, job)
    job.rung_at, job.rings = func.now(), 1
    if job.kind == TaskName.RUN:  # other parents start anew what did not succeed
        for child in children(session, job_id):
            if child.state in JOB_FINAL and child.state != JobState.SUCCEEDED:
                _make_ready(session, child)
    session.flush()
    return job


def _make_ready(session: Session, job: Job) -> None:
    """Queues the job, whose bell the next sweep rings."""
    check_transition(JOB_TRANSITIONS, JobState(job.state), JobState.QUEUED)
    job.state, job.attempts, job.cancel_requested = JobState.QUEUED, 0, False
    job.next_attempt_at, job.finished_at, job.reason, job.error = func.now(), None, None, None
    job.rung_at, job.rings = None, 0
    alerts.clear(session, "job_dead", f"job {job.id}")
