"""How values are spread and which items weigh most: sketches that merge in any order, and bounds (step: metrics).

Values are kept as they are while they are few, so that percentiles are exact; of more, a KLL sketch is kept. The
heaviest items are kept after Misra and Gries: datasketches' own frequent items take whole weights alone, and weights
may be seconds or dollars.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from heapq import nlargest

import numpy as np
from datasketches import kll_doubles_sketch
from numpy.typing import NDArray

Floats = NDArray[np.float64]
K = 1024
"""Of the sketch, whose error of rank is 0.27 % with 99 % confidence; at most 24 KB."""
EXACT_STORED = 1024
"""Values of a bucket that are stored as they are."""
EXACT_READ = 2**17
"""Values that a reader holds as they are."""
SURE = 2.0
"""The bound that is told is so many times the one that holds with 99 %: some five standard deviations."""
MOST_ITEMS = 1024


@dataclass(frozen=True)
class Quantile:
    """A value that was seen, and between which two values that of the exact rank lies."""

    value: float
    low: float
    high: float


class Spread:
    """How many values are spread; fed with values and with what other spreads have stored."""

    def __init__(self) -> None:
        self._few: list[Floats] = []
        self._count = 0
        self._sketch: kll_doubles_sketch | None = None

    def add(self, values: Floats) -> None:
        """Takes values."""
        self._few.append(values)
        self._count += len(values)
        if self._count > EXACT_READ:
            self._fold()

    def add_stored(self, body: bytes, *, sketched: bool) -> None:
        """Takes what `stored` gave."""
        if not sketched:
            self.add(np.frombuffer(body, "<f8"))
            return
        found = kll_doubles_sketch.deserialize(body)
        if self._sketch is None:
            self._sketch = found
        else:
            self._sketch.merge(found)

    def stored(self) -> tuple[bytes, bool]:
        """All as bytes, and whether they are a sketch: little-endian doubles while they are few."""
        if self._sketch is not None or self._count > EXACT_STORED:
            self._fold()
        if self._sketch is not None:
            return self._sketch.serialize(), True
        return b"".join(values.astype("<f8", copy=False).tobytes() for values in self._few), False

    def _fold(self) -> None:
        if self._sketch is None:
            self._sketch = kll_doubles_sketch(K)
        if self._few:  # what is held is added at once, since each call takes its time
            self._sketch.update(np.concatenate(self._few))
        self._few.clear()
        self._count = 0

    @property
    def rank_error(self) -> float:
        """By how much the share of values below a quantile may differ from the share asked for; 0: exact."""
        if self._sketch is None:
            return 0.0
        self._fold()
        if not self._sketch.is_estimation_mode():
            return 0.0
        return SURE * float(self._sketch.normalized_rank_error(False))

    def quantiles(self, shares: Sequence[float]) -> list[Quantile]:
        """The least values that these shares of the values do not exceed; there is a value at least."""
        error = self.rank_error
        low, high = [max(0.0, share - error) for share in shares], [min(1.0, share + error) for share in shares]
        found = self._at([*shares, *low, *high])
        n = len(shares)
        return [Quantile(*each) for each in zip(found[:n], found[n : 2 * n], found[2 * n :], strict=True)]

    def _at(self, shares: list[float]) -> list[float]:
        if self._sketch is not None:
            found = [float(value) for value in self._sketch.get_quantiles(shares, True)]
            ends = {0.0: self._sketch.get_min_value, 1.0: self._sketch.get_max_value}  # exact, kept or not
            return [float(ends[share]()) if share in ends else told for share, told in zip(shares, found, strict=True)]
        values = np.sort(np.concatenate(self._few))
        places = np.ceil(np.array(shares) * len(values) - 1e-9).astype(np.int64) - 1
        return [float(value) for value in values[np.clip(places, 0, len(values) - 1)]]


def stored_values(value: Floats, row: NDArray[np.int64], count: NDArray[np.int64]) -> tuple[list[bytes], list[bool]]:
    """What is stored of the values of each row, and whether it is a sketch. count: of values, by row."""
    small = row.astype(np.uint16) if len(count) <= 2**16 else row  # of which numpy sorts numbers by their digits
    in_order = value[np.argsort(small, kind="stable")]
    ends = np.cumsum(count).tolist()
    whole = in_order.astype("<f8", copy=False).tobytes()
    bodies, sketched = [], []
    begin = 0
    for end in ends:
        many = end - begin > EXACT_STORED
        bodies.append(_sketch_of(in_order[begin:end]) if many else whole[8 * begin : 8 * end])
        sketched.append(many)
        begin = end
    return bodies, sketched


def _sketch_of(values: Floats) -> bytes:
    sketch = kll_doubles_sketch(K)
    sketch.update(values)
    found: bytes = sketch.serialize()
    return found


@dataclass
class Tally:
    """The heaviest items: each truly weighs what stands here or up to `error` more; an absent one, up to `error`."""

    weights: dict[str, float]
    error: float = 0.0

    @classmethod
    def of(cls, items: Iterable[str], weights: Iterable[float]) -> Tally:
        """Of items with weights that are not negative."""
        found: dict[str, float] = {}
        for item, weight in zip(items, weights, strict=True):
            found[item] = found.get(item, 0.0) + weight
        return cls(found)

    def add(self, other: Tally) -> None:
        """Takes what another has counted."""
        for item, weight in other.weights.items():
            self.weights[item] = self.weights.get(item, 0.0) + weight
        self.error += other.error

    def trimmed(self, most: int = MOST_ITEMS) -> Tally:
        """The same in bounded memory: the lightest are dropped, and of each that stays the heaviest dropped weight."""
        if len(self.weights) <= most:
            return self
        cut = nlargest(most + 1, self.weights.values())[-1]
        kept = {item: weight - cut for item, weight in self.weights.items() if weight > cut}
        return Tally(kept, self.error + cut)

    def top(self, k: int) -> list[tuple[str, float]]:
        """The k heaviest, of equal ones the first in the alphabet."""
        return sorted(self.weights.items(), key=lambda pair: (-pair[1], pair[0]))[:k]
