"""How counts lie round what was expected of them: the distribution of a forecast (steps: learn, predict).

Rows whose counts are known are sorted into cells: bins of equal mass by their mean, and in each by how the last
window's reads compare with it. A cell has the negative binomial that fits it best, and a map from what that says of the
counts (its distribution function) to how often it came true, the newest rows weighing most. The map mends what no such
distribution can be: counts that cannot pass a limit, or habits that have drifted.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from ml.history import DAY, Floats, Ints

QUANTILES = (0.1, 0.5, 0.9)
MOST_BINS, MOST_SIDES = 6, 5
LEAST_A_CELL = 20.0
"""Rows, as far as they are worth one each."""
ROWS_AN_OBJECT = 8.0
"""Rows of one object depend on each other: they are worth no more than so many."""
HALF_LIFE = 14
"""In horizons, of a day at least."""
MOST_ROWS = 20_000
"""More make cells finer, not other."""
DISPERSIONS = np.array([1e-3, 0.03, 0.1, 0.2, 0.4, 0.7, 1.0, 1.5, 2.5, 4.0, 7.0, 12.0, 25.0])
"""Variance of a count: mean + dispersion × mean²."""
GRID = np.concatenate(([0.0], 1 / (1 + np.exp(-np.linspace(-9, 9, 181))), [1.0]))
LIKELY_ROWS = 1_000
"""So many rows of a cell are enough to find its dispersion."""
SMALL = 1e-9
FINE = 200.0
"""Quantiles are sought for means that differ by half a percent: more would be lost in rounding."""


@dataclass(frozen=True)
class Known:
    """Rows that the model did not learn from, one element each: what was expected and what came."""

    mean: Floats
    before: Floats
    """Reads in the last window of the horizon's length."""
    reads: Floats
    object: Ints
    cut: Ints

    def __len__(self) -> int:
        return len(self.cut)

    def where(self, mask: npt.NDArray[np.generic]) -> Known:
        """The rows of a mask, or of places."""
        return Known(*(getattr(self, field.name)[mask] for field in fields(self)))

    def joined(self, later: Known) -> Known:
        """These rows and others."""
        pairs = ((getattr(self, field.name), getattr(later, field.name)) for field in fields(self))
        return Known(*(np.concatenate(pair) for pair in pairs))


@dataclass(frozen=True)
class Spread:
    """Cells in order of their bins, and in a bin of their sides."""

    edges: Floats
    """Means at which the next bin begins."""
    sides: tuple[Floats, ...]
    """Of each bin: where its next cell begins, in last window ÷ mean."""
    dispersion: Floats
    map: Floats
    """(cells × GRID), rising from 0 to 1."""

    def transform(self, known: Known, rng: np.random.Generator) -> Floats:
        """Randomised probability integral transform: u = F(y − 1) + V·(F(y) − F(y − 1)), V uniform.

        Uniform where counts are distributed as this says.
        """
        u, v = np.empty(len(known)), rng.random(len(known))
        for cell, here in self._cells(known.mean, known.before):
            y, mean, dispersion = known.reads[here], known.mean[here], self.dispersion[cell]
            below, upto = (np.interp(cdf(at, mean, dispersion), GRID, self.map[cell]) for at in (y - 1, y))
            u[here] = below + v[here] * (upto - below)
        return u

    def quantiles(self, mean: Floats, before: Floats) -> Floats:
        """Counts that are not passed with the probabilities of QUANTILES, (rows × 3)."""
        found = np.empty((len(mean), len(QUANTILES)))
        for cell, here in self._cells(mean, before):
            step, row = np.unique(np.round(np.log(mean[here]) * FINE), return_inverse=True)
            rising, first = np.unique(self.map[cell], return_index=True)
            for place, q in enumerate(QUANTILES):
                level = float(np.interp(q, rising, GRID[first]))
                found[here, place] = quantile(level, np.exp(step / FINE), self.dispersion[cell])[row]
        return found

    def _cells(self, mean: Floats, before: Floats) -> list[tuple[int, Ints]]:
        """Each cell that holds rows, with their places."""
        bins = np.searchsorted(self.edges, mean, side="right")
        side, cells, first = compared(mean, before), [], 0
        for number, edges in enumerate(self.sides):
            rows = np.flatnonzero(bins == number)
            sides = np.searchsorted(edges, side[rows], side="right")
            cells += [(first + int(one), rows[sides == one]) for one in np.unique(sides)]
            first += len(edges) + 1
        return cells


def compared(mean: Floats, before: Floats) -> Floats:
    """The last window's reads relative to what is expected now."""
    return np.asarray((before + 0.5) / (mean + 0.5))


