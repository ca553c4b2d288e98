"""The `rollup` task: open blocks become hours, touched objects get fresh features, old days go (step: window)."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

from app.db import access_bounds, access_exports, accesses, partitions
from app.db.tables import Json
from app.queue import TaskName
from app.settings import get_settings
from workers import features
from workers.base import JobContext, job_task


@job_task(TaskName.ROLLUP)
def roll_up(job: JobContext) -> Json:
    """Rolls up until no block is open; blocks that another worker holds are its own."""
    moment = features.as_of(job)
    batches, touched = 0, set[int]()
    while True:
        with job.saving() as session:
            done = accesses.roll_up(session)
        if not done.batches:
            break
        batches += done.batches
        touched |= done.objects
        job.progress(batches, batches + 1, "blocks")
    refreshed = features.refresh(job, touched, moment)
    with job.saving() as session:
        settings = get_settings()
        kept = access_bounds.retention_days(session)
        sums = max(kept, settings.rollup_days)
        unsaved = partial(access_exports.unsaved, session) if settings.export_site else None
        pruned = partitions.prune(session, moment - timedelta(days=kept), moment - timedelta(days=sums), unsaved)
        partitions.ensure(session, [moment.date(), (moment + timedelta(days=1)).date()])
    return {"batches": batches, "objects": refreshed, "pruned_days": pruned}
