"""Exported models give ONNX Runtime the numbers of the packed forms, which equal the library's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from app.errors import Invalid
from ml.onnx_form import export
from ml.serving_models import General
from tests.unit.test_general_models import events, trained


def run(model: General, X: np.ndarray) -> dict[str, Any]:
    import onnxruntime

    session = onnxruntime.InferenceSession(export(model), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"X": X.astype(np.float32)}), strict=True))


@pytest.fixture
def rows() -> np.ndarray:
    found = np.random.default_rng(8).normal(0, 2, (500, 2)).astype(np.float32).astype(float)
    found[::7, 0] = np.nan
    return found


@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("algorithm", ["random_forest", "linear_regression"])
def test_numbers(rows: np.ndarray, algorithm: str, scale: bool):
    model = trained(events(300), algorithm, target="c", scale=scale).model
    assert np.abs(run(model, rows)["prediction"][:, 0] - model.predict(rows).value).max() < 1e-5


@pytest.mark.parametrize("target", ["text", "bool"])
def test_classes(rows: np.ndarray, target: str):
    model = trained(events(300, target), target="c").model
    found, told = run(model, rows), model.told(model.predict(rows))
    assert np.abs(found["probabilities"] - model.predict(rows).detail).max() < 1e-5
    clear = np.abs(found["probabilities"][:, 0] - 0.5) > 1e-4
    assert clear.sum() > 400
    words = {"up": "up", "down": "down", True: "true", False: "false"}
    wanted = [words[each["prediction"]] for each in told]
    assert [a for a, sure in zip(found["label"].tolist(), clear, strict=True) if sure] == [
        a for a, sure in zip(wanted, clear, strict=True) if sure
    ]


def test_one_tree_that_is_one_leaf(rows: np.ndarray):
    same = [{"a": 1, "b": n % 2, "c": 4} for n in range(30)]
    model = trained(same, target="c", params={"n_estimators": 1}).model
    assert run(model, rows)["prediction"].tolist() == [[4.0]] * len(rows)


def test_other_forms_are_refused():
    with pytest.raises(Invalid, match="no ONNX form"):
        export(trained(events(30), "kmeans").model)
