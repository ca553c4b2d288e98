"""Answers that take arrays: what computes them is loaded by the first request that asks, not when the API starts.

With it come numpy and the planner's modules, 15 MiB and a sixth of the start. Whatever the API imports at its
top stays free of them (a test looks), and reaches them by the functions here alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.api.schemas import Json
from app.domain.placement_problem import Problem
from app.errors import FieldError

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


def predictions(model: Packed, rows: list[dict[str, float]]) -> list[Json]:
    """The model's opinion of each row; a feature that a row lacks counts as 0."""
    import numpy as np

    from ml.serving import TIERS, tier_of

    scores = model.score(np.array([[row.get(name, 0.0) for name in model.names] for row in rows], np.float32))
    columns = zip(scores.p_raw, scores.p_hot, scores.p_low, scores.p_high, tier_of(scores.p_hot), strict=True)
    return [
        {"p_raw": float(raw), "p_hot": float(p), "p_low": float(low), "p_high": float(high), "tier": TIERS[tier]}
        for raw, p, low, high, tier in columns
    ]


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
        name = bad.name.replace("~", "~0").replace("/", "~1")
        return FieldError(f"/rows/{bad.row}/{name}", bad.detail)


def onnx(npz: bytes) -> bytes:
    """A user's model as an ONNX file. Raises ArtifactRefused, and Invalid for forms that have none."""
    from ml.onnx_form import export

    return export(general(npz))
