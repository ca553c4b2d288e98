"""What a user's model is worth on rows that it did not learn from, beside a named baseline (step: learn)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ml.evaluation import LEVEL, RESAMPLES
from ml.serving import Floats
from ml.serving_models import Centers, General

MOST_ROWS = 3000
"""Rows that are shuffled to see what a feature is worth."""
REPEATS = 2
EPSILON = 1e-6
LEAST_JUDGED = 20
"""With fewer rows held out than these nobody can say that one model is better than another."""


@dataclass(frozen=True)
class Measured:
    """Figures of the model and its baselines; whether it beats them, None where nothing was measured."""

    metrics: Mapping[str, Any]
    baselines: Mapping[str, Any]
    beats: bool | None
    reason: str


def measure(model: General, seen: Floats, learned: Floats, y: Floats, X: Floats, seed: int) -> Measured:
    """seen: the target of the rows learned from; y and X: of those held out; learned: rows learned from."""
    if model.algorithm == "isolation_forest":
        rates = {name: _outliers(model, rows) for name, rows in (("share_learned", learned), ("share_held_out", X))}
        return Measured({"n": len(X), **rates}, {}, None, "outliers have no target to be measured by")
    if model.algorithm == "kmeans":
        return _clusters(model, learned, X, seed)
    if not len(X):
        return Measured({"n": 0}, {}, None, "too few events to hold some out: nothing was measured")
    if model.labels:
        share = np.bincount(seen.astype(int), minlength=len(model.labels)) / len(seen)
        p = np.tile(share, (len(y), 1))
        majority = {"majority": (_classes(y, p), _surprise(y, p))}
        return _beside(_classes(y, model.predict(X).detail), losses(model, y, X), majority, "log_loss", seed)
    constant = {"mean": float(seen.mean()), "median": float(np.median(seen))}
    told = {name: np.full(len(y), each) for name, each in constant.items()}
    baselines = {name: (_numbers(y, value), (y - value) ** 2) for name, value in told.items()}
    return _beside(_numbers(y, model.predict(X).value), losses(model, y, X), baselines, "rmse", seed)


def losses(model: General, y: Floats, X: Floats) -> Floats:
    """Of each row, whose mean is the log loss of classes, or the square of the root mean squared error."""
    found = model.predict(X)
    return _surprise(y, found.detail) if model.labels else (y - found.value) ** 2


def gain(mine: Floats, other: Floats, by: str, seed: int) -> dict[str, Any]:
    """How much less a model loses on the same rows than another does, and the 90 % interval of that by bootstrap."""
    root = np.sqrt if by == "rmse" else np.asarray
    rng = np.random.default_rng(seed)
    draws = []
    for _ in range(RESAMPLES):
        rows = rng.integers(0, len(mine), len(mine))
        draws.append(root(other[rows].mean()) - root(mine[rows].mean()))
    tail = 100 * (1 - LEVEL) / 2
    value, beside = float(root(mine.mean())), float(root(other.mean()))
    interval = np.percentile(draws, [tail, 100 - tail]).tolist()
    return {"value": value, "beside": beside, "gain": beside - value, "interval": interval}


def _beside(
    metrics: dict[str, Any], mine: Floats, baselines: Mapping[str, tuple[dict[str, Any], Floats]], by: str, seed: int
) -> Measured:
    """by: the measure, of which less is better, that decides. Each baseline with its figures and losses."""
    best = min(baselines, key=lambda name: baselines[name][0][by])
    found = gain(mine, baselines[best][1], by, seed)
    low, high = found["interval"]
    told = (
        f"{by} {found['value']:.4g} against {found['beside']:.4g} on {metrics['n']} rows held out"
        f" (gain {found['gain']:.3g}, 90 % interval {low:.3g} to {high:.3g})"
    )
    figures = {name: each[0] for name, each in baselines.items()}
    measured = {**metrics, "gain": {"over": best, "measure": by, "gain": found["gain"], "interval": [low, high]}}
    if metrics["n"] < LEAST_JUDGED:
        reason = (
            f"not known whether it beats the baseline {best}: {told}; {LEAST_JUDGED} rows are the least to judge by"
        )
        return Measured(measured, figures, None, reason)
    if low > 0:
        return Measured(measured, figures, True, f"beats the baseline {best}: {told}")
    if high <= 0:
        return Measured(measured, figures, False, f"no better than the baseline {best}: {told}")
    return Measured(measured, figures, None, f"not known whether it beats the baseline {best}: {told}")


def _surprise(y: Floats, p: Floats) -> Floats:
    return -np.log(np.clip(p[np.arange(len(y)), y.astype(int)], EPSILON, 1))  # type: ignore[no-any-return]


def _classes(y: Floats, p: Floats) -> dict[str, Any]:
    return {
        "n": len(y),
        "accuracy": float((p.argmax(axis=1) == y).mean()),
        "log_loss": float(_surprise(y, p).mean()),
    }


def _numbers(y: Floats, value: Floats) -> dict[str, Any]:
    spread = float(((y - y.mean()) ** 2).sum())
    error = y - value
    return {
        "n": len(y),
        "rmse": float(np.sqrt((error**2).mean())),
        "mae": float(np.abs(error).mean()),
        "r2": 1 - float((error**2).sum()) / spread if spread else None,
    }


def _clusters(model: General, learned: Floats, X: Floats, seed: int) -> Measured:
    """Inertia is the sum of squared distances, in the space that was clustered; beside one cluster for all."""
    one = _prepared(model, learned).mean(axis=0)
    metrics: dict[str, Any] = {"n": len(X), "inertia": _inertia(model, learned)}
    baselines: dict[str, Any] = {"one_cluster": {"inertia": float(((_prepared(model, learned) - one) ** 2).sum())}}
    if not len(X):
        return Measured(metrics, baselines, None, "too few events to hold some out: nothing was measured")
    far, far_from_one = (model.predict(X).detail ** 2).reshape(-1), ((_prepared(model, X) - one) ** 2).sum(axis=1)
    metrics["inertia_a_row"] = float(far.mean())
    baselines["one_cluster"]["inertia_a_row"] = float(far_from_one.mean())
    return _beside(metrics, far, {"one_cluster": (baselines["one_cluster"], far_from_one)}, "inertia_a_row", seed)


def _prepared(model: General, X: Floats) -> Floats:
    return (np.where(np.isnan(X), model.fill, X) - model.mean) / model.scale


def _inertia(model: General, X: Floats) -> float:
    assert isinstance(model.body, Centers)  # noqa: S101 - what kmeans is packed into
    return float((model.predict(X).detail ** 2).sum())


def _outliers(model: General, X: Floats) -> float | None:
    return float((model.predict(X).value < 0).mean()) if len(X) else None


def importances_of(model: General, estimator: Any, learned: Floats, y: Floats, X: Floats, seed: int) -> dict[str, Any]:
    """Loss added when a feature is shuffled on rows held out (y, X), and the estimator's own shares; greatest first.

    Its own are impurity of forests, and of lines the size of each weight times the spread of what it weighs.
    """
    own = getattr(estimator, "feature_importances_", None)
    if own is None and hasattr(estimator, "coef_"):
        own = np.abs(np.ravel(estimator.coef_)) * _prepared(model, learned).std(axis=0)
    shares = {}
    if own is not None:
        total = float(np.sum(own)) or 1.0
        named = zip(model.names, np.ravel(own).tolist(), strict=True)
        shares = {name: value / total for name, value in sorted(named, key=lambda item: -item[1])}
    return {"permutation": _permutation(model, y, X, seed) if len(y) else {}, "built_in": shares}


def _permutation(model: General, y: Floats, X: Floats, seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(X))[:MOST_ROWS]
    X, y = X[rows], y[rows]
    before, found = _loss(model, y, X), {}
    for column, name in enumerate(model.names):
        added = 0.0
        for _ in range(REPEATS):
            shuffled = X.copy()
            shuffled[:, column] = rng.permutation(shuffled[:, column])
            added += (_loss(model, y, shuffled) - before) / REPEATS
        found[name] = {"loss_added": added}
    return dict(sorted(found.items(), key=lambda item: -item[1]["loss_added"]))


def _loss(model: General, y: Floats, X: Floats) -> float:
    """Log loss of classes, else the root of the mean squared error."""
    found = model.predict(X)
    return float(_classes(y, found.detail)["log_loss"] if model.labels else _numbers(y, found.value)["rmse"])
