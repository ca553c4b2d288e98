"""Foretide's own models as ONNX give the scores and probabilities of ml.serving."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from ml import calibration, packing
from ml.onnx_packed import export_packed
from ml.serving import Blend, Calibration, Packed

NAMES = ("a", "b", "c", "d")
IDENTITY = Calibration(*(np.array([0.0, 1.0]) for _ in range(4)))


@pytest.fixture(scope="module")
def models() -> dict[str, Packed]:
    rng = np.random.default_rng(0)
    X = rng.gamma(1.0, 100.0, (3000, 4)).astype(np.float32)
    y = X[:, 2] + rng.normal(0, 50, 3000) > X[:, 1]
    columns = [2, 0, 1]
    Z = np.log1p(X[:, columns].astype(float))
    scaler = StandardScaler().fit(Z)
    line = LogisticRegression().fit(scaler.transform(Z), y)
    forest = RandomForestClassifier(20, max_depth=8, random_state=0).fit(X[:, columns], y)
    boosted = HistGradientBoostingClassifier(max_iter=30, random_state=0).fit(X[:, columns], y)
    bodies = {
        "linear": packing.pack_logistic(scaler, line, columns),
        "forest": packing.pack_forest(forest, columns),
        "boosted": packing.pack_boosted(boosted, columns),
    }
    found = {}
    for kind, body in bodies.items():
        raw = Packed(kind, NAMES, body, IDENTITY)
        found[kind] = raw.recalibrated(calibration.fit(raw.raw(X), y))
    stairs = Calibration(*(np.array([0.0, 0.0, 0.5, 1.0, 1.0]),) * 1, *(np.array([0.1, 0.2, 0.4, 0.8, 0.9]),) * 3)
    found["stairs"] = found["linear"].recalibrated(stairs)
    found["blend"] = Packed("blend", NAMES, Blend((found["forest"], found["boosted"], found["linear"])), IDENTITY)
    return found


@pytest.mark.parametrize("kind", ["linear", "forest", "boosted", "stairs", "blend"])
def test_scores_and_probabilities_are_the_same(models: dict[str, Packed], kind: str):
    model = models[kind]
    X = np.random.default_rng(5).gamma(1.0, 120.0, (2000, 4)).astype(np.float32)
    session = onnxruntime.InferenceSession(export_packed(model), providers=["CPUExecutionProvider"])
    raw, p = session.run(["p_raw", "p_hot"], {"X": X})
    scores = model.score(X)
    assert np.abs(raw[:, 0] - scores.p_raw).max() < 1e-5
    assert np.abs(p[:, 0] - scores.p_hot).max() < 1e-5
