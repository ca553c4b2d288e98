"""Count, mean, variance and extremes of values by key, which merge in any order: columns of numpy (step: metrics).

A mean is kept as a value that was seen and the sum of what the others differ from it. Values near a billion that differ
by a thousandth so keep their variance, and whole numbers their exact sum, however they were cut into parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
SPARSE = 4
"""More keys than so many a value are numbered anew, so that memory goes by the values."""


@dataclass(frozen=True)
class Moments:
    """Columns by key: `base` is one of the values, `total` sums value less base, `m2` squares about the mean."""

    count: Ints
    base: Floats
    total: Floats
    m2: Floats
    low: Floats
    high: Floats

    @property
    def mean(self) -> Floats:
        """NaN where nothing is counted."""
        return self.base + self._over(self.total)

    @property
    def sum(self) -> Floats:
        """Of the values."""
        return self.count * self.base + self.total

    @property
    def variance(self) -> Floats:
        """Of the values as all there are (divided by their number); NaN where nothing is counted."""
        return self._over(self.m2)

    def _over(self, column: Floats) -> Floats:
        count = np.where(self.count > 0, self.count, np.nan)
        found: Floats = column / count
        return found

    def take(self, rows: NDArray[Any]) -> Moments:
        """Those rows."""
        return Moments(*(column[rows] for column in columns_of(self)))


def columns_of(moments: Moments) -> tuple[NDArray[Any], ...]:
    """The columns in the order in which they are stored."""
    return moments.count, moments.base, moments.total, moments.m2, moments.low, moments.high


def joined(several: Sequence[Moments]) -> Moments:
    """The rows of all, one after the other."""
    return Moments(*(np.concatenate(column) for column in zip(*map(columns_of, several), strict=True)))


def of_values(key: Ints, value: Floats, size: int) -> Moments:
    """The moments of values by key, each key below `size`."""
    count = np.bincount(key, minlength=size)
    base = np.zeros(size)
    base[key] = value  # which of a key's values it is does not matter
    apart = value - base[key]
    total = _sums(key, apart, size)
    apart -= (total / np.maximum(count, 1))[key]
    rest = _sums(key, apart, size)  # what rounding has left of a sum that is 0
    m2 = _sums(key, apart * apart, size) - rest * rest / np.maximum(count, 1)
    low, high = _extremes(key, value, value, size)
    return Moments(count, base, total, np.maximum(m2, 0.0), low, high)


def merged(key: Ints, parts: Moments, size: int) -> Moments:
    """The moments of all parts of a key together, each key below `size` (Chan, Golub and LeVeque, many at once)."""
    count = _sums(key, parts.count, size)
    filled = np.maximum(count, 1.0)
    base = np.zeros(size)
    base[key] = parts.base
    total = parts.total + parts.count * (parts.base - base[key])
    whole = _sums(key, total, size)
    apart = total / np.maximum(parts.count, 1) - (whole / filled)[key]
    rest = _sums(key, parts.count * apart, size)
    m2 = _sums(key, parts.m2 + parts.count * apart * apart, size) - rest * rest / filled
    low, high = _extremes(key, parts.low, parts.high, size)
    return Moments(count.astype(np.int64), base, whole, np.maximum(m2, 0.0), low, high)


def _sums(key: Ints, weights: NDArray[Any], size: int) -> Floats:
    return np.bincount(key, weights, size).astype(np.float64, copy=False)


def _extremes(key: Ints, lows: Floats, highs: Floats, size: int) -> tuple[Floats, Floats]:
    low, high = np.full(size, np.inf), np.full(size, -np.inf)
    np.minimum.at(low, key, lows)
    np.maximum.at(high, key, highs)
    return low, high


@dataclass(frozen=True)
class Windows:
    """Moments by stream and window, ordered by both; `row` says of each value in which row it is."""

    stream: Ints
    window: Ints
    """Its start, in the unit of the times."""
    moments: Moments
    row: Ints


def by_window(stream: Ints, ts: Ints, value: Floats, width: int) -> Windows:
    """Aggregates values by stream and by windows of `width`. stream: from 0; ts and width: in one unit."""
    if not len(value):
        none = np.zeros(0, np.int64)
        return Windows(none, none, of_values(none, value, 0), none)
    number = ts // width
    first = int(number.min())
    span = int(number.max()) - first + 1
    key = stream * span + (number - first)
    size = (int(stream.max()) + 1) * span
    if size > SPARSE * len(value) + 1024:
        found, key = np.unique(key, return_inverse=True)
        return Windows(found // span, (found % span + first) * width, of_values(key, value, len(found)), key)
    moments = of_values(key, value, size)
    filled = np.flatnonzero(moments.count)
    if len(filled) < size:
        moments, key = moments.take(filled), np.cumsum(moments.count > 0)[key] - 1
    return Windows(filled // span, (filled % span + first) * width, moments, key)
