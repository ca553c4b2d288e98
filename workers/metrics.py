"""The `metrics` task: parts of closed buckets are merged, samples and streams past their time go (step: metrics)."""

from __future__ import annotations

from datetime import timedelta

from app import clock
from app.db import metric_parts, metrics
from app.db.tables import Json
from app.queue import TaskName
from app.settings import get_settings
from workers.base import JobContext, job_task


@job_task(TaskName.METRICS)
def tend(job: JobContext) -> Json:
    """Merges until there is nothing left to merge; each transaction leaves every window as it was."""
    closed = metrics.bucket_of(clock.now())
    merged = 0
    while True:
        with job.saving() as session:
            done = metric_parts.merge(session, closed)
        if not done:
            break
        merged += done
        job.progress(merged, merged + 1, "parts")
    with job.saving() as session:
        expired = metrics.expire(session, clock.now() - timedelta(seconds=get_settings().metric_keep_s))
    with job.saving() as session:
        forgotten = metrics.forget_empty(session)
    return {"merged": merged, "expired": expired, "forgotten": forgotten}
