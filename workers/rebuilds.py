"""The `rebuild` task: sums of whole days are counted anew from their accesses, a day a transaction (step: window)."""

from __future__ import annotations

from datetime import date, timedelta

from app.db import accesses, jobs
from app.db.session import session_scope
from app.db.tables import Json
from app.queue import TaskName
from workers.base import JobContext, job_task


@job_task(TaskName.REBUILD)
def rebuild(job: JobContext) -> Json:
    """Goes on after the last day that an earlier attempt has finished."""
    first, last = (date.fromisoformat(job.args[name]) for name in ("since", "until"))
    days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    with session_scope() as session:
        done = int((jobs.get(session, job.id).progress or {}).get("done", 0))
    for number, day in enumerate(days[done:], done + 1):
        job.check()
        with job.saving() as session:
            accesses.rebuild(session, day)
            jobs.set_progress(session, job.id, job.fence, {"done": number, "total": len(days), "unit": "days"})
    return {"days": len(days), "since": job.args["since"], "until": job.args["until"]}
