"""What the watch sees of a model that serves: its features now, whether it comes true, its calibration as of now.

Step: watch.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from app.db import accesses, model_files, observations
from app.db.model_files import PACKED, Serving
from app.db.observations import Observed
from app.db.session import session_scope
from app.db.tables import Json, ModelVersion
from app.errors import ArtifactRefused, NotFound
from app.settings import get_settings
from ml import demand_drift, drift, recalibration
from ml.dataset import step_of
from ml.demand_forecast import Forecaster
from ml.demand_rows import COLUMNS, Observer
from ml.drift import WINDOW, Watch
from ml.evaluation import Outcome
from ml.features import FeatureBuilder
from ml.history import DAY, HOUR
from ml.recalibration import Known, Past
from ml.serving import Calibration, Packed
from workers import demand, scoring
from workers.models import NAME, SEED, open_packed, past_of, recalibrated

OBJECTS = 5_000
"""Drift is looked for in about so many objects: every n-th of a larger catalogue."""
SAME = 1e-9


@dataclass(frozen=True)
class Look:
    """What was seen of one version."""

    report: Json
    curve: Calibration | None = None
    """Its calibration as of now, where that is another than the one that serves."""
    refused: str = ""
    """Why its file does not open; empty when it does."""


def look(version: ModelVersion, moment: datetime) -> Look:
    """Of the window that ends at the newest known access."""
    with session_scope() as session:
        newest = accesses.clock(session) or moment
        until = accesses.floor_hour(min(moment, newest))
        part = max(1, observations.count_objects(session) // OBJECTS)
        observed = observations.observe_hours(session, until, (0, part))
    return (
        _look_at_tiers(version, observed, until) if version.name == NAME else _look_at_demand(version, observed, until)
    )


def _look_at_tiers(version: ModelVersion, observed: Observed, until: datetime) -> Look:
    builder, end = FeatureBuilder(observed.history, observed.catalogue), accesses.microseconds(until)
    horizon = int(version.metrics["horizon_h"]) * HOUR
    seen = drift.recent(builder, end, horizon, SEED)
    rows = drift.compare(version.reference, seen.X, seen.object, _psi()) if version.reference and len(seen.X) else []
    try:
        with session_scope() as session:
            packed = open_packed(model_files.read(session, version, PACKED))
            past = past_of(session, version, packed)
            serves = model_files.renewed(session, Serving(version, PACKED, packed), recalibrated).opened.calibration
    except (ArtifactRefused, NotFound) as error:
        return Look(_report(rows), refused=error.detail)
    since = accesses.microseconds(version.data_to or until)
    known = _later(builder, packed, past, observed, (since, end), horizon)
    curve = _renewed(past, known, end, horizon, daily=observed.history.daily)
    return Look(_report(rows, calibration=_came_true(past, known, since, end, horizon)), _other(curve, serves))


def _later(
    builder: FeatureBuilder, packed: Packed, past: Past, observed: Observed, time: tuple[int, int], horizon: int
) -> Known:
    """Scores of the rows of which became known since the training what came of them."""
    since, end = time
    kept = past.known.cut.max(initial=since - horizon) + horizon
    rows = drift.later(builder, int(kept), end, horizon, SEED)
    return Known(scoring.raw(packed, rows.X), rows.y, observed.ids[rows.object], rows.cut)


def _renewed(past: Past, later: Known, end: int, horizon: int, *, daily: bool) -> Calibration:
    """The curve as of the newest step of the training's grid: the rule by which versions are measured."""
    step = step_of(horizon, daily=daily)
    return recalibration.renew(past.curve, past.known.joined(later), end // step * step, horizon)


def _other(curve: Calibration, serves: Calibration) -> Calibration | None:
    p = (np.interp(curve.x, each.x, each.p) for each in (curve, serves))
    return curve if np.abs(np.subtract(*p)).max() > SAME else None


def _came_true(past: Past, later: Known, since: int, end: int, horizon: int) -> Watch | None:
    """Of the window's rows after the training: each as it was said in service, by the curve as it stood at its cut."""
    here = later.cut >= max(since, end - WINDOW.get(horizon, DAY))
    said = later.where(here)
    if not here.any():
        return None
    p = recalibration.rolled(past.curve, past.known.joined(later.where(~here)), said, horizon)
    return drift.calibration(Outcome(said.y, said.object), p, SEED)


def _look_at_demand(version: ModelVersion, observed: Observed, until: datetime) -> Look:
    end, days = accesses.microseconds(until), demand.shortest(version)
    observer = Observer(observed.history, observed.catalogue, days * DAY)
    seen = demand_drift.recent(observer, end, SEED)
    if seen is None:
        return Look(_report([]))
    rows = drift.compare(version.reference, seen.X, seen.object, _psi(), COLUMNS) if version.reference else []
    try:
        with session_scope() as session:
            opened = Forecaster.from_bytes(model_files.read(session, version, PACKED))
    except (ArtifactRefused, NotFound) as error:
        return Look(_report(rows), refused=error.detail)
    (learned,) = (one for one in opened.learned if one.days == days)
    return Look(_report(rows, coverage=demand_drift.coverage(learned, observer, seen, end, observed.ids, SEED)))


def _report(rows: list[dict[str, Any]], calibration: Watch | None = None, coverage: Watch | None = None) -> Json:
    limit = get_settings().drift_calibration
    over = [row["feature"] for row in rows if row["over"]]
    report: Json = {"features": rows}
    for name, watch in (("calibration", calibration), ("coverage", coverage)):
        is_over = watch is not None and watch.is_over(limit)
        report[name] = {**vars(watch), "limit": limit, "over": is_over} if watch else None
        over += [name] * is_over
    return report | {"over": over}


def _psi() -> float:
    return get_settings().drift_psi
