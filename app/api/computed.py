"""Answers that take arrays: what computes them is loaded by the first request that asks, not when the API starts.

With it come numpy and the planner's modules, 15 MiB and a sixth of the start. Whatever the API imports at its
top stays free of them (a test looks), and reaches them by the functions here alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.api.schemas import Json
from app.domain.placement_problem import Problem
from app.errors import FieldError, Invalid, pointer_to
from app.settings import get_settings

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session

    from app.db.tables import MetricStream
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


def add_samples(session: Session, data: bytes, now: datetime, *, strict: bool) -> Json:
    """Stores the samples of a text; how many were taken, and what is wrong with the others by line.

    Raises TooLarge above the limit of lines and, where `strict`, Invalid when a line is wrong.
    """
    from app.db import metric_parts
    from app.domain import metric_lines

    found = metric_lines.read(data, get_settings().ingest_max_lines, metric_parts.microseconds(now))
    added = metric_parts.add(session, found.samples, now=now)
    refused = [
        {"line": found.numbers[each.row], "pointer": each.pointer, "detail": each.detail} for each in added.refused
    ]
    errors = sorted(found.errors + refused, key=lambda error: int(error["line"]))
    if strict and errors:
        pointers = (FieldError(f"/{error['line'] - 1}{error['pointer']}", error["detail"]) for error in errors)
        raise Invalid(f"{len(errors)} samples are wrong; nothing was taken", errors=tuple(pointers))
    return {"accepted": added.accepted, "rejected": len(errors), "errors": errors}


def windows(
    session: Session, ids: list[int], rows: list[int], now: datetime, window_s: float, *, spreads: bool = True
) -> list[Json]:
    """The windows of streams. rows: which answer each counts in, from 0 without gaps; spreads: with percentiles."""
    from app.db import metric_parts, metric_windows
    from app.domain.metric_windows import Window, told

    window = Window.ending(metric_parts.microseconds(now), window_s)
    read = metric_windows.read_spread if spreads else metric_windows.read
    found = read(session, ids, rows, window)
    totals = metric_windows.counts(session, ids, rows)
    about = {"window_s": window_s, "since": metric_parts.moment(window.since), "as_of": now}
    return [about | {"total_events": total} | told(found, row) for row, total in enumerate(totals)]


def top(
    session: Session, name: str, streams: list[MetricStream], by: str, k: int, now: datetime, window_s: float
) -> Json:
    """The heaviest groups or items of a metric."""
    from app.db import metric_parts, metric_windows
    from app.domain.metric_windows import Window

    window = Window.ending(metric_parts.microseconds(now), window_s)
    if by == "item":
        tally = metric_windows.top_items(session, name, window)
    else:
        groups = [stream for stream in streams if stream.label]
        tally = metric_windows.top_groups(session, {group.id: group.label for group in groups}, window)
    return {
        "window_s": window_s,
        "since": metric_parts.moment(window.since),
        "as_of": now,
        "error_bound": tally.error,
        "items": [{by: each, "weight": weight} for each, weight in tally.top(k)],
    }
