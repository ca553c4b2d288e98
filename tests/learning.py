"""A generated month of accesses, jobs of the learners, and small models of known worth."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from app.db import ingest, jobs, model_files, models
from app.db.session import session_scope
from app.db.tables import Job
from app.domain.accesses import Block
from app.lab.synthetic import generate
from app.lab.traces import OPS
from app.queue import TaskName
from ml import packing
from ml.features import NAMES
from ml.serving import Calibration, Packed

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def fill(objects: int = 80, *, until: datetime = NOW, seed: int = 3, prefix: str = "") -> int:
    """A generated month that ends then, ingested; returns the number of accesses."""
    trace = generate(until, seed=seed, objects=objects)
    for start in range(0, len(trace), 20_000):
        part = slice(start, start + 20_000)
        n = len(trace.ts[part])
        lines = Block(
            ts=trace.ts[part].tolist(),
            key=[prefix + trace.keys[number] for number in trace.object[part]],
            op=[OPS[number] for number in trace.op[part]],
            site_id=[None] * n,
            bytes_read=trace.bytes_read[part].tolist(),
            status=[None] * n,
            event_id=[None] * n,
            region=[None] * n,
            client=[None] * n,
            partial_upload=trace.partial_upload[part].tolist(),
        )
        with session_scope() as session:
            ingest.copy_block(session, lines)
    return len(trace)


def submit(task: Callable[[int], None], **args: object) -> int:
    """A job of the task, as it is submitted; its id."""
    with session_scope() as session:
        kind = TaskName(task.name)  # type: ignore[attr-defined]
        return jobs.submit(session, kind, {"as_of": NOW.isoformat(), **args}).id


def job(job_id: int) -> Job:
    with session_scope() as session:
        done = session.get_one(Job, job_id)
        session.expunge(done)
    return done


def perform(task: Callable[[int], None], **args: object) -> Job:
    """Submits a job and runs its task as a worker does when it is rung; returns the job's row."""
    job_id = submit(task, **args)
    task(job_id)
    return job(job_id)


def by_feature(name: str = "decayed_7d", sign: float = 1.0) -> Packed:
    """A model that ranks by one feature, calibrated by hand."""
    knots = np.array([0.0, 0.5, 0.9, 1.0])
    p = np.array([0.02, 0.05, 0.9, 0.98])
    return Packed("linear", NAMES, packing.one_column(NAMES.index(name), sign), Calibration(knots, p, p, p))


def version(packed: Packed | None = None, *, baseline: Packed | None = None, serve: str = "", **values: Any) -> int:
    """A version of the model of tiers with these files, in state candidate or serving; its number."""
    columns: dict[str, Any] = {
        "algorithm": "by_feature",
        "features": ["decayed_7d"],
        "metrics": {"horizon_h": 24, "auc": 0.9, "pr_auc": 0.8},
        "baselines": {"recency": {"auc": 0.8, "pr_auc": 0.7}},
        "data_from": NOW - 30 * DAY,
        "data_to": NOW - 10 * DAY,
    }
    with session_scope() as session:
        added = models.add(session, "tier", **columns | values)
        model_files.add(session, added, "packed", (packed or by_feature()).to_bytes())
        if baseline is not None:
            model_files.add(session, added, "baseline", baseline.to_bytes())
        if serve:
            models.promote(session, added, serve)
        return added.version


def states() -> dict[int, str]:
    """The state of each version of the model of tiers."""
    with session_scope() as session:
        return {row.version: str(row.state) for row in models.versions(session, "tier")[::-1]}
