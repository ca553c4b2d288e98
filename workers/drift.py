"""The `drift` task: looks whether what serves sees what it was trained on; renews its calibration, or rings a training.

Step: watch.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import numpy as np
from sqlalchemy.orm import Session

from app.db import accesses, alerts, jobs, model_files, models, observations
from app.db import drift as store
from app.db.jobs import Bell
from app.db.model_files import CALIBRATION, PACKED, Serving
from app.db.session import session_scope
from app.db.tables import Json, ModelVersion
from app.domain.model_life import SHADOWED, retrain_is_due
from app.domain.states import ModelState
from app.errors import ArtifactRefused, NotFound
from app.queue import TaskName
from app.settings import get_settings
from ml import drift, recalibration
from ml.drift import Recent
from ml.evaluation import Outcome
from ml.history import HOUR
from ml.recalibration import Known
from ml.serving import Calibration, Packed
from workers import features
from workers.base import JobContext, job_task, ring_all
from workers.models import SEED, open_packed, recalibrated

ALERT = "model_drift"
OBJECTS = 5_000
"""Drift is looked for in about so many objects: every n-th of a larger catalogue."""
NAMED = 5
NOTICED = 0.01
"""A calibration is kept when it changes a probability by more."""


@job_task(TaskName.DRIFT)
def watch(job: JobContext) -> Json:
    """Compares each model that serves with the present; past a limit an alert stands and a training is rung."""
    moment = features.as_of(job)
    bells: list[Bell | None] = []
    told: Json = {}
    for name in sorted(SHADOWED):
        with session_scope() as session:
            champion = models.champion(session, name)
        if champion is None or not champion.reference:
            continue
        now = _now(champion, moment)
        packed, refused = _packed(champion)
        report = _report(champion, now, packed)
        curve = _renewed(champion, now, packed) if packed else None
        with job.saving() as session:
            store.save(session, champion, moment, report)
            if curve is not None and models.get(session, name, champion.version).state is ModelState.CHAMPION:
                model_files.put(session, champion, CALIBRATION, curve.to_bytes())
            bells.append(_act(session, job, champion, report, refused))
        told[name] = {"version": champion.version, "over": report["over"], "retrain": bells[-1] is not None}
        told[name]["recalibrated"] = curve is not None
        told[name]["shadow_recalibrated"] = _renew_shadow(job, name, moment)
    ring_all(bells)
    return told


def _report(champion: ModelVersion, now: Recent, packed: Packed | None) -> Json:
    settings = get_settings()
    features_found = drift.compare(champion.reference, now.X, now.object, settings.drift_psi) if len(now.X) else []
    seen = None
    if packed is not None:
        outcome = Outcome(now.y, now.object[now.labelled])
        seen = drift.calibration(outcome, packed.score(now.X[now.labelled]).p_hot, SEED)
    over = [row["feature"] for row in features_found if row["over"]]
    is_gap = seen is not None and seen.is_over(settings.drift_calibration)
    calibration = None
    if seen is not None:
        calibration = {**vars(seen), "limit": settings.drift_calibration, "over": is_gap}
    return {"features": features_found, "calibration": calibration, "over": over + ["calibration"] * is_gap}


def _renewed(champion: ModelVersion, now: Recent, packed: Packed) -> Calibration | None:
    """The calibration as of now; None where it is as good as the one that serves."""
    labelled = now.labelled
    if not len(labelled):
        return None
    with session_scope() as session:
        serves = model_files.renewed(session, Serving(champion, PACKED, packed), recalibrated).opened.calibration
    known = Known(packed.raw(now.X[labelled]), now.y, now.object[labelled], now.cut[labelled])
    horizon = int(champion.metrics["horizon_h"]) * HOUR
    curve = recalibration.renew(packed.calibration, known, int(known.cut.max()) + horizon, horizon)
    p = (np.interp(known.raw, each.x, each.p) for each in (curve, serves))
    return curve if np.abs(np.subtract(*p)).max() > NOTICED else None


def _renew_shadow(job: JobContext, name: str, moment: datetime) -> bool:
    """As the champion's, so that the two are compared alike. Whether it was renewed."""
    with session_scope() as session:
        shadow = models.shadow(session, name)
    packed, _ = _packed(shadow) if shadow else (None, "")
    curve = _renewed(shadow, _now(shadow, moment), packed) if shadow and packed else None
    if shadow is None or curve is None:
        return False
    with job.saving() as session:
        is_shadow = models.get(session, name, shadow.version).state == ModelState.SHADOW
        if is_shadow:
            model_files.put(session, shadow, CALIBRATION, curve.to_bytes())
    return is_shadow


def _now(champion: ModelVersion, moment: datetime) -> Recent:
    """Rows of the window that ends at the newest known access."""
    with session_scope() as session:
        newest = accesses.clock(session) or moment
        until = accesses.floor_hour(min(moment, newest))
        part = max(1, observations.count_objects(session) // OBJECTS)
        observed = observations.observe_hours(session, until, (0, part))
    trained_until = accesses.microseconds(champion.data_to or until)
    horizon = int(champion.metrics["horizon_h"]) * HOUR
    return drift.recent(
        observed.history, observed.catalogue, accesses.microseconds(until), horizon, trained_until, SEED
    )


def _packed(champion: ModelVersion) -> tuple[Packed | None, str]:
    try:
        with session_scope() as session:
            return open_packed(model_files.read(session, champion, PACKED)), ""
    except (ArtifactRefused, NotFound) as error:
        return None, error.detail


def _act(session: Session, job: JobContext, champion: ModelVersion, report: Json, refused: str) -> Bell | None:
    """Raises or clears the alert; the bell of the training that is rung, if one is."""
    name = champion.name
    if report["over"]:
        message = f"{name} version {champion.version} no longer sees what it was trained on: {_told(report)}"
        data = {"name": name, "version": champion.version, "over": report["over"]}
        alerts.raise_alert(session, ALERT, "warning", message, subject=name, data=data)
    else:
        alerts.clear(session, ALERT, name)
    if not (report["over"] or refused):
        return None
    models.lock(session, name)  # two watches ring once
    since, busy = store.last_training(session, name)
    if not retrain_is_due(since, busy, timedelta(seconds=get_settings().retrain_every_s)):
        return None
    why = "the file is refused" if refused else "drift"
    given = {key: job.args[key] for key in ("as_of",) if key in job.args}
    args = {"model": name, "why": why} | given
    return jobs.bell(jobs.submit(session, TaskName.TRAIN, args, priority=5, actor="drift"))


def _told(report: Json) -> str:
    told = [f"{row['feature']} (PSI {row['psi']:.2f}, limit {row['limit']:.2f})" for row in _over(report)[:NAMED]]
    more = len(_over(report)) - NAMED
    if more > 0:
        told.append(f"{more} more features")
    watched = report["calibration"]
    if watched and watched["over"]:
        told.append(f"{watched['predicted']:.3f} were expected to be read and {watched['happened']:.3f} were")
    return ", ".join(told)


def _over(report: Json) -> list[dict[str, Any]]:
    return [row for row in report["features"] if row["over"]]
