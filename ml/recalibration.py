"""Keeps probabilities honest while habits drift: a calibration is renewed from what has happened since (step: learn).

Base rates drift (.60 → .46 within one trace), and a curve fitted once is wrong by as much. Logistic recalibration
(Platt 1999, held near the old curve) follows level and slope at once; isotonic bins follow the shape but jump about.
Their mean on the log-odds was the best of seven ways tried: docs/benchmarks.md, "Predictions".
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self

import numpy as np

from ml.calibration import pooled, wilson
from ml.evaluation import Bools
from ml.history import Floats, Ints
from ml.serving import Calibration, expit, logit, pack, unpacked

HALF_LIFE = 14.0
"""Rows of 14 horizons ago count half."""
OLDEST_WEIGHT = 0.01
OLDEST = float(-np.log2(OLDEST_WEIGHT)) * HALF_LIFE
"""Horizons after which a row counts no more."""
ROWS_AN_OBJECT = 4.0
"""Rows of one object depend on each other: all weigh together at most as much as four rows an object."""
LEVEL_SPREAD, SLOPE_SPREAD = 0.5, 0.2
"""Standard deviations by which log-odds are expected to drift, before anything is seen."""
BINS, POSITIVES_A_BIN = 20, 10.0
KNOTS = 65
RENEWALS = 60
"""So often the curve is renewed over a test part, at most."""
NEWTON_STEPS, SMALL = 30, 1e-6


@dataclass(frozen=True)
class Known:
    """Scores of rows that the model did not learn from, with what happened."""

    raw: Floats
    """The model's own score in [0, 1]."""
    y: Bools
    object: Ints
    cut: Ints
    """As of when each row is, microseconds."""

    def where(self, mask: Bools) -> Known:
        """The rows of a mask."""
        return Known(self.raw[mask], self.y[mask], self.object[mask], self.cut[mask])

    def joined(self, later: Known) -> Known:
        """These rows and later ones."""
        return Known(
            np.concatenate((self.raw, later.raw)),
            np.concatenate((self.y, later.y)),
            np.concatenate((self.object, later.object)),
            np.concatenate((self.cut, later.cut)),
        )


@dataclass(frozen=True)
class Past:
    """What each renewal of a model's curve begins with: kept from its training, and the same in service as there."""

    curve: Calibration
    """Fitted on the part before the test."""
    known: Known
    """The rows of the training that the model did not learn from, scored before they were known."""

    @classmethod
    def without_rows(cls, curve: Calibration) -> Self:
        """Of a curve of which no rows are kept."""
        none = np.zeros(0)
        return cls(curve, Known(none, none.astype(bool), none.astype(np.int64), none.astype(np.int64)))

    def to_bytes(self) -> bytes:
        """An npz of plain arrays."""
        sides = {"curve": self.curve, "known": self.known}
        return pack({f"{name}.{key}": value for name, side in sides.items() for key, value in vars(side).items()})

    @classmethod
    def from_bytes(cls, npz: bytes) -> Self:
        """Check the signature first. Raises ArtifactRefused for other bytes."""
        with unpacked(npz, "a model's outcomes") as arrays:
            curve, known = (
                {field.name: arrays[f"{name}.{field.name}"] for field in fields(kind)}
                for name, kind in (("curve", Calibration), ("known", Known))
            )
            return cls(Calibration(**curve), Known(**known))


def renew(curve: Calibration, known: Known, now: int, horizon: int) -> Calibration:
    """The curve as of `now`, from the rows whose outcome is known by then; without any it stays as it is."""
    rows = known.where(known.cut + horizon <= now)
    weight = np.exp2(-(now - horizon - rows.cut) / (HALF_LIFE * horizon))
    rows, weight = rows.where(weight > OLDEST_WEIGHT), weight[weight > OLDEST_WEIGHT]
    if not len(weight):
        return curve
    weight = weight * min(1.0, ROWS_AN_OBJECT * len(np.unique(rows.object)) / weight.sum())
    z = logit(np.interp(rows.raw, curve.x, curve.p))
    level, slope = _platt(z, rows.y, weight)
    bins = _bins(expit(level + slope * z), rows.y, weight)
    x = _knots(curve)
    straight = level + slope * logit(np.interp(x, curve.x, curve.p))
    stepped, n = bins.at(expit(straight))
    p = np.maximum.accumulate(expit((straight + logit(stepped)) / 2))
    low, high = wilson(p, n)
    return Calibration(x, p, np.minimum(np.maximum.accumulate(low), p), np.maximum(_falling(high), p))


