"""What is known of objects' reads by day, and of the cohorts whose means their rates lean on.

Rows are sparse: a day without an access has none. Plain numpy; ml/tiering_grid.py makes of it what the loops take.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from ml.tiering_types import HALF_LIVES_DAYS, LEAST_OBJECT_DAYS, Floats, Ints

RECENT_DAYS = 7


@dataclass(frozen=True)
class Past:
    """Accesses of n objects on the days before `today`, sorted by object and day; a row is an object's day."""

    object: Ints
    """Dense index."""
    day: Ints
    """Days since the history's beginning, below `today`."""
    reads: Floats
    share: Floats
    """Bytes read over the object's size."""
    written: np.ndarray[tuple[int], np.dtype[np.bool_]]
    birth: Ints
    """[n] the first day on which an object was known; `today` for one that is new."""
    cohort: Ints
    """[n] dense number of the objects that are taken to be read alike."""
    today: int

    def times(self, k: float) -> Past:
        """The same with k times as many reads."""
        return replace(self, reads=self.reads * k, share=self.share * k)

    def before(self, day: int) -> Past:
        """What was known at the beginning of an earlier day."""
        some = self.day < day
        rows = (self.object[some], self.day[some], self.reads[some], self.share[some], self.written[some])
        return Past(*rows, birth=np.minimum(self.birth, day), cohort=self.cohort, today=day)

    def idle(self) -> Ints:
        """[n] days since the last read or write, or since birth, at today's beginning."""
        last = self.birth.copy()
        some = self.written | (self.reads > 0)
        np.maximum.at(last, self.object[some], self.day[some])
        return self.today - last

    def recent(self) -> Ints:
        """[n] of the last seven days, those with a read."""
        found = (self.reads > 0) & (self.day >= self.today - RECENT_DAYS)
        return np.bincount(self.object[found], minlength=len(self.birth)).astype(np.int64)

    def faded(self) -> Faded:
        """What the days of each object come to under each memory."""
        fades = 0.5 ** (1 / np.array(HALF_LIVES_DAYS))
        n, age = len(self.birth), self.today - 1 - self.day
        sums = [
            [np.bincount(self.object, of * fade**age, n) for fade in fades.tolist()] for of in (self.share, self.reads)
        ]
        watched = np.maximum(0, self.today - self.birth)
        return Faded(np.array(sums[0]), np.array(sums[1]), (1 - fades[:, None] ** watched) / (1 - fades[:, None]))


class Faded(NamedTuple):
    """[memory, n] sums of days that count for less the older they are."""

    full: Floats
    """Of whole objects read."""
    reads: Floats
    days: Floats
    """Of the days that an object was known."""


@dataclass(frozen=True)
class Means:
    """What an object's rate leans on: [memory, cohort] reads a day, as whole objects and as requests.

    A cohort that was watched for fewer than 200 object-days goes by all objects together.
    """

    full: Floats
    reads: Floats
    cohorts: tuple[str, ...]
    """Names, by number; the last entry of the arrays is that of all objects together and has none."""

    @classmethod
    def of(cls, past: Past, names: Sequence[str]) -> Means:
        """As of today. names: of the cohorts, by their numbers in `past`."""
        faded, k = past.faded(), len(names)
        shape = (len(HALF_LIVES_DAYS), k + 1)
        full, reads = np.zeros(shape), np.zeros(shape)
        for memory in range(shape[0]):
            sums = [np.bincount(past.cohort, of[memory], k) for of in faded]
            every = [float(of[memory].sum()) for of in faded]
            enough = sums[2] >= LEAST_OBJECT_DAYS
            for out, own, all_ in ((full, sums[0], every[0]), (reads, sums[1], every[1])):
                out[memory, k] = (all_ + 0.5) / (every[2] + 20.0)
                out[memory, :k] = np.where(enough, (own + 0.5) / (sums[2] + 20.0), out[memory, k])
        return cls(full, reads, tuple(names))

    def numbers(self, names: Sequence[str]) -> Ints:
        """The place of each name in the arrays; that of all objects for a cohort that was not known."""
        known = {name: number for number, name in enumerate(self.cohorts)}
        return np.array([known.get(name, len(self.cohorts)) for name in names], np.int64)
