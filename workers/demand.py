"""Learns how often objects will be read in 1, 7 and 30 days, and opens what serves (steps: learn, predict)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib.metadata import version
from typing import Any

import structlog
from sqlalchemy.orm import Session

from app.db import accesses, model_files, models, observations
from app.db.model_files import BASELINE, PACKED, SKOPS, Serving
from app.db.observations import Observed
from app.db.session import session_scope
from app.db.tables import Json, ModelVersion
from app.errors import ArtifactRefused, NotEnoughData, NotFound
from ml import artifacts, demand_drift, demand_judging, demand_training, drift
from ml.demand_forecast import HORIZONS, Forecaster, Learned, Past
from ml.demand_models import BASELINES, FEATURES, PARAMS
from ml.demand_rows import COLUMNS, Observer
from ml.history import DAY
from workers import features, model_life
from workers.base import JobContext

log = structlog.get_logger()
NAME = "demand"
SEED = 20_260_101
LEARN_OBJECTS = 20_000
"""A model learns from about so many objects: every n-th of a larger catalogue."""
STEPS = 5
LIBRARIES = ("numpy", "scikit-learn", "scipy", "skops")


def learn(job: JobContext) -> Json:
    """Trains every horizon that the history is long enough for, and compares with the champion on the same later rows.

    It is judged beside its baselines too: where no candidate is as good, the best baseline is the version.
    """
    until = accesses.floor_hour(features.as_of(job))
    with session_scope() as session:
        observed = _observed(session, until)
        champion = models.champion(session, NAME)
        opened = _own_file(session, champion)
    taught, short = _taught(job, observed, accesses.microseconds(until), opened)
    if not taught:
        raise NotEnoughData("; ".join(f"{days} d: {why}" for days, why in short.items()))
    documents = {days: one.document for days, one in taught.items()}
    learned = model_life.Learned(
        values=_values(observed, until, taught, short) | {"reference": _reference(observed, until, min(taught))},
        files=_files(taught),
        beside=champion.version if champion and opened else None,
        found=demand_judging.together({days: one.found for days, one in taught.items()}, len(observed.ids)),
        mends=champion.version if champion and not opened else None,
        told={
            "horizons": {f"{days}d": _told(document) for days, document in documents.items()},
            "too_short": {f"{days}d": why for days, why in short.items()},
        },
    )
    job.check()
    return model_life.keep(job, NAME, learned)


def load_serving(session: Session) -> Serving[Forecaster] | ArtifactRefused | None:
    """What forecasts now; None before the first version."""
    return model_files.serving(session, NAME, Forecaster.from_bytes)


def past(moment: datetime) -> Past:
    """What spreads are renewed by as of an aware time: what a training would observe then, as far as it is known."""
    with session_scope() as session:
        until = accesses.floor_hour(min(moment, accesses.clock(session) or moment))
        observed = _observed(session, until)
    observer = Observer(observed.history, observed.catalogue, DAY)
    return Past(observer, observed.ids, accesses.microseconds(until))


def _observed(session: Session, until: datetime) -> Observed:
    part = max(1, observations.count_objects(session) // LEARN_OBJECTS)
    return observations.observe_hours(session, until, (0, part))


def shortest(version: ModelVersion) -> int:
    """Days of the shortest horizon that a version learned."""
    return min(int(days.removesuffix("d")) for days in version.metrics["horizons"])


def _own_file(session: Session, champion: ModelVersion | None) -> Forecaster | None:
    """What the champion itself says, unless its file is refused: then training anew mends it."""
    if champion is None:
        return None
    try:
        return Forecaster.from_bytes(model_files.read(session, champion, PACKED))
    except (ArtifactRefused, NotFound) as error:
        log.warning("the champion cannot be compared", detail=error.detail)
        return None


@dataclass(frozen=True)
class _Taught:
    """What one horizon came to."""

    document: Json
    learned: Learned
    baseline: Learned
    estimators: Mapping[str, Any]
    found: Json | None
    """The comparison with the champion."""


def _taught(
    job: JobContext, observed: Observed, end: int, champion: Forecaster | None
) -> tuple[dict[int, _Taught], dict[int, str]]:
    """By days what was learned, and why nothing was of the other horizons."""
    observer = Observer(observed.history, observed.catalogue, DAY)
    before = {one.days: one for one in champion.learned} if champion else {}
    taught, short = {}, {}
    for number, days in enumerate(HORIZONS):

        def say(done: int, _total: int, _what: str, before: int = number * STEPS) -> None:
            job.progress(before + done, STEPS * len(HORIZONS), "steps")

        try:
            judged = demand_training.judge(observer.looking(days * DAY), end, SEED, say=say)
        except NotEnoughData as error:
            short[days] = error.detail
            continue
        fitted, estimators = judged.fit(SEED)
        taught[days] = _Taught(
            document=judged.document,
            learned=Learned.of(days, judged, fitted, observed.ids),
            baseline=Learned.baseline_of(days, judged, observed.ids),
            estimators=estimators,
            found=demand_judging.compare(judged, before[days], observed.ids, SEED) if days in before else None,
        )
    job.progress(STEPS * len(HORIZONS), STEPS * len(HORIZONS), "steps")
    return taught, short


def _reference(observed: Observed, until: datetime, days: int) -> Json:
    """How the features of the shortest horizon are spread now."""
    observer = Observer(observed.history, observed.catalogue, days * DAY)
    seen = demand_drift.recent(observer, accesses.microseconds(until), SEED)
    return drift.reference(seen.X, seen.object, FEATURES, COLUMNS) if seen else {}


def _files(taught: Mapping[int, _Taught]) -> dict[str, bytes]:
    return {
        PACKED: Forecaster(tuple(one.learned for one in taught.values())).to_bytes(),
        BASELINE: Forecaster(tuple(one.baseline for one in taught.values())).to_bytes(),
        SKOPS: artifacts.dump_estimator({f"{days}d": one.estimators for days, one in taught.items()}),
    }


def _told(document: Json) -> Json:
    measured = {row["name"]: row for row in document["models"]}[document["champion"]]
    names = ("quantile_loss", "coverage", "mae", "poisson_deviance")
    return {"champion": document["champion"], **{name: measured[name] for name in names}}


def _values(observed: Observed, until: datetime, taught: Mapping[int, _Taught], short: dict[int, str]) -> Json:
    """Columns of ModelVersion; the figures shown first are of the longest horizon, which plans go by."""
    longest = max(taught)
    document = taught[longest].document
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
            "horizons": {f"{days}d": found.document for days, found in taught.items()},
        },
        "baselines": {name: measured[name] for name in BASELINES},
        "libraries": {name: version(name) for name in LIBRARIES},
        "reason": f"{longest} days: {document['reason']}{missing}",
    }