def rolled(curve: Calibration, past: Known, test: Known, horizon: int) -> Floats:
    """Probabilities of the test rows, each by the curve as it stood at its cut: renewed as in service."""
    everything = past.joined(test)
    p = np.empty(len(test.raw))
    cuts = np.unique(test.cut)
    for some in np.array_split(cuts, min(len(cuts), RENEWALS)):
        here = (test.cut >= some[0]) & (test.cut <= some[-1])
        now = renew(curve, everything, int(some[0]), horizon)
        p[here] = np.interp(test.raw[here], now.x, now.p)
    return p


def _platt(z: Floats, y: Bools, weight: Floats) -> tuple[float, float]:
    """Level a and slope b of p = expit(a + b·z) that fit best, held near 0 and 1: Newton's method, steps halved."""
    held = np.array([LEVEL_SPREAD, SLOPE_SPREAD]) ** -2.0
    origin = np.array([0.0, 1.0])
    form = np.column_stack((np.ones(len(z)), z))

    def loss(at: Floats) -> float:
        eta = form @ at
        return float((weight * (np.logaddexp(0, eta) - y * eta)).sum() + (held * (at - origin) ** 2).sum() / 2)

    at, now = origin, loss(origin)
    for _ in range(NEWTON_STEPS):
        p = expit(form @ at)
        slope = form.T @ (weight * (p - y)) + held * (at - origin)
        bend = (form * (weight * p * (1 - p))[:, None]).T @ form + np.diag(held)
        step = np.linalg.solve(bend, slope)
        while loss(at - step) > now and np.abs(step).max() > SMALL:
            step = step / 2
        at, before = at - step, now
        now = loss(at)
        if before - now < SMALL * max(1.0, before):
            break
    return float(at[0]), float(at[1])


@dataclass(frozen=True)
class _Bins:
    """Pooled bins: mean forecast, weighted rate and weight of each."""

    x: Floats
    rate: Floats
    n: Floats

    def at(self, p: Floats) -> tuple[Floats, Floats]:
        """Rates and weights at forecasts, in straight lines between the centres, half way to 0 and 1 beyond them."""
        ends = (self.rate[0] / 2, (1 + self.rate[-1]) / 2)
        x = np.concatenate(([0.0], self.x, [1.0]))
        rate = np.interp(p, x, np.concatenate((ends[:1], self.rate, ends[1:])))
        return rate, np.interp(p, x, np.concatenate((self.n[:1], self.n, self.n[-1:])))


def _bins(p: Floats, y: Bools, weight: Floats) -> _Bins:
    """Bins of equal weight, pooled until their rates rise."""
    order = np.argsort(p, kind="stable")
    total = np.cumsum(weight[order])
    hits = (weight * y).sum()
    count = int(np.clip(min(hits, total[-1] - hits) // POSITIVES_A_BIN, 1, BINS))
    place = np.minimum((total * count / total[-1] - SMALL).astype(np.int64), count - 1)
    sums = (np.bincount(place, values[order], count) for values in (weight * p, weight * y, weight))
    pools = pooled([bin_ for bin_ in zip(*sums, strict=True) if bin_[2] > 0])
    at, hit, n = (np.array(column) for column in zip(*pools, strict=True))
    return _Bins(at / n, hit / n, n)


def _knots(curve: Calibration) -> Floats:
    """Places for the new curve's knots: those of the old one, and others evenly over its log-odds."""
    ends = logit(curve.p[[0, -1]])
    even = np.interp(expit(np.linspace(ends[0], ends[1], KNOTS)), curve.p, curve.x)
    return np.unique(np.concatenate((curve.x, even)))


def _falling(high: Floats) -> Floats:
    return np.asarray(np.minimum.accumulate(high[::-1])[::-1])
