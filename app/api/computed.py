"""Answers that take arrays: what computes them is loaded by the first request that asks, not when the API starts.

With it come numpy and the planner's modules, 15 MiB and a sixth of the start. Whatever the API imports at its
top stays free of them (a test looks), and reaches them by the functions here alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.api.schemas import Json
from app.domain.placement_problem import Problem
from app.errors import FieldError, pointer_to

if TYPE_CHECKING:
    from ml.serving import Packed
    from ml.serving_models import General


def explanation(problem: Problem) -> Json:
    """Why the problem's one object lies where it lies."""
    from app.domain.explanation import explain

    return explain(problem)


def break_even(problem: Problem) -> Json:
    """The break-even card of the problem's objects. Raises Invalid when a class is not in its site's book."""
    from app.domain.break_even import card

    return card(problem)


def packed(npz: bytes) -> Packed:
    """A model that can score. Raises ArtifactRefused."""
    from ml.serving import Packed

    return Packed.from_bytes(npz)


def recalibrated(model: Packed, npz: bytes) -> Packed:
    """The model with the calibration of a file. Raises ArtifactRefused."""
    from ml.serving import Calibration

    return model.recalibrated(Calibration.from_bytes(npz))


MOST_REASONED = 100
"""Rows of a request up to which each is told with its reasons."""


def predictions(model: Packed, rows: list[dict[str, float]], reference: Json) -> list[Json]:
    """The model's opinion of each row, of up to 100 with its reasons; a feature that a row lacks counts as 0.

    reference: of the version that serves.
    """
    import numpy as np

    from ml import reasons
    from ml.serving import TIERS, tier_of

    X = np.array([[row.get(name, 0.0) for name in model.names] for row in rows], np.float32)
    scores = model.score(X)
    columns = zip(scores.p_raw, scores.p_hot, scores.p_low, scores.p_high, tier_of(scores.p_hot), strict=True)
    told = [
        {"p_raw": float(raw), "p_hot": float(p), "p_low": float(low), "p_high": float(high), "tier": TIERS[tier]}
        for raw, p, low, high, tier in columns
    ]
    if len(rows) <= MOST_REASONED:
        for prediction, found in zip(told, reasons.top(model, X, reasons.typical(reference)), strict=True):
            prediction["reasons"] = [vars(reason) for reason in found]
    return told


def why(model: Packed, values: list[float], reference: Json) -> list[Json]:
    """The reasons of one object's prediction. values: its features in the order of the model's names."""
    return predictions(model, [dict(zip(model.names, values, strict=True))], reference)[0]["reasons"]  # type: ignore[no-any-return]


def general(npz: bytes) -> General:
    """A user's model that can score. Raises ArtifactRefused."""
    from ml.serving_models import General

    return General.from_bytes(npz)


def general_predictions(model: General, rows: list[Json]) -> list[Json] | FieldError:
    """What a user's model says of each row, or which value is no number."""
    from ml.serving_models import BadCell

    try:
        return model.told(model.predict(model.matrix(rows)))
    except BadCell as bad:
        return FieldError(pointer_to("rows", bad.row, bad.name), bad.detail)


def onnx(npz: bytes) -> bytes:
    """A user's model as an ONNX file. Raises ArtifactRefused, and Invalid for forms that have none."""
    from ml.onnx_form import export

    return export(general(npz))


def tier_onnx(npz: bytes) -> bytes:
    """A model of tiers as an ONNX file. Raises ArtifactRefused."""
    from ml.onnx_packed import export_packed

    return export_packed(packed(npz))
