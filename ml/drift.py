"""Whether features look as they did where a model was measured, and its probabilities still come true (step: learn).

PSI (population stability index) adds up (now − then) · ln(now ÷ then) over bins of the reference; KS is the greatest
distance of the two cumulative curves at the bins' edges. Both are nearly 0 without drift, but for chance: limits allow
for what so few rows show by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ml.evaluation import LEVEL, RESAMPLES, Outcome
from ml.features import NAMES
from ml.history import Floats
from ml.serving import Matrix

BINS = 10
LEAST_SHARE = 1e-4
"""An empty bin counts as so much, or one new value would be infinite drift."""
KS_CRITICAL = 1.63
"""Of the two-sample Kolmogorov–Smirnov test at 1 % (Smirnov 1948), times √((n + m) ÷ nm)."""
UNWATCHED = frozenset({"hour_of_day", "day_of_week"})
"""They are of the clock, not of the objects."""
Reference = Mapping[str, Any]


def reference(X: Matrix, names: tuple[str, ...]) -> dict[str, Any]:
    """How features are spread: the inner edges of equal-mass bins of each, and the share of rows in each bin."""
    spread = {}
    for name in names:
        if name in UNWATCHED:
            continue
        values = X[:, NAMES.index(name)].astype(float)
        edges = np.unique(np.quantile(values, np.linspace(0, 1, BINS + 1)[1:-1], method="inverted_cdf"))
        spread[name] = {"edges": edges.tolist(), "shares": _shares(values, edges).tolist()}
    return {"n": len(X), "features": spread}


def compare(then: Reference, X: Matrix, limit: float) -> list[dict[str, Any]]:
    """Of each watched feature PSI and KS between the reference and now, the greatest PSI first.

    limit: the PSI above which a feature has drifted, to which chance's own share is added: the expectation of PSI
    between two samples of one distribution, (bins − 1)(1 ÷ n + 1 ÷ m).
    """
    found = []
    chance = 1 / max(then["n"], 1) + 1 / max(len(X), 1)
    for name, spread in then["features"].items():
        before = np.array(spread["shares"])
        now = _shares(X[:, NAMES.index(name)].astype(float), np.array(spread["edges"]))
        psi = _psi(before, now)
        most = limit + (len(before) - 1) * chance
        ks = float(np.abs(np.cumsum(now - before)).max())
        found.append(
            {
                "feature": name,
                "psi": psi,
                "limit": most,
                "ks": ks,
                "ks_critical": KS_CRITICAL * float(np.sqrt(chance)),
                "n": len(X),
                "n_reference": then["n"],
                "over": psi > most,
            }
        )
    return sorted(found, key=lambda row: -row["psi"])


@dataclass(frozen=True)
class Watch:
    """Predicted beside what happened, on rows later than the model's training."""

    n: int
    predicted: float
    """Mean probability."""
    happened: float
    """Share that was read."""
    interval: tuple[float, float]
    """90 % bootstrap interval, by object, of happened less predicted."""

    def is_over(self, limit: float) -> bool:
        """Whether the gap is larger than the limit, and not by chance."""
        low, high = self.interval
        return abs(self.happened - self.predicted) > limit and (low > 0 or high < 0)


def calibration(outcome: Outcome, p: Floats, seed: int) -> Watch | None:
    """None without rows."""
    if not len(p):
        return None
    objects, row_object = np.unique(outcome.object, return_inverse=True)
    gap = np.bincount(row_object, outcome.y - p)
    rows = np.bincount(row_object).astype(float)
    rng = np.random.default_rng(seed)
    weight = rng.multinomial(len(objects), np.full(len(objects), 1 / len(objects)), RESAMPLES)
    draws = (weight @ gap) / (weight @ rows)
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(draws, [tail, 100 - tail])
    return Watch(len(p), float(p.mean()), float(outcome.y.mean()), (float(low), float(high)))


def _shares(values: Floats, edges: Floats) -> Floats:
    """Share of values in each bin: at or below the first edge, up to the second, … above the last."""
    counts = np.bincount(np.searchsorted(edges, values, side="left"), minlength=len(edges) + 1)
    return np.asarray(counts / max(len(values), 1))


def _psi(before: Floats, now: Floats) -> float:
    then, later = np.maximum(before, LEAST_SHARE), np.maximum(now, LEAST_SHARE)
    return float(((later - then) * np.log(later / then)).sum())
