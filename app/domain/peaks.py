"""Recurring peaks: hours of the week in which an object is read far more than usual, week after week, and the next one.

What is planned for them: a temporary copy near the readers, or for a while a class without retrieval fees, in place
before the peak begins and gone after it ends (source 004: pre-warm before spikes).
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, tzinfo

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
MONDAY = datetime(1970, 1, 5)  # noqa: DTZ001  # on the clocks of whatever zone
"""From which hours of the week are counted."""


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
    zone: tzinfo = UTC
    """On whose clocks it recurs."""

    @property
    def hours(self) -> int:
        """How long it lasts."""
        return round((self.ends - self.begins) / HOUR)

    @property
    def reads(self) -> float:
        """Reads expected in all of it."""
        return self.demand.reads * self.hours / 24


def next_peaks(
    hours: Iterable[Hour], mean_an_hour: float, now: datetime, within: timedelta, zone: tzinfo = UTC
) -> list[Peak]:
    """The peaks that recur each week or each day and begin after `now`, within that time.

    hours: at least every hour of the last four weeks with TIMES the mean; mean_an_hour: reads an hour over these weeks.
    An hour of the week, on the clocks of `zone`, is busy when in three of the four weeks it had four times the mean,
    and three reads at least.
    """
    least = max(TIMES * mean_an_hour, LEAST_READS)
    this_hour = _floor(now)
    rows = [(clock_hour(row.begins, zone), row) for row in hours if this_hour - WEEKS * WEEK <= row.begins < this_hour]
    reads: dict[datetime, int] = {}
    for _, row in rows:
        reads[row.begins] = reads.get(row.begins, 0) + row.reads
    weeks: dict[int, set[int]] = {}
    for clock, row in rows:
        if reads[row.begins] >= least:
            weeks.setdefault(clock % HOURS, set()).add(clock // HOURS)
    busy = {hour: min(len(seen), WEEKS) for hour, seen in weeks.items() if len(seen) >= LEAST_WEEKS}
    if not busy or len(busy) == HOURS:
        return []
    peaks = [_peak(rows, busy, begins, ends, zone) for begins, ends in _runs(busy, this_hour, zone)]
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
    return Peak(first.begins, second.ends, min(first.weeks, second.weeks), demand, first.zone)


def clock_hour(begins: datetime, zone: tzinfo) -> int:
    """Hours since a Monday's first one by the clocks of a zone; modulo 168 the hour of the week.

    Where clocks go back, two hours have the same number; where they go forward, one has none.
    """
    return (begins.astimezone(zone).replace(tzinfo=None) - MONDAY) // HOUR


def _floor(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def _runs(busy: Container[int], now: datetime, zone: tzinfo) -> Iterator[tuple[datetime, datetime]]:
    """Beginning and end of each run of busy hours that begins in the week after the hour `now`."""
    found = [clock_hour(now + step * HOUR, zone) % HOURS in busy for step in range(2 * HOURS + 2)]
    for first in range(1, HOURS + 1):
        if found[first] and not found[first - 1]:
            yield now + first * HOUR, now + found.index(False, first) * HOUR


def _peak(
    rows: Sequence[tuple[int, Hour]], busy: Mapping[int, int], begins: datetime, ends: datetime, zone: tzinfo
) -> Peak:
    run = [clock_hour(begins + step * HOUR, zone) % HOURS for step in range((ends - begins) // HOUR)]
    inside = [(clock, row) for clock, row in rows if clock % HOURS in run]
    regions: dict[str, list[int]] = {}
    for _, row in inside:
        sums = regions.setdefault(row.region, [0, 0])
        sums[0], sums[1] = sums[0] + row.reads, sums[1] + row.bytes
    days = WEEKS * len(set(run)) / 24
    by_region = tuple(RegionReads(name, sums[0] / days, sums[1] / days) for name, sums in sorted(regions.items()))
    demand = Demand(by_region, _spread(inside, run[0]), 0.0, 1.0)
    return Peak(begins, ends, min(busy[hour] for hour in run), demand, zone)


def _spread(inside: Iterable[tuple[int, Hour]], first: int) -> float:
    """The shape of the Gamma that the peak's reads are scaled by: mean² over what their variance exceeds Poisson's by.

    Between 1, for weeks that have nothing to do with each other, and the number of reads seen. first: the hour of the
    week in which the peak begins.
    """
    sums: dict[int, int] = {}
    for clock, row in inside:
        week = (clock - first) // HOURS
        sums[week] = sums.get(week, 0) + row.reads
    counts = [*sums.values(), *[0] * (WEEKS - len(sums))]
    mean = math.fsum(counts) / len(counts)
    extra = math.fsum((count - mean) ** 2 for count in counts) / (len(counts) - 1) - mean
    total = math.fsum(counts)
    return total if extra <= 0 else min(max(mean * mean / extra, 1.0), total)


def told(peak: Peak) -> str:
    """The peak in words."""
    begins, ends = peak.begins.astimezone(peak.zone), peak.ends.astimezone(peak.zone)
    day = "" if peak.ends - peak.begins <= timedelta(days=1) else f"{ends:%a %d %b} "
    when = f"{begins:%a %d %b %H:%M} to {day}{ends:%H:%M} {peak.zone}"
    return f"{when}, {peak.reads:.3g} reads expected, busy in {peak.weeks} of {WEEKS} weeks"