def fit(known: Known, now: int, horizon: int) -> Spread:
    """The spread as of a time, of rows whose horizon is over by then; there must be one at least."""
    if len(known) > MOST_ROWS:
        known = known.where(np.sort(np.random.default_rng(len(known)).choice(len(known), MOST_ROWS, replace=False)))
    weight = np.exp2(-(now - known.cut) / (HALF_LIFE * max(horizon, DAY)))
    cells = _worth(weight, known.object) / LEAST_A_CELL
    sides = int(np.clip(np.sqrt(cells), 1, MOST_SIDES))
    edges = _edges(known.mean, weight, int(np.clip(cells // sides, 1, MOST_BINS)))
    bins, side = np.searchsorted(edges, known.mean, side="right"), compared(known.mean, known.before)
    parts, inner = [], []
    for number in range(len(edges) + 1):
        rows = np.flatnonzero(bins == number)
        inner.append(_edges(side[rows], weight[rows], sides))
        which = np.searchsorted(inner[-1], side[rows], side="right")
        parts += [rows[which == one] for one in range(len(inner[-1]) + 1)]
    found = [_cell(known.mean[rows], known.reads[rows], weight[rows]) for rows in parts]
    return Spread(edges, tuple(inner), np.array([one for one, _ in found]), np.array([one for _, one in found]))


def _worth(weight: Floats, owner: Ints) -> float:
    """How many independent rows these are worth."""
    return float(min(weight.sum() ** 2 / (weight**2).sum(), ROWS_AN_OBJECT * len(np.unique(owner))))


def _edges(values: Floats, weight: Floats, bins: int) -> Floats:
    """Values at which bins of equal mass begin; none is empty, since each edge is a value above the least."""
    order = np.argsort(values, kind="stable")
    mass = np.cumsum(weight[order])
    place = np.searchsorted(mass, mass[-1] * np.arange(1, bins) / bins)
    edges = np.unique(values[order][place])
    return np.asarray(edges[edges > values[order[0]]])


def _cell(mean: Floats, reads: Floats, weight: Floats) -> tuple[float, Floats]:
    """The likeliest dispersion, and the map: each row's mass lies evenly between F(y − 1) and F(y)."""
    some = slice(None, None, -(-len(mean) // LIKELY_ROWS))
    likely = [weight[some] @ _log_likelihood(reads[some], mean[some], dispersion) for dispersion in DISPERSIONS]
    dispersion = float(DISPERSIONS[int(np.argmax(likely))])
    low, high = (cdf(at, mean, dispersion) for at in (reads - 1, reads))
    high = np.maximum(high, low + SMALL)
    return dispersion, _risen(low, high, weight / weight.sum())


def _risen(low: Floats, high: Floats, share: Floats) -> Floats:
    """At each point of GRID how much has come of the shares, each of which comes evenly from its low to its high."""
    ends, rates = np.concatenate((low, high)), np.concatenate((share, -share)) / np.tile(high - low, 2)
    order = np.argsort(ends, kind="stable")
    ends, rate = ends[order], np.cumsum(rates[order])
    come = np.concatenate(([0.0], np.cumsum(rate[:-1] * np.diff(ends))))
    found = np.maximum.accumulate(np.clip(np.interp(GRID, ends, come), 0.0, 1.0))
    found[0], found[-1] = 0.0, 1.0
    return np.asarray(found)


def cdf(count: Floats, mean: Floats, dispersion: float | Floats) -> Floats:
    """The negative binomial's distribution function; 0 below 0."""
    from scipy.special import betainc  # the workers' parent loads none of it

    size = 1 / dispersion
    return np.where(count < 0, 0.0, betainc(size, np.maximum(count, 0) + 1, size / (size + mean)))


def quantile(level: float, mean: Floats, dispersion: float | Floats) -> Floats:
    """The least counts of a negative binomial that are not passed with that probability."""
    level = min(level, 1 - 1e-9)
    low, high = np.full(len(mean), -1.0), np.ceil(mean + 20)
    while (short := cdf(high, mean, dispersion) < level).any():
        high[short] *= 2
    while (high - low > 1).any():
        middle = np.floor((low + high) / 2)
        enough = cdf(middle, mean, dispersion) >= level
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return high


def _log_likelihood(reads: Floats, mean: Floats, dispersion: float) -> Floats:
    """Less what does not depend on the dispersion."""
    from scipy.special import gammaln

    size = 1 / dispersion
    ways = gammaln(reads + size) - gammaln(size)
    return np.asarray(ways + size * np.log(size / (size + mean)) + reads * np.log(mean / (size + mean)))
