"""A generated month of accesses, jobs of the learners, and small models of known worth."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from app.db import accesses, ingest, jobs, model_files, models
from app.db.session import session_scope
from app.db.tables import Job
from app.domain.accesses import Block
from app.lab.synthetic import generate
from app.lab.traces import OPS
from app.queue import TaskName
from ml import packing
from ml.demand_forecast import Forecaster, Learned
from ml.demand_models import Boosted
from ml.demand_spread import Known
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


def forecaster(times: float = 1.0, end: datetime = NOW) -> Forecaster:
    """A demand model of then that expects what Gamma–Poisson does, and so many times as much round it."""
    rng = np.random.default_rng(0)
    mean = np.exp(rng.normal(0, 1.5, 2_000))
    reads = np.rint(times * rng.poisson(mean * rng.gamma(2.0, 0.5, len(mean))))
    cut = np.full(len(mean), accesses.microseconds(end - 2 * DAY))
    known = Known(mean, mean, reads, np.arange(len(mean)), cut)
    return Forecaster((Learned(1, "gamma_poisson", Boosted(), Boosted(), known, accesses.microseconds(end)),))


def demand_version(opened: Forecaster | None = None, *, serve: str = "", **values: Any) -> int:
    """As `version`, of the model of demand."""
    columns: dict[str, Any] = {
        "algorithm": "gamma_poisson",
        "features": ["expected"],
        "metrics": {"horizon_h": 24, "horizons": {"1d": {}}, "quantile_loss": 0.5},
        "baselines": {"last_window": {"quantile_loss": 0.6}},
        "data_from": NOW - 30 * DAY,
        "data_to": NOW - 10 * DAY,
    }
    with session_scope() as session:
        added = models.add(session, "demand", **columns | values)
        body = (opened or forecaster()).to_bytes()
        for form in ("packed", "baseline"):
            model_files.add(session, added, form, body)
        if serve:
            models.promote(session, added, serve)
        return added.version


def states(name: str = "tier") -> dict[int, str]:
    """The state of each version of a model."""
    with session_scope() as session:
        return {row.version: str(row.state) for row in models.versions(session, name)[::-1]}
