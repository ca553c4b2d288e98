"""What is expected of rows by each candidate and baseline, and the form in which one of them serves (step: learn).

Boosted trees with Poisson loss, once of the counts themselves and once of their ratio to what Gamma–Poisson expects:
the second says nothing new of an object without a past, and reaches counts that no row had. Means of both in logs with
Gamma–Poisson or with the last window are candidates of their own.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Self

import numpy as np

from app.errors import ArtifactRefused
from ml.demand_rows import COLUMNS, EXTRA, Rows
from ml.features import MODEL_FEATURES, TREND
from ml.history import Floats
from ml.packing import pack_boosted
from ml.serving import Trees, leaves, pack, unpacked

BASELINES = ("last_window", "rate_30d", "rate_lifetime", "prefix_mean")
PARTS: dict[str, tuple[str, ...]] = {
    "gamma_poisson": ("gamma_poisson",),
    "boosted": ("boosted",),
    "boosted_ratio": ("boosted_ratio",),
    "blend": ("boosted", "boosted_ratio", "gamma_poisson"),
    "blend_recent": ("boosted", "boosted_ratio", "last_window"),
    **{name: (name,) for name in BASELINES},
}
"""Of each candidate and baseline whose means in logs it is."""
CANDIDATES: tuple[str, ...] = tuple(name for name in PARTS if name not in BASELINES)
FEATURES: tuple[str, ...] = (*(name for name in MODEL_FEATURES if name != "prefix_heat"), *EXTRA)
"""What the trees read: prefix_heat is said better by what is expected of the prefix."""
PARAMS: dict[str, Any] = {
    "max_iter": 120,
    "learning_rate": 0.06,
    "max_leaf_nodes": 15,
    "min_samples_leaf": 40,
    "l2_regularization": 1.0,
    "early_stopping": False,
    "max_bins": 64,  # of weighted rows each bin is sought for by itself
}
RISING = ("expected", "reads_before")
LEAST = 1e-9
BLOCK = 4096


@dataclass(frozen=True)
class Boosted:
    """Packed trees whose sum is the logarithm of a mean; equal to scikit-learn's to 1e-6."""

    trees: dict[str, Trees] = field(default_factory=dict)
    """By the name of the part that they are."""

    def means(self, rows: Rows, name: str) -> Floats:
        """What the candidate or baseline of this name expects of each row, above 0."""
        logs = [np.log(np.maximum(self._part(rows, part), LEAST)) for part in PARTS[name]]
        return np.asarray(np.maximum(np.exp(np.mean(logs, axis=0)), LEAST))

    def _part(self, rows: Rows, name: str) -> Floats:
        if name in BASELINES:
            return rows.plain[name]
        if name == "gamma_poisson":
            return rows.mean
        found = np.exp(_sums(self.trees[name], rows))
        return found * rows.mean if name == "boosted_ratio" else found

    def only(self, name: str) -> Self:
        """With no more trees than the candidate of this name needs."""
        return type(self)({part: trees for part, trees in self.trees.items() if part in PARTS[name]})

    def to_bytes(self) -> bytes:
        """An npz of plain arrays."""
        arrays = {
            f"{part}.{column.name}": getattr(trees, column.name)
            for part, trees in self.trees.items()
            for column in fields(trees)
        }
        return pack({"columns": np.array(COLUMNS), "parts": np.array(list(self.trees), "U32"), **arrays})

    @classmethod
    def from_bytes(cls, npz: bytes) -> Self:
        """Check the signature first. Raises ArtifactRefused for other bytes, or trees of other features."""
        with unpacked(npz, "packed boosted trees") as arrays:
            if tuple(arrays["columns"].tolist()) != COLUMNS:
                raise ArtifactRefused("it was trained on other features; train it anew: foretide models train demand")
            return cls({part: _trees(arrays, part) for part in arrays["parts"].tolist()})


def _trees(arrays: Any, part: str) -> Trees:
    values = {column.name: arrays[f"{part}.{column.name}"] for column in fields(Trees)}
    return Trees(**{name: value.item() if value.ndim == 0 else value for name, value in values.items()})


def _sums(trees: Trees, rows: Rows) -> Floats:
    blocks = (rows.X[at : at + BLOCK] for at in range(0, len(rows), BLOCK))
    return np.concatenate([trees.value.take(leaves(trees, X)).sum(axis=1) for X in blocks]) + trees.base


def fit(rows: Rows, seed: int) -> tuple[Boosted, dict[str, Any]]:
    """The packed trees learned from these rows, and scikit-learn's estimators by part. Some row must have reads."""
    from sklearn.ensemble import HistGradientBoostingRegressor
    from threadpoolctl import threadpool_limits

    at = [COLUMNS.index(name) for name in FEATURES]
    trend = [1 if name in RISING else TREND.get(name, 0) for name in FEATURES]
    mean = np.maximum(rows.mean, LEAST)
    asked = {"boosted": (trend, rows.reads, None), "boosted_ratio": (None, rows.reads / mean, mean)}
    estimators = {}
    with threadpool_limits(1):  # workers share the machine
        for name, (held, y, weight) in asked.items():
            model = HistGradientBoostingRegressor(loss="poisson", monotonic_cst=held, random_state=seed, **PARAMS)
            estimators[name] = model.fit(rows.X[:, at], y, sample_weight=weight)
    return Boosted({name: pack_boosted(model, at) for name, model in estimators.items()}), estimators
