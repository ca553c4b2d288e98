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
PIECE = 2**17
"""Values that are aggregated at a time, so that what is computed of them stays near the processor."""
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
    """The moments of values by key, each key below `size`.

    The squares are of what lies between a value and the base, and are brought to the mean at the end: the base is one
    of the n values, so it lies at most sqrt(n) deviations from the mean, and no more is lost than n roundings.
    """
    count = np.bincount(key, minlength=size)
    base = np.zeros(size)
    base[key] = value  # which of a key's values it is does not matter
    apart = value - base[key]
    total = _sums(key, apart, size)
    apart *= apart
    m2 = _sums(key, apart, size) - total * total / np.maximum(count, 1)
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
    """Moments by stream and window of time, ordered by both."""

    key: Ints
    """The stream × `span` + the window's number less `first`."""
    moments: Moments
    width: int
    first: int
    span: int

    @property
    def stream(self) -> Ints:
        """Of each row."""
        return self.key // self.span

    @property
    def start(self) -> Ints:
        """Of each row's window, in the unit of the times."""
        return (self.key % self.span + self.first) * self.width

    def rows(self, stream: Ints, ts: Ints) -> Ints:
        """In which row each of the values is that these are of."""
        key = _keys(stream, ts, self.width, self.first, self.span)
        most = int(self.key[-1]) + 1 if len(self.key) else 0
        if most > SPARSE * len(key) + 1024:
            return np.searchsorted(self.key, key)
        row = np.zeros(most, np.int64)
        row[self.key] = np.arange(len(self.key))
        return row[key]


def by_window(stream: Ints, ts: Ints, value: Floats, width: int) -> Windows:
    """Aggregates values by stream and by windows of `width`. stream: from 0; ts and width: in one unit."""
    if not len(value):
        return Windows(np.zeros(0, np.int64), of_values(stream, value, 0), width, 0, 1)
    first = int(ts.min()) // width
    span = int(ts.max()) // width - first + 1
    keys, several = [], []
    for begin in range(0, len(value), PIECE):
        piece = slice(begin, begin + PIECE)
        found, moments = _by_key(_keys(stream[piece], ts[piece], width, first, span), value[piece])
        keys.append(found)
        several.append(moments)
    if len(keys) == 1:
        return Windows(keys[0], several[0], width, first, span)
    whole, row = np.unique(np.concatenate(keys), return_inverse=True)
    return Windows(whole, merged(row, joined(several), len(whole)), width, first, span)


def _keys(stream: Ints, ts: Ints, width: int, first: int, span: int) -> Ints:
    key = ts // width
    key -= first
    key += stream * span
    return key


def _by_key(key: Ints, value: Floats) -> tuple[Ints, Moments]:
    """The keys that there are and their moments."""
    size = int(key.max()) + 1
    if size > SPARSE * len(value) + 1024:
        found, row = np.unique(key, return_inverse=True)
        return found, of_values(row, value, len(found))
    moments = of_values(key, value, size)
    filled = np.flatnonzero(moments.count)
    return filled, moments if len(filled) == size else moments.take(filled)
