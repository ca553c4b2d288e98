"""What readers' shared samples say of the next 45 seconds of a site: features, and a model of growth (step: watch).

Samples are counted by site and second; everything is computed from these counts, so that the feature store, the
simulator and recorded series give the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from ml.history import Floats
from ml.packing import pack_boosted
from ml.serving import Trees

KEPT_S = 300
"""Seconds of samples that features look back on: the horizon of the source document."""
AHEAD_S, WORST_S = 45, 30
"""The model foresees the worst mean of 30 s within the next 45 s."""
EVERY_S = 5
QUANTILE = 0.8
SLOW_MS = 300.0
UNKNOWN_MS = 100.0
NAMES = (
    "mean_5s",
    "mean_10s",
    "mean_30s",
    "mean_60s",
    "mean_300s",
    "worst_10s",
    "spread_30s",
    "velocity",
    "acceleration",
    "slope_60s",
    "errors_30s",
    "rate_10s",
    "rate_ratio",
    "others_10s",
    "others_velocity",
    "since_slow",
    "slow_share",
)
"""Latencies as natural logarithms of milliseconds; velocity is the logarithm's growth from the ten seconds before to
the last ten, acceleration the velocity's own; rates are ln(1 + samples a second); since_slow is the share of 300 s
that have passed since a second's mean was over 300 ms, slow_share the share of seconds over it."""


@dataclass(frozen=True)
class Seconds:
    """Samples of each site by second, oldest first; arrays of shape (sites, seconds)."""

    number: Floats
    total_ms: Floats
    worst_ms: Floats
    errors: Floats

    @classmethod
    def of(
        cls,
        at: Floats,
        site: Sequence[int],
        latency_ms: Floats,
        ok: Sequence[bool],
        *,
        sites: int,
        begin: int,
        seconds: int,
    ) -> Self:
        """Counts samples that became known in [begin, begin + seconds); an error's latency counts as given."""
        where = np.asarray(at, float).astype(np.int64) - begin
        kept = (where >= 0) & (where < seconds)
        flat = np.asarray(site, np.int64)[kept] * seconds + where[kept]
        took, bad = np.asarray(latency_ms, float)[kept], ~np.asarray(ok, bool)[kept]
        size = sites * seconds
        worst = np.zeros(size)
        np.maximum.at(worst, flat, took)
        shape = (sites, seconds)
        return cls(
            np.bincount(flat, minlength=size).astype(float).reshape(shape),
            np.bincount(flat, took, size).astype(float).reshape(shape),
            worst.reshape(shape),
            np.bincount(flat, bad, size).astype(float).reshape(shape),
        )

    def window(self, end: int, length: int = KEPT_S) -> Seconds:
        """The seconds [end − length, end), padded with empty ones before the first."""
        begin = max(0, end - length)
        pad = ((0, 0), (length - (end - begin), 0))
        return Seconds(
            *(np.pad(part[:, begin:end], pad) for part in (self.number, self.total_ms, self.worst_ms, self.errors))
        )


def features(past: Seconds) -> Floats:
    """One row a site, in the order of NAMES. past: the last KEPT_S seconds."""
    number, total = past.number, past.total_ms
    base = _mean(number, total, 0, KEPT_S, np.full(len(number), UNKNOWN_MS))
    minute = _mean(number, total, 0, 60, base)
    half = _mean(number, total, 0, 30, minute)
    ten = _mean(number, total, 0, 10, half)
    five = _mean(number, total, 0, 5, ten)
    before = _mean(number, total, 10, 20, half)
    earlier = _mean(number, total, 20, 30, before)
    velocity, older = np.log(ten / before), np.log(before / earlier)
    counts = _sum(number, 0, 10)
    others = _others(np.log(ten)), _others(velocity)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = np.where(number > 0, total / number, np.nan)
        slow = means > SLOW_MS
    last = np.where(slow.any(axis=1), slow[:, ::-1].argmax(axis=1), KEPT_S) / KEPT_S
    known = np.maximum(1, (number > 0).sum(axis=1))
    columns = (
        np.log(five),
        np.log(ten),
        np.log(half),
        np.log(minute),
        np.log(base),
        np.log(np.maximum(past.worst_ms[:, -10:].max(axis=1), five)),
        _spread(means[:, -30:]),
        velocity,
        velocity - older,
        _slope(means[:, -60:], minute),
        _sum(past.errors, 0, 30) / np.maximum(1, _sum(number, 0, 30)),
        np.log1p(counts / 10),
        np.log1p(counts / 10) - np.log1p(_sum(number, 0, 60) / 60),
        *others,
        last,
        slow.sum(axis=1) / known,
    )
    return np.column_stack(columns)


