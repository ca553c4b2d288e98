"""How many reads and bytes each object is expected to see in the next 30 days (step: predict).

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
HORIZON_DAYS = 30.0


@dataclass(frozen=True)
class Demand:
    """Expected over the next 30 days, one element an object."""

    reads_30d: Floats
    bytes_30d: Floats


def expect(history: History, catalogue: Catalogue, as_of: int) -> Demand:
    """Expected demand of every object as of a time (microseconds); later rows of the history change nothing."""
    past = history.before(as_of)
    weight = np.exp2(-(as_of - past.ts) / (HALF_LIFE_DAYS * DAY))
    reads: Floats = np.bincount(past.object, past.reads * weight, past.objects).astype(float)
    size: Floats = np.bincount(past.object, past.bytes_read * weight, past.objects).astype(float)
    days = _exposure(past, as_of)
    cohort_rate = _cohort_mean(reads, days, days, catalogue.prefix)
    rate = (reads + PRIOR_DAYS * cohort_rate) / (days + PRIOR_DAYS)
    bytes_a_read = (size + PRIOR_READS * _cohort_bytes(size, reads, days, catalogue)) / (reads + PRIOR_READS)
    return Demand(rate * HORIZON_DAYS, rate * HORIZON_DAYS * bytes_a_read)


def _exposure(past: History, as_of: int) -> Floats:
    """Days that each object was watched, weighed like its reads: since its first access, or always if it had none."""
    since = np.full(past.objects, past.begin)
    since[past.object[::-1]] = past.ts[::-1]  # rows are sorted, so an object's first row is written last
    age = np.maximum(as_of - since, 0) / DAY
    return np.asarray((1 - np.exp2(-age / HALF_LIFE_DAYS)) * HALF_LIFE_DAYS / np.log(2))


def _cohort_bytes(read: Floats, reads: Floats, days: Floats, catalogue: Catalogue) -> Floats:
    """Bytes a read as the prefix does it: that share of the object's own size or, where it is unknown, that many."""
    known = catalogue.size > 0
    wholes = np.where(known, read / np.maximum(catalogue.size, 1), 0.0)
    share = np.minimum(_cohort_mean(wholes, np.where(known, reads, 0.0), days, catalogue.prefix), 1.0)
    return np.where(known, share * catalogue.size, _cohort_mean(read, reads, days, catalogue.prefix))


def _cohort_mean(amount: Floats, per: Floats, days: Floats, prefix: Ints) -> Floats:
    """Mean amount per unit of each object's prefix, or of the fleet where the prefix was watched too little."""
    fleet = amount.sum() / max(per.sum(), 1e-9)
    by_prefix = np.bincount(prefix, amount) / np.maximum(np.bincount(prefix, per), 1e-9)
    enough = (np.bincount(prefix, days) >= LEAST_OBJECT_DAYS) & (np.bincount(prefix, per) > 0)
    return np.asarray(np.where(enough, by_prefix, fleet)[prefix])
