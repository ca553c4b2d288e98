"""The `drift` task: looks whether what serves sees what it was trained on; renews its calibration, or rings a training.

Step: watch.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.orm import Session

from app.db import alerts, jobs, model_files, models
from app.db import drift as store
from app.db.jobs import Bell
from app.db.model_files import CALIBRATION
from app.db.session import session_scope
from app.db.tables import Json, ModelVersion
from app.domain.model_life import SHADOWED, retrain_is_due
from app.domain.states import ModelState
from app.queue import TaskName
from app.settings import get_settings
from workers import features
from workers.base import JobContext, job_task, ring_all
from workers.drift_looks import Look, look
from workers.models import NAME as TIER

ALERT = "model_drift"
NAMED = 5
WATCHES = {
    "calibration": "{predicted:.3f} were expected to be read and {happened:.3f} were",
    "coverage": "{predicted:.0%} of counts were expected between the outer quantiles and {happened:.0%} were",
}


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
        seen = look(champion, moment)
        with job.saving() as session:
            store.save(session, champion, moment, seen.report)
            is_champion = models.get(session, name, champion.version).state == ModelState.CHAMPION
            if seen.curve is not None and is_champion:
                model_files.put(session, champion, CALIBRATION, seen.curve.to_bytes())
            bells.append(_act(session, job, champion, seen))
        told[name] = {"version": champion.version, "over": seen.report["over"], "retrain": bells[-1] is not None}
        if name == TIER:
            told[name]["recalibrated"] = seen.curve is not None
            told[name]["shadow_recalibrated"] = _renew_shadow(job, name, moment)
    ring_all(bells)
    return told


def _renew_shadow(job: JobContext, name: str, moment: datetime) -> bool:
    """As the champion's, so that the two are compared alike. Whether it was renewed."""
    with session_scope() as session:
        shadow = models.shadow(session, name)
    curve = look(shadow, moment).curve if shadow else None
    if shadow is None or curve is None:
        return False
    with job.saving() as session:
        is_shadow = models.get(session, name, shadow.version).state == ModelState.SHADOW
        if is_shadow:
            model_files.put(session, shadow, CALIBRATION, curve.to_bytes())
    return is_shadow


def _act(session: Session, job: JobContext, champion: ModelVersion, seen: Look) -> Bell | None:
    """Raises or clears the alert; the bell of the training that is rung, if one is."""
    name, report = champion.name, seen.report
    if report["over"]:
        message = f"{name} version {champion.version} no longer sees what it was trained on: {_told(report)}"
        data = {"name": name, "version": champion.version, "over": report["over"]}
        alerts.raise_alert(session, ALERT, "warning", message, subject=name, data=data)
    else:
        alerts.clear(session, ALERT, name)
    if not (report["over"] or seen.refused):
        return None
    models.lock(session, name)  # two watches ring once
    since, busy = store.last_training(session, name)
    if not retrain_is_due(since, busy, timedelta(seconds=get_settings().retrain_every_s)):
        return None
    why = "the file is refused" if seen.refused else "drift"
    given = {key: job.args[key] for key in ("as_of",) if key in job.args}
    args = {"model": name, "why": why} | given
    return jobs.bell(jobs.submit(session, TaskName.TRAIN, args, priority=5, actor="drift"))


def _told(report: Json) -> str:
    told = [f"{row['feature']} (PSI {row['psi']:.2f}, limit {row['limit']:.2f})" for row in _over(report)[:NAMED]]
    more = len(_over(report)) - NAMED
    if more > 0:
        told.append(f"{more} more features")
    for watch, words in WATCHES.items():
        watched = report[watch]
        if watched and watched["over"]:
            told.append(words.format(**watched))
    return ", ".join(told)


def _over(report: Json) -> list[dict[str, Any]]:
    return [row for row in report["features"] if row["over"]]
