"""Learns how often objects will be read in 1, 7 and 30 days, and opens what serves (steps: learn, predict)."""

from __future__ import annotations

from datetime import datetime, timedelta
from importlib.metadata import version

from sqlalchemy.orm import Session

from app.db import accesses, model_files, models, observations
from app.db.model_files import PACKED, SKOPS, Serving
from app.db.observations import Observed
from app.db.session import session_scope
from app.db.tables import Json
from app.errors import ArtifactRefused, NotEnoughData
from ml import artifacts, demand_training
from ml.demand_forecast import HORIZONS, Forecaster, Learned
from ml.demand_models import BASELINES, FEATURES, PARAMS
from ml.demand_rows import Observer
from ml.demand_training import Judged
from ml.history import DAY
from workers import features
from workers.base import JobContext

NAME = "demand"
SEED = 20_260_101
LEARN_OBJECTS = 20_000
"""A model learns from about so many objects: every n-th of a larger catalogue."""
STEPS = 5
LIBRARIES = ("numpy", "scikit-learn", "scipy", "skops")


def learn(job: JobContext) -> Json:
    """Trains every horizon that the history is long enough for; the version serves from the next predictions on.

    It was judged beside its baselines on later rows: where no candidate is as good, the best baseline is the version.
    """
    until = accesses.floor_hour(features.as_of(job))
    with session_scope() as session:
        part = max(1, observations.count_objects(session) // LEARN_OBJECTS)
        observed = observations.observe_hours(session, until, (0, part))
    judged, short = _judged(job, observed, accesses.microseconds(until))
    if not judged:
        raise NotEnoughData("; ".join(f"{days} d: {why}" for days, why in short.items()))
    forecaster = Forecaster(tuple(Learned.of(days, found, observed.ids) for days, found in judged.items()))
    fitted = {f"{days}d": found.estimators for days, found in judged.items()}
    files = {PACKED: forecaster.to_bytes(), SKOPS: artifacts.dump_estimator(fitted)}
    result: Json = {}
    with job.finishing(result) as session:
        models.lock(session, NAME)
        before = models.champion(session, NAME)
        values = _values(observed, until, judged, short)
        added = models.add(session, NAME, **values, parent=before.version if before else None, job_id=job.id)
        for form, body in files.items():
            model_files.add(session, added, form, body)
        models.promote(session, added, values["reason"])
        result |= {"name": f"{NAME} {added.algorithm}-{added.version}", "version": added.version, "state": added.state}
        result |= {"reason": added.reason, "horizons": {f"{days}d": _told(found) for days, found in judged.items()}}
        result |= {"too_short": {f"{days}d": why for days, why in short.items()}}
    return result


def load_serving(session: Session) -> Serving[Forecaster] | ArtifactRefused | None:
    """What forecasts now; None before the first version."""
    return model_files.serving(session, NAME, Forecaster.from_bytes)


def _judged(job: JobContext, observed: Observed, end: int) -> tuple[dict[int, Judged], dict[int, str]]:
    """By days what was learned, and why nothing was of the other horizons."""
    observer = Observer(observed.history, observed.catalogue, DAY)
    judged, short = {}, {}
    for number, days in enumerate(HORIZONS):

        def say(done: int, _total: int, _what: str, before: int = number * STEPS) -> None:
            job.progress(before + done, STEPS * len(HORIZONS), "steps")

        try:
            judged[days] = demand_training.judge(observer.looking(days * DAY), end, SEED, say=say)
        except NotEnoughData as error:
            short[days] = error.detail
    job.progress(STEPS * len(HORIZONS), STEPS * len(HORIZONS), "steps")
    return judged, short


def _told(found: Judged) -> Json:
    measured = {row["name"]: row for row in found.document["models"]}[found.champion]
    names = ("quantile_loss", "coverage", "mae", "poisson_deviance")
    return {"champion": found.champion, **{name: measured[name] for name in names}}


def _values(observed: Observed, until: datetime, judged: dict[int, Judged], short: dict[int, str]) -> Json:
    """Columns of ModelVersion; the figures shown first are of the longest horizon, which plans go by."""
    longest = max(judged)
    document = judged[longest].document
    measured = {row["name"]: row for row in document["models"]}
    missing = f"; not of {', '.join(f'{days}' for days in short)} days: the history is too short" if short else ""
    return {
        "algorithm": document["champion"],
        "data_from": accesses.EPOCH + timedelta(microseconds=observed.history.begin),
        "data_to": until,
        "rows": document["rows"],
        "features": list(FEATURES),
        "params": {**PARAMS, "seed": SEED},
        "metrics": {
            **measured[document["champion"]],
            "horizon_h": longest * 24,
            "horizons": {f"{days}d": found.document for days, found in judged.items()},
        },
        "baselines": {name: measured[name] for name in BASELINES},
        "libraries": {name: version(name) for name in LIBRARIES},
        "reason": f"{longest} days: {document['reason']}{missing}",
    }
