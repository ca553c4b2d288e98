"""How many reads and bytes each object is expected to see, from its own past and its prefix's (step: predict).

Gamma–Poisson: an object's own past, halved every 60 days, weighed against 20 days of what its prefix does, so that an
object without a past gets its prefix's rate and one with a long past its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ml.history import DAY, Catalogue, Floats, History, Ints

HALF_LIFE_DAYS = 60.0
PRIOR_DAYS = 20.0
PRIOR_READS = 5.0
LEAST_OBJECT_DAYS = 200.0
"""A prefix with less exposure than this takes the fleet's mean."""


@dataclass(frozen=True)
class Expected:
    """As of a time, one element an object."""

    reads: Floats
    """Reads a day."""
    bytes_a_read: Floats
    cohort: Floats
    """Reads a day of an object of its prefix, or of the fleet where the prefix was watched too little."""
    days: Floats
    """Days that it was watched, faded like its reads."""

    def within(self, days: float) -> tuple[Floats, Floats]:
        """Reads and bytes in so many days."""
        reads = self.reads * days
        return reads, reads * self.bytes_a_read


class Walk:
    """Expectations as of rising times over one history; rows at or after a time change nothing of what is said of it.

    everyone: objects without an access were there and not read since the history began; else they are not there yet.
    """

    def __init__(self, history: History, catalogue: Catalogue, *, everyone: bool) -> None:
        self._past, self._catalogue, self._everyone = history, catalogue, everyone
        self._order = np.argsort(history.ts, kind="stable")
        self._ts = history.ts[self._order]
        self._done, self._now = 0, history.begin
        self._reads, self._bytes = np.zeros(history.objects), np.zeros(history.objects)
        self._since = np.full(history.objects, np.iinfo(np.int64).max)

    def to(self, as_of: int) -> Expected:
        """What is expected as of a time (microseconds), which must not lie before the last one.

        Objects that have ended by then tell nothing of their prefix, as in service, where they are not known.
        """
        self._advance(as_of)
        there = self._catalogue.there(as_of)
        seen, read, days = (np.where(there, of, 0.0) for of in (self._reads, self._bytes, self._exposure(as_of)))
        prefix = self._catalogue.prefix
        cohort = _cohort_mean(seen, days, days, prefix)
        reads = (seen + PRIOR_DAYS * cohort) / (days + PRIOR_DAYS)
        owner = np.arange(len(there))
        size = self._catalogue.size_at(owner, np.full(len(owner), as_of))
        usual = _cohort_bytes(read, seen, days, size, prefix)
        return Expected(reads, (read + PRIOR_READS * usual) / (seen + PRIOR_READS), cohort, days)

    def _advance(self, as_of: int) -> None:
        until = int(np.searchsorted(self._ts, as_of))
        rows = self._order[self._done : until]
        past, fade = self._past, np.exp2(-(as_of - self._now) / (HALF_LIFE_DAYS * DAY))
        owner, weight = past.object[rows], np.exp2(-(as_of - past.ts[rows]) / (HALF_LIFE_DAYS * DAY))
        self._reads = self._reads * fade + np.bincount(owner, past.reads[rows] * weight, past.objects)
        self._bytes = self._bytes * fade + np.bincount(owner, past.bytes_read[rows] * weight, past.objects)
        np.minimum.at(self._since, owner, past.ts[rows])
        self._done, self._now = until, as_of

    def _exposure(self, as_of: int) -> Floats:
        """Days that each object was watched, weighed like its reads: since its first access."""
        absent = self._past.begin if self._everyone else as_of
        since = np.where(self._since < as_of, self._since, absent)
        age = np.maximum(as_of - since, 0) / DAY
        return np.asarray((1 - np.exp2(-age / HALF_LIFE_DAYS)) * HALF_LIFE_DAYS / np.log(2))


def expect(history: History, catalogue: Catalogue, as_of: int) -> Expected:
    """What is expected of every object as of a time (microseconds); later rows of the history change nothing."""
    return Walk(history, catalogue, everyone=True).to(as_of)


def _cohort_bytes(read: Floats, reads: Floats, days: Floats, size: Floats, prefix: Ints) -> Floats:
    """Bytes a read as the prefix does it: that share of the object's own size or, where it is unknown, that many."""
    known = size > 0
    wholes = np.where(known, read / np.maximum(size, 1), 0.0)
    share = np.minimum(_cohort_mean(wholes, np.where(known, reads, 0.0), days, prefix), 1.0)
    return np.where(known, share * size, _cohort_mean(read, reads, days, prefix))


def _cohort_mean(amount: Floats, per: Floats, days: Floats, prefix: Ints) -> Floats:
    """Mean amount per unit of each object's prefix, or of the fleet where the prefix was watched too little."""
    fleet = amount.sum() / max(per.sum(), 1e-9)
    by_prefix = np.bincount(prefix, amount) / np.maximum(np.bincount(prefix, per), 1e-9)
    enough = (np.bincount(prefix, days) >= LEAST_OBJECT_DAYS) & (np.bincount(prefix, per) > 0)
    return np.asarray(np.where(enough, by_prefix, fleet)[prefix])