def labels(seen: Seconds, at: int) -> Floats:
    """By site ln of the worst mean of 30 s in the next 45 s ÷ the mean of the last 30 s; NaN where too few answered."""
    past = seen.window(at)
    now = _mean(past.number, past.total_ms, 0, 30, _mean(past.number, past.total_ms, 0, KEPT_S, np.nan))
    worst = np.full(len(now), np.nan)
    for shift in range(0, AHEAD_S - WORST_S + 1, EVERY_S):
        begin = at + shift
        number = seen.number[:, begin : begin + WORST_S].sum(axis=1)
        total = seen.total_ms[:, begin : begin + WORST_S].sum(axis=1)
        mean = np.where(number >= 3, total / np.maximum(number, 1), np.nan)
        worst = np.fmax(worst, mean)
    return np.asarray(np.log(worst / now))


def rows(seen: Seconds, begin: int, end: int) -> tuple[Floats, Floats]:
    """Features and labels of every fifth second whose label lies before `end`; shapes (n, 17) and (n,)."""
    found = [(features(seen.window(at)), labels(seen, at)) for at in range(begin, end - AHEAD_S, EVERY_S)]
    X, y = np.concatenate([x for x, _ in found]), np.concatenate([y for _, y in found])
    return X[np.isfinite(y)], y[np.isfinite(y)]


def fit(X: Floats, y: Floats, seed: int) -> Trees:
    """Boosted trees of the growth that is exceeded once in five times, in packed form."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    model = HistGradientBoostingRegressor(
        loss="quantile",
        quantile=QUANTILE,
        max_iter=150,
        learning_rate=0.07,
        max_leaf_nodes=24,
        min_samples_leaf=60,
        l2_regularization=1.0,
        random_state=seed,
    )
    model.fit(X.astype(np.float32), y)
    return pack_boosted(model, range(len(NAMES)))


def risk(found: Floats, growth: Floats, sla_ms: float) -> Floats:
    """How near the worst of the next 45 s comes to the SLA, 0 … 1, by site: 0 up to .4 of it, 1 from .74 on.

    found: features; growth: of the model. Growth under a tenth is none: what is slow already, the score sees itself.
    """
    level = found[:, NAMES.index("mean_30s")] + growth - np.log(sla_ms / 3)
    return np.where(growth > 0.1, np.clip((level - 0.2) / 0.6, 0.0, 1.0), 0.0)


class Fitted:
    """A fitted model, ready to be asked: features (sites × 17) → one number a site."""

    def __init__(self, trees: Trees) -> None:
        from ml.serving_jit import Compiled

        self._trees, self._compiled = trees, Compiled(trees)

    def __call__(self, found: Floats) -> Floats:
        """Of the growth model ln of the worst mean to come ÷ the present one, exceeded once in five times."""
        return np.asarray(self._compiled.sums(found.astype(np.float32))[:, 0] + self._trees.base)


def _sum(part: Floats, newest: int, oldest: int) -> Floats:
    """Of the seconds from `oldest` to `newest` ago."""
    length = part.shape[1]
    return np.asarray(part[:, length - oldest : length - newest].sum(axis=1))


def _mean(number: Floats, total: Floats, newest: int, oldest: int, absent: Floats | float) -> Floats:
    """Mean latency, at least 1 ms; `absent` where nothing answered."""
    count = _sum(number, newest, oldest)
    return np.maximum(1.0, np.where(count > 0, _sum(total, newest, oldest) / np.maximum(count, 1), absent))


def _others(values: Floats) -> Floats:
    """The mean of the other sites' values."""
    if len(values) == 1:
        return np.zeros(1)
    return np.asarray((values.sum() - values) / (len(values) - 1))


def _spread(means: Floats) -> Floats:
    """Standard deviation of the logarithms of seconds' means; 0 where fewer than two answered."""
    known = np.isfinite(means)
    logs = np.where(known, np.log(np.where(known, np.maximum(means, 1.0), 1.0)), 0.0)
    count = np.maximum(1, known.sum(axis=1))
    middle = logs.sum(axis=1) / count
    return np.asarray(np.sqrt((known * (logs - middle[:, None]) ** 2).sum(axis=1) / count))


def _slope(means: Floats, absent: Floats) -> Floats:
    """Growth of the logarithm in a minute, by the line through the seconds' means."""
    known = np.isfinite(means)
    logs = np.log(np.where(known, np.maximum(means, 1.0), absent[:, None]))
    time = np.linspace(-0.5, 0.5, means.shape[1])
    weights = known.astype(float)
    total = np.maximum(weights.sum(axis=1), 1e-9)
    middle_t = (weights * time).sum(axis=1) / total
    middle_y = (weights * logs).sum(axis=1) / total
    over = (weights * (time - middle_t[:, None]) ** 2).sum(axis=1)
    under = (weights * (time - middle_t[:, None]) * (logs - middle_y[:, None])).sum(axis=1)
    return np.where(over > 1e-6, under / np.maximum(over, 1e-6), 0.0)
