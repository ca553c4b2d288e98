"""Reasons of a prediction: what it would be with one feature as usual."""

from __future__ import annotations

import numpy as np
import pytest

from ml import drift, reasons
from ml.features import NAMES
from ml.serving import Calibration, Linear, Packed

STRAIGHT = Calibration(*(np.array([0.0, 1.0]) for _ in range(4)))


def model(*weights: tuple[str, float]) -> Packed:
    places = np.array([NAMES.index(name) for name, _ in weights], np.int32)
    of = np.array([weight for _, weight in weights])
    return Packed("linear", NAMES, Linear(places, of * 0, of * 0 + 1, of, -1.0), STRAIGHT)


def test_the_strongest_comes_first_with_what_it_adds_to_the_log_odds():
    X = np.zeros((1, len(NAMES)), np.float32)
    X[0, NAMES.index("rate_7d")] = 9
    X[0, NAMES.index("rate_30d")] = 9
    packed = model(("rate_7d", 1.0), ("rate_30d", 0.2))
    (found,) = reasons.top(packed, X, {"rate_7d": 0.0, "rate_30d": 0.0, "log_size": 5.0})
    assert [reason.feature for reason in found] == ["rate_7d", "rate_30d"]
    assert found[0].effect == pytest.approx(np.log(10), rel=0.01)  # a linear model: its weight times ln(1 + 9)
    assert found[1].effect == pytest.approx(0.2 * np.log(10), rel=0.01)
    assert (found[0].value, found[0].typical) == (9.0, 0.0)


def test_a_usual_row_has_no_reason():
    X = np.ones((3, len(NAMES)), np.float32)
    assert reasons.top(model(("rate_7d", 1.0)), X, dict.fromkeys(NAMES, 1.0)) == [[], [], []]


def test_the_typical_value_is_the_median_to_within_a_bin():
    rng = np.random.default_rng(0)
    X = rng.exponential(10, (5000, len(NAMES))).astype(np.float32)
    X[:, NAMES.index("access_1h")] = 0
    spread = drift.reference(X, np.arange(5000), ("rate_7d", "access_1h"))
    found = reasons.typical(spread)
    assert found["access_1h"] == 0
    assert found["rate_7d"] == pytest.approx(float(np.median(X[:, NAMES.index("rate_7d")])), rel=0.05)
    assert reasons.typical({}) == {}
