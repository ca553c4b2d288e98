"""How an object will be read, from how it was read: a Gamma–Poisson rate a region with a prior (economics.md, voter 1).

Past days fade with a half-life of 60 days; the prior counts for 20 days and is the prediction where one stands, else
the mean of the object's cohort. The result goes into app/domain/placement.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

HALF_LIFE_DAYS = 60.0
PRIOR_DAYS = 20.0
COHORT_LEAST_OBJECT_DAYS = 200.0
EIGHTY_PERCENT = 2.5631
"""Standard deviations between the tenth and the ninetieth percentile."""
LEAST_VARIANCE = 1e-3
"""Relative to the mean: no rate is known better than this."""


@dataclass(frozen=True)
class RegionReads:
    """Reads and bytes a day by readers of one region; "" when it is not known."""

    region: str
    reads: float
    bytes: float


@dataclass(frozen=True)
class Forecast:
    """What a version of the demand model says of the days ahead."""

    version: int
    days: float
    reads: float
    low: float
    """With 10 % there are fewer reads."""
    high: float
    """With 10 % there are more."""

    @property
    def shape(self) -> float | None:
        """Of the Gamma of the rate whose counts spread so; None where they are too few to tell."""
        if self.reads <= 0 or self.high < 1 or self.high <= self.low:
            return None
        deviation = (self.high - self.low) / EIGHTY_PERCENT / self.reads
        chance = 1 / self.reads  # the variance of a count round a rate that is known
        return 1 / max(deviation**2 - chance, LEAST_VARIANCE)


@dataclass(frozen=True)
class Demand:
    """Expected reads by region. `shape`: of the Gamma that all rates are scaled by together (mean 1): its spread."""

    regions: tuple[RegionReads, ...] = ()
    shape: float = PRIOR_DAYS
    idle_days: float = 0.0
    p_hot: float | None = None
    p_band: tuple[float, float] | None = None
    """Between which p_hot lies with 90 %, as the model was calibrated."""
    forecast: Forecast | None = None
    """What it and its spread were made from; None where no version of the demand model serves."""

    @property
    def reads(self) -> float:
        """Reads a day."""
        return math.fsum(entry.reads for entry in self.regions)

    @property
    def bytes(self) -> float:
        """Bytes read a day."""
        return math.fsum(entry.bytes for entry in self.regions)

    def times(self, factor: float) -> Demand:
        """So many times the reads, of the same sizes and regions."""
        scaled = (RegionReads(entry.region, entry.reads * factor, entry.bytes * factor) for entry in self.regions)
        return replace(self, regions=tuple(scaled))


@dataclass(frozen=True)
class History:
    """Faded reads and bytes by region, the days an object was watched and those since its last read."""

    regions: tuple[RegionReads, ...]
    watched_days: float
    idle_days: float


@dataclass(frozen=True)
class Prior:
    """Reads and bytes a day of an object of which nothing is known but its prediction or its cohort."""

    reads: float
    bytes: float


def faded_days(days: float) -> float:
    """What so many days count for when each fades with the half-life."""
    rate = math.log(2) / HALF_LIFE_DAYS
    return (1 - math.exp(-rate * days)) / rate


def fading_per_day() -> float:
    """The exponent by which a day's reads fade, for sums made in the database."""
    return math.log(2) / HALF_LIFE_DAYS


def expect(history: History, prior: Prior, p_hot: float | None = None) -> Demand:
    """The demand of one object; `prior.bytes` are bytes a day.

    The prior's reads come from the regions seen, in their shares, or from no known region.
    """
    days = faded_days(history.watched_days) + PRIOR_DAYS
    seen_reads = math.fsum(entry.reads for entry in history.regions)
    seen_bytes = math.fsum(entry.bytes for entry in history.regions)
    if seen_reads > 0:
        regions = tuple(
            RegionReads(
                entry.region,
                (entry.reads + PRIOR_DAYS * prior.reads * entry.reads / seen_reads) / days,
                (entry.bytes + PRIOR_DAYS * prior.bytes * _share(entry, seen_reads, seen_bytes)) / days,
            )
            for entry in history.regions
        )
    else:
        regions = (RegionReads("", PRIOR_DAYS * prior.reads / days, PRIOR_DAYS * prior.bytes / days),)
    return Demand(regions, seen_reads + PRIOR_DAYS * prior.reads, history.idle_days, p_hot)


def _share(entry: RegionReads, reads: float, bytes_read: float) -> float:
    return entry.bytes / bytes_read if bytes_read > 0 else entry.reads / reads


def cohort_prior(histories: Iterable[tuple[History, int]]) -> Prior:
    """The mean of a cohort, given each history with the object's size in bytes; `bytes` are per byte stored.

    Half a read over twenty days is added (Jeffreys' prior), so that silence in a short log is not taken for certainty.
    """
    days, reads, full_reads = PRIOR_DAYS, 0.5, 0.5
    for history, size in histories:
        days += faded_days(history.watched_days)
        reads += math.fsum(entry.reads for entry in history.regions)
        full_reads += math.fsum(entry.bytes for entry in history.regions) / max(size, 1)
    return Prior(reads / days, full_reads / days)
