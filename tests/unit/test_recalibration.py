"""Calibrations that are renewed while habits drift: from what is known by then, and from nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from app.errors import ArtifactRefused
from ml import evaluation, recalibration
from ml.history import DAY
from ml.recalibration import Known, Past
from ml.serving import Calibration, expit, logit

OBJECTS, DAYS = 300, 60
STRAIGHT = Calibration(*(np.array([0.0, 1.0]) for _ in range(4)))


def drifting(seed: int, level: float, slope: float) -> Known:
    """Rows of every object each day, whose log-odds are level + slope × those of the score."""
    rng = np.random.default_rng(seed)
    raw = rng.beta(1, 3, OBJECTS * DAYS)
    cut = np.repeat(np.arange(DAYS) * DAY, OBJECTS)
    y = rng.random(len(raw)) < expit(level + slope * logit(raw))
    return Known(raw, y, np.tile(np.arange(OBJECTS), DAYS), cut)


@pytest.mark.parametrize(("level", "slope"), [(1.0, 1.0), (-1.0, 1.0), (0.3, 0.6)])
def test_a_drift_of_level_or_slope_is_followed(level: float, slope: float):
    known = drifting(1, level, slope)
    late = known.where(known.cut >= 20 * DAY)
    past = known.where(known.cut < 20 * DAY)
    p = recalibration.rolled(STRAIGHT, past, late, DAY)
    stale, followed = (evaluation.calibration_error(late.y, each, 0)[1] for each in (late.raw, p))
    assert stale > 0.05
    assert followed < 0.01


def test_what_is_not_known_yet_changes_nothing():
    known, now, horizon = drifting(2, 1.0, 1.0), 30 * DAY, 7 * DAY
    seen = known.where(known.cut + horizon <= now)
    shuffled = Known(known.raw, np.where(known.cut + horizon <= now, known.y, ~known.y), known.object, known.cut)
    curves = [recalibration.renew(STRAIGHT, rows, now, horizon) for rows in (known, seen, shuffled)]
    for curve in curves[1:]:
        assert np.array_equal(curve.p, curves[0].p)


def test_without_outcomes_the_curve_stays():
    known = drifting(3, 0.0, 1.0)
    assert recalibration.renew(STRAIGHT, known, 0, DAY) is STRAIGHT


@pytest.mark.parametrize("y", [False, True])
def test_one_class_alone_gives_a_curve_that_rises_within_its_band(y: bool):
    known = drifting(4, 0.0, 1.0)
    alike = Known(known.raw, np.full(len(known.y), y), known.object, known.cut)
    curve = recalibration.renew(STRAIGHT, alike, 40 * DAY, DAY)
    assert (np.diff(curve.p) >= 0).all()
    assert ((curve.low <= curve.p) & (curve.p <= curve.high)).all()
    assert ((curve.p >= 0) & (curve.p <= 1)).all()
    assert (np.interp(0.5, curve.x, curve.p) > 0.5) == y


def test_the_order_of_scores_is_kept():
    known = drifting(5, 0.5, 0.8)
    curve = recalibration.renew(STRAIGHT, known, 50 * DAY, DAY)
    assert (np.diff(np.interp(np.linspace(0, 1, 500), curve.x, curve.p)) >= 0).all()


def test_what_renewals_begin_with_travels_and_an_evaluation_renews_as_service_does():
    known, now = drifting(6, 0.7, 0.9), 40 * DAY
    before, later = known.where(known.cut < 20 * DAY), known.where(known.cut >= 20 * DAY)
    past = Past.from_bytes(Past(STRAIGHT, before).to_bytes())
    served = recalibration.renew(past.curve, past.known.joined(later), now, DAY)
    measured = recalibration.rolled(STRAIGHT, before, later, DAY)[later.cut == now]
    assert np.array_equal(measured, np.interp(later.raw[later.cut == now], served.x, served.p))
    assert recalibration.renew(STRAIGHT, Past.without_rows(STRAIGHT).known, now, DAY) is STRAIGHT
    with pytest.raises(ArtifactRefused):
        Past.from_bytes(b"no rows")
