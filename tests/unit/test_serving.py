"""Packed forms give the learning library's own numbers, and the serving module loads none."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from app.errors import ArtifactRefused
from ml import packing
from ml.serving import Calibration, Packed, tier_of

COLUMNS = [4, 0, 2]
NAMES = ("a", "b", "c", "d", "e")
IDENTITY = Calibration(*(np.array([0.0, 1.0]) for _ in range(4)))


@pytest.fixture(scope="module")
def rows() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.gamma(1.0, 100.0, (3000, 5)).astype(np.float32)
    X[:, 0] = np.round(X[:, 0])  # ties with thresholds
    return X, X[:, 4] + rng.normal(0, 50, 3000) > X[:, 2]


def test_a_packed_forest_equals_sklearn(rows: tuple[np.ndarray, np.ndarray]):
    X, y = rows
    model = RandomForestClassifier(30, max_depth=9, random_state=0).fit(X[:, COLUMNS], y)
    packed = Packed("forest", NAMES, packing.pack_forest(model, COLUMNS), IDENTITY)
    assert np.abs(packed.raw(X) - model.predict_proba(X[:, COLUMNS])[:, 1]).max() < 1e-6


def test_packed_boosting_equals_sklearn(rows: tuple[np.ndarray, np.ndarray]):
    X, y = rows
    model = HistGradientBoostingClassifier(max_iter=30, random_state=0).fit(X[:, COLUMNS], y)
    packed = Packed("boosted", NAMES, packing.pack_boosted(model, COLUMNS), IDENTITY)
    assert np.abs(packed.raw(X) - model.predict_proba(X[:, COLUMNS])[:, 1]).max() < 1e-6


def test_packed_logistic_equals_sklearn(rows: tuple[np.ndarray, np.ndarray]):
    X, y = rows
    scaler, model = StandardScaler(), LogisticRegression()
    Z = np.log1p(X[:, COLUMNS].astype(float))
    model.fit(scaler.fit_transform(Z), y)
    packed = Packed("linear", NAMES, packing.pack_logistic(scaler, model, COLUMNS), IDENTITY)
    assert np.abs(packed.raw(X) - model.predict_proba(scaler.transform(Z))[:, 1]).max() < 1e-6


def test_thresholds_are_rounded_down_so_that_no_float32_changes_sides():
    rng = np.random.default_rng(1)
    threshold = rng.normal(0, 1e3, 10_000)
    x = threshold.astype(np.float32)
    assert np.array_equal(x.astype(float) <= threshold, x <= packing._round_down(threshold))


def test_bytes_bring_back_the_same_model_and_one_row_is_as_many(rows: tuple[np.ndarray, np.ndarray]):
    X, y = rows
    model = RandomForestClassifier(10, max_depth=5, random_state=0).fit(X[:, COLUMNS], y)
    curve = Calibration(
        np.array([0.0, 0.4, 1.0]), np.array([0.1, 0.5, 0.8]), np.array([0, 0.4, 0.7]), np.array([0.2, 0.6, 1])
    )
    packed = Packed("forest", NAMES, packing.pack_forest(model, COLUMNS), curve)
    again = Packed.from_bytes(packed.to_bytes())
    assert again.names == NAMES
    scores, one = packed.score(X), again.score(X[:1])
    assert one.p_hot[0] == scores.p_hot[0]
    assert (scores.p_low <= scores.p_hot).all()
    assert (scores.p_hot <= scores.p_high).all()
    assert len(packed.score(X[:0]).p_hot) == 0


@pytest.mark.parametrize("body", [b"", b"not a model", b"PK\x03\x04 cut"])
def test_other_bytes_are_refused(body: bytes):
    with pytest.raises(ArtifactRefused):
        Packed.from_bytes(body)


def test_tiers_follow_the_display_thresholds():
    assert tier_of(np.array([0.0, 0.3, 0.5, 0.7, 0.71])).tolist() == [0, 1, 1, 1, 2]


def test_serving_loads_no_learning_library():
    code = (
        "import sys, ml.serving, app.db.models, app.db.prediction_batches, app.db.accesses, app.db.ingest;"
        "print([m for m in ('sklearn', 'scipy', 'skops', 'duckdb') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
