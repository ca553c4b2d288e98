"""Jobs run in the test's own process: submitted as the API would, claimed and worked on as a worker would."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import update

from app.db import jobs
from app.db.session import session_scope
from app.db.tables import Job
from app.domain.states import JOB_FINAL
from app.domain.tasks import TaskName

Task = Callable[[int], None]


def turn(task: Task, job_id: int) -> Job:
    """One attempt at the job, whatever it waits for being over; the job afterwards."""
    long_ago = datetime.now(UTC) - timedelta(days=1)
    with session_scope() as session:
        session.execute(update(Job).where(Job.id == job_id).values(next_attempt_at=long_ago))
    task(job_id)
    with session_scope() as session:
        return jobs.get(session, job_id)


def run(task: Task, kind: TaskName, args: dict[str, Any] | None = None, turns: int = 10) -> Job:
    """A new job worked on until it ends, at most so many times; it must succeed."""
    with session_scope() as session:
        job_id = jobs.submit(session, kind, args, actor="test").id
    return finish(task, job_id, turns)


def finish(task: Task, job_id: int, turns: int = 10) -> Job:
    """The job worked on until it ends; it must succeed."""
    for _ in range(turns):
        job = turn(task, job_id)
        if job.state in JOB_FINAL:
            break
    assert job.state == "succeeded", (job.state, job.reason, job.error)
    return job
