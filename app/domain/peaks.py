"""Recurring peaks: hours of the week in which an object is read far more than usual, week after week, and the next one.

What is planned for them: a temporary copy near the readers, or for a while a class without retrieval fees, in place
before the peak begins and gone after it ends (source 004: pre-warm before spikes).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from app.domain.demand import Demand, RegionReads

WEEKS = 4
"""How many past weeks are looked at."""
LEAST_WEEKS = 3
"""In how many of them an hour must be busy."""
TIMES = 4.0
"""A busy hour has so many times the reads of the mean hour."""
LEAST_READS = 3
"""And no fewer than this."""
WEEK = timedelta(days=7)
HOUR = timedelta(hours=1)
HOURS = 168
BEGIN = datetime(1970, 1, 5, tzinfo=UTC)
"""A Monday, from which hours of the week are counted, in UTC."""


@dataclass(frozen=True)
class Hour:
    """Reads of an object by readers of one region in one hour."""

    begins: datetime
    region: str
    reads: int
    bytes: int


@dataclass(frozen=True)
class Peak:
    """The next time that a recurring peak is expected."""

    begins: datetime
    ends: datetime
    weeks: int
    """In how many of the last four weeks each of its hours was busy, at least."""
    demand: Demand
    """Reads and bytes a day while it lasts, by region: the mean of the past weeks."""

    @property
    def hours(self) -> int:
        """How long it lasts."""
        return round((self.ends - self.begins) / HOUR)

    @property
    def reads(self) -> float:
        """Reads expected in all of it."""
        return self.demand.reads * self.hours / 24


def next_peaks(hours: Iterable[Hour], mean_an_hour: float, now: datetime, within: timedelta) -> list[Peak]:
    """The peaks that recur each week or each day and begin after `now`, within that time.

    hours: at least every hour of the last four weeks with TIMES the mean; mean_an_hour: reads an hour over these weeks.
    An hour of the week is busy when in three of the four weeks it had four times the mean, and three reads at least.
    """
    least = max(TIMES * mean_an_hour, LEAST_READS)
    oldest = _floor(now) - WEEKS * WEEK
    rows = [row for row in hours if oldest <= row.begins < _floor(now)]
    reads: dict[datetime, int] = {}
    for row in rows:
        reads[row.begins] = reads.get(row.begins, 0) + row.reads
    weeks = [0] * HOURS
    for begins, number in reads.items():
        weeks[hour_of_week(begins)] += number >= least
    busy = [count >= LEAST_WEEKS for count in weeks]
    if all(busy) or not any(busy):
        return []
    peaks = [_peak(rows, weeks, first, length, now) for first, length in _runs(busy)]
    return [peak for peak in peaks if peak.begins < now + within]


def joined(peaks: Iterable[Peak], gap: timedelta) -> list[Peak]:
    """In their order, with those as one that follow another sooner than after `gap`: what is there for it stays."""
    result: list[Peak] = []
    for peak in sorted(peaks, key=lambda peak: peak.begins):
        near = bool(result) and peak.begins - result[-1].ends < gap
        result.append(_both(result.pop(), peak) if near else peak)
    return result


def _both(first: Peak, second: Peak) -> Peak:
    """From the beginning of one to the end of the other; as sure as the less sure one."""
    hours = round((second.ends - first.begins) / HOUR)
    sums: dict[str, tuple[float, float]] = {}
    for peak in (first, second):
        for entry in peak.demand.regions:
            reads, bytes_ = sums.get(entry.region, (0.0, 0.0))
            share = peak.hours / hours
            sums[entry.region] = (reads + entry.reads * share, bytes_ + entry.bytes * share)
    by_region = tuple(RegionReads(name, *both) for name, both in sorted(sums.items()))
    demand = replace(first.demand, regions=by_region, shape=min(first.demand.shape, second.demand.shape))
    return Peak(first.begins, second.ends, min(first.weeks, second.weeks), demand)


def hour_of_week(begins: datetime) -> int:
    """0 for Monday's first hour in UTC, up to 167."""
    return int((begins - BEGIN) / HOUR) % HOURS


def _floor(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)


def _runs(busy: Sequence[bool]) -> list[tuple[int, int]]:
    """First hour and length of each run of busy hours; the week is a ring."""
    firsts = [hour for hour in range(HOURS) if busy[hour] and not busy[hour - 1]]
    ends = [hour for hour in range(HOURS) if not busy[hour] and busy[hour - 1]]
    return [(first, min((end - first) % HOURS for end in ends)) for first in firsts]


def _peak(rows: Sequence[Hour], weeks: Sequence[int], first: int, length: int, now: datetime) -> Peak:
    inside = {(first + step) % HOURS for step in range(length)}
    regions: dict[str, list[int]] = {}
    for row in rows:
        if hour_of_week(row.begins) in inside:
            sums = regions.setdefault(row.region, [0, 0])
            sums[0], sums[1] = sums[0] + row.reads, sums[1] + row.bytes
    days = WEEKS * length / 24
    by_region = tuple(RegionReads(name, sums[0] / days, sums[1] / days) for name, sums in sorted(regions.items()))
    begins = _floor(now) + ((first - hour_of_week(_floor(now))) % HOURS or HOURS) * HOUR
    spread = _spread(rows, inside, first)
    return Peak(
        begins, begins + length * HOUR, min(weeks[hour] for hour in inside), Demand(by_region, spread, 0.0, 1.0)
    )


def _spread(rows: Iterable[Hour], inside: set[int], first: int) -> float:
    """The shape of the Gamma that the peak's reads are scaled by: mean² over what their variance exceeds Poisson's by.

    Between 1, for weeks that have nothing to do with each other, and the number of reads seen.
    """
    sums: dict[int, int] = {}
    for row in rows:
        hour = hour_of_week(row.begins)
        if hour in inside:
            start = row.begins - ((hour - first) % HOURS) * HOUR
            week = int((start - BEGIN) / WEEK)
            sums[week] = sums.get(week, 0) + row.reads
    counts = [*sums.values(), *[0] * (WEEKS - len(sums))]
    mean = math.fsum(counts) / len(counts)
    extra = math.fsum((count - mean) ** 2 for count in counts) / (len(counts) - 1) - mean
    total = math.fsum(counts)
    return total if extra <= 0 else min(max(mean * mean / extra, 1.0), total)


def told(peak: Peak) -> str:
    """The peak in words."""
    day = "" if peak.ends - peak.begins <= timedelta(days=1) else f"{peak.ends:%a %d %b} "
    when = f"{peak.begins:%a %d %b %H:%M} to {day}{peak.ends:%H:%M} UTC"
    return f"{when}, {peak.reads:.3g} reads expected, busy in {peak.weeks} of {WEEKS} weeks"
