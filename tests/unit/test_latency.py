"""What shared samples say of the next 45 seconds: no feature sees the future, and labels look ahead alone."""

from __future__ import annotations

import numpy as np
import pytest

from ml import latency
from ml.latency import AHEAD_S, KEPT_S, NAMES, Seconds

SITES, LENGTH = 3, 600


def seconds(rng: np.random.Generator, n: int = 20_000) -> Seconds:
    return Seconds.of(
        rng.uniform(0, LENGTH, n),
        rng.integers(0, SITES, n),
        rng.lognormal(4, 0.5, n),
        rng.uniform(size=n) > 0.01,
        sites=SITES,
        begin=0,
        seconds=LENGTH,
    )


def test_samples_are_counted_by_site_and_second():
    found = Seconds.of(
        np.array([5.2, 5.9, 7.0, -1.0, 99.0]), [0, 0, 1, 0, 0], np.array([10.0, 30.0, 5.0, 1.0, 1.0]),
        [True, False, True, True, True], sites=2, begin=5, seconds=4,
    )  # fmt: skip
    assert found.number.tolist() == [[2, 0, 0, 0], [0, 0, 1, 0]]
    assert found.total_ms[0, 0] == 40.0
    assert found.worst_ms[0, 0] == 30.0
    assert found.errors.tolist() == [[1, 0, 0, 0], [0, 0, 0, 0]]


def test_no_feature_sees_the_future():
    rng = np.random.default_rng(1)
    seen = seconds(rng)
    at = 400
    before = latency.features(seen.window(at))
    for part in (seen.number, seen.total_ms, seen.worst_ms, seen.errors):
        part[:, at:] = rng.uniform(0, 1e6, part[:, at:].shape)
    assert np.array_equal(before, latency.features(seen.window(at)))


def test_features_are_finite_without_any_sample():
    empty = Seconds(*(np.zeros((SITES, KEPT_S)) for _ in range(4)))
    assert np.isfinite(latency.features(empty)).all()
    assert latency.features(empty).shape == (SITES, len(NAMES))


def test_velocity_is_the_growth_of_ten_seconds():
    number = np.ones((1, KEPT_S))
    total = np.full((1, KEPT_S), 50.0)
    total[0, -10:] = 100.0
    found = dict(zip(NAMES, latency.features(Seconds(number, total, total, np.zeros_like(number)))[0], strict=True))
    assert found["velocity"] == pytest.approx(np.log(2))
    assert found["mean_10s"] == pytest.approx(np.log(100))
    assert found["slope_60s"] > 0


def test_a_label_is_the_worst_half_minute_to_come():
    number, total = np.ones((1, LENGTH)), np.full((1, LENGTH), 50.0)
    at = 400
    total[0, at + 10 : at + 40] = 200.0
    total[0, at + AHEAD_S :] = 5000.0
    label = latency.labels(Seconds(number, total, total, np.zeros_like(number)), at)
    assert label[0] == pytest.approx(np.log(4))


def test_the_fitted_quantile_is_exceeded_once_in_five_times():
    rng = np.random.default_rng(2)
    X = rng.normal(size=(4000, len(NAMES)))
    y = X[:, 7] + rng.normal(size=4000)
    fitted = latency.Fitted(latency.fit(X, y, seed=1))
    fresh = rng.normal(size=(4000, len(NAMES)))
    covered = np.mean(fresh[:, 7] + rng.normal(size=4000) <= fitted(fresh))
    assert 0.7 < covered < 0.86


def test_risk_needs_both_growth_and_a_level():
    found = np.zeros((4, len(NAMES)))
    found[:, NAMES.index("mean_30s")] = np.log([40.0, 150.0, 150.0, 290.0])
    assert latency.risk(found, np.log([2.0, 2.0, 1.0, 1.05]), 300.0).tolist() == [0.0, 1.0, 0.0, 0.0]
