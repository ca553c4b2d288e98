"""Whether features look as they did when a model was trained, and its probabilities still come true (step: learn).

PSI (population stability index) adds up (now − then) · ln(now ÷ then) over bins of the reference; KS is the greatest
distance of the two cumulative curves at the bins' edges. Both are nearly 0 without drift, but for chance: limits allow
for what so few rows show by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ml import recalibration
from ml.dataset import Rows, step_of
from ml.evaluation import LEVEL, RESAMPLES, Outcome
from ml.features import NAMES, FeatureBuilder
from ml.history import DAY, HOUR, Floats, Ints
from ml.serving import Matrix

BINS = 10
HALF = 0.5
Z = 3.72
"""Chance passes a limit in one of ten thousand comparisons."""
KS_CRITICAL = 1.63
"""Of the two-sample Kolmogorov–Smirnov test at 1 % (Smirnov 1948), times √((n + m) ÷ nm)."""
UNWATCHED = frozenset({"hour_of_day", "day_of_week", "age_share", "days_watched", "prefix_heat", "expected_of_prefix"})
"""They are of the clock, of the history's length, and of prefixes, which may be too few to tell anything by chance."""
WINDOW = {HOUR: DAY, DAY: 7 * DAY}
"""How far back `now` reaches, by the horizon: whole days or whole weeks, as reads follow them."""
MOST_ROWS = 40_000
PAIRS = 300_000
"""Most rows that features are made for; above it some times stand for all."""
Reference = Mapping[str, Any]


def reference(X: Matrix, object: Ints, names: tuple[str, ...], columns: tuple[str, ...] = NAMES) -> dict[str, Any]:
    """How features are spread: the inner edges of equal-mass bins of each, and the rows in each bin.

    object: of each row; columns: the names of those of X.
    Rows of one object are dependent, so chance is reckoned by objects.
    """
    spread = {}
    for name in names:
        if name in UNWATCHED:
            continue
        values = X[:, columns.index(name)].astype(float)
        edges = np.unique(np.quantile(values, np.linspace(0, 1, BINS + 1)[1:-1], method="inverted_cdf"))
        spread[name] = {"edges": edges.tolist(), "counts": _counts(values, edges).tolist()}
    return {"n": len(X), "objects": len(np.unique(object)), "features": spread}


def compare(
    then: Reference, X: Matrix, object: Ints, limit: float, columns: tuple[str, ...] = NAMES
) -> list[dict[str, Any]]:
    """Of each watched feature PSI and KS between the reference and now, the greatest PSI first.

    limit: the PSI above which a feature has drifted; of few objects the limit is what chance passes once in 10,000
    times: PSI ÷ (1 ÷ n + 1 ÷ m) of two samples of one distribution is χ² with one degree of freedom less than bins.
    """
    found = []
    objects = len(np.unique(object))
    chance = 1 / max(then["objects"], 1) + 1 / max(objects, 1)
    for name, spread in then["features"].items():
        counts = np.array(spread["counts"]), _counts(X[:, columns.index(name)].astype(float), np.array(spread["edges"]))
        before, now = (_shares(each, of) for each, of in zip(counts, (then["objects"], objects), strict=True))
        psi = float(((now - before) * np.log(now / before)).sum())
        most = max(limit, _chi_square(len(before) - 1) * chance)
        found.append(
            {
                "feature": name,
                "psi": psi,
                "limit": most,
                "ks": float(np.abs(np.cumsum(now - before)).max()),
                "ks_critical": KS_CRITICAL * float(np.sqrt(chance)),
                "n": len(X),
                "objects": objects,
                "n_reference": then["n"],
                "over": psi > most,
            }
        )
    return sorted(found, key=lambda row: -row["psi"])


def window(begin: int, end: int, horizon: int, step: int) -> Ints:
    """The times of a grid in the window that ends now, after a history's begin; all in microseconds."""
    first = max(begin // step * step + step, end // step * step - WINDOW.get(horizon, DAY) + step)
    return np.arange(first, end + 1, step)


def recent(builder: FeatureBuilder, end: int, horizon: int, seed: int) -> Rows:
    """Every object known at each cut of the window, as in training; a seeded draw above 40,000 rows. Microseconds.

    Whether one was read is known of those alone whose horizon is over by `end`.
    """
    history = builder.history
    return _rows(builder, window(history.begin, end, horizon, step_of(horizon, daily=history.daily)), horizon, seed)


def later(builder: FeatureBuilder, since: int, end: int, horizon: int, seed: int) -> Rows:
    """Rows of which is known by `end` what came of them, but was not at `since`, as far back as renewals look."""
    history = builder.history
    step = step_of(horizon, daily=history.daily)
    first = max(since, history.begin + horizon, end - int((recalibration.OLDEST + 1) * horizon)) - horizon
    cuts = np.arange(first // step * step + step, end - horizon + 1, step)
    every = -(-len(cuts) * history.objects // PAIRS)
    return _rows(builder, cuts[::-1][:: max(1, every)][::-1], horizon, seed)


def _rows(builder: FeatureBuilder, cuts: Ints, horizon: int, seed: int) -> Rows:
    known = [builder.known(int(cut)) for cut in cuts]
    owner = np.concatenate(known) if known else np.zeros(0, np.int64)
    cut = np.repeat(cuts, [len(some) for some in known])
    X = builder.rows(owner, cut).X
    if len(owner) > MOST_ROWS:
        chosen = np.sort(np.random.default_rng(seed).choice(len(owner), MOST_ROWS, replace=False))
        owner, cut, X = owner[chosen], cut[chosen], X[chosen]
    return Rows(X, builder.reads_between(owner, cut, cut + horizon) > 0, owner, cut)


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


def _counts(values: Floats, edges: Floats) -> Ints:
    """Values in each bin: at or below the first edge, up to the second, … above the last."""
    return np.bincount(np.searchsorted(edges, values, side="left"), minlength=len(edges) + 1)


def _shares(counts: Ints, objects: int) -> Floats:
    """Of all; half an object is added to each bin, or the first one in an empty bin would be endless drift."""
    added = HALF * (counts.sum() / objects if objects else 1.0)
    return np.asarray((counts + added) / (counts.sum() + added * len(counts)))


def _chi_square(k: int) -> float:
    """The quantile of χ² at Z (Wilson and Hilferty 1931)."""
    return k * (1 - 2 / (9 * k) + Z * (2 / (9 * k)) ** 0.5) ** 3 if k else 0.0
