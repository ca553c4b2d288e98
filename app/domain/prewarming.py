"""A copy or a class for the time of a recurring peak: in place before it begins, gone after it, if that saves money.

Counted are the reads of the peak alone: what they cost as things stand, against the same from the temporary place, its
storage until its grace is over, the way there and back, and what is left behind. The gate is the one of every other
voluntary move.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, tzinfo

import numpy as np

from app.domain import pricing
from app.domain.moves import PlannedMove, Times
from app.domain.peaks import Hour, Peak, joined, next_peaks, told
from app.domain.placement import ReplicaSet, Split, breaches, saving_probability, structures, today
from app.domain.placement_costs import Costs, price, serving
from app.domain.placement_decisions import Decision, Verdict, usd
from app.domain.placement_problem import Item, Problem, SiteOption
from app.domain.policies import Readers
from app.domain.prices import MONTH_DAYS
from app.domain.states import MoveKind

LEAD = timedelta(hours=1)
"""How long before a peak its copy is begun at the latest, beside the time that its bytes take."""
BYTES_PER_S = 5e6
"""How fast a copy is taken to go: slowly, since others go at the same time."""
PEAKS_A_MONTH = MONTH_DAYS / 7
"""Each recurs weekly: what recurs daily is seven peaks."""
WITHIN = timedelta(days=7)
"""How far off a peak may be whose copy takes so long that it has to begin now."""
LONGEST_KEPT_DAYS = 90.0
"""What a delete leaves in a versioned bucket without a rule for old versions is counted for so long."""


def begins(peak: Peak, size: int) -> datetime:
    """When the copy of so many bytes is begun, so that it is verified before the peak."""
    return peak.begins - takes(size)


def takes(size: int) -> timedelta:
    """How long before its peak the copy of so many bytes is begun."""
    return LEAD + timedelta(seconds=size / BYTES_PER_S)


def due(
    hours: Iterable[Hour], mean_an_hour: float, size: int, now: datetime, ahead: timedelta, gone: timedelta,
    zone: tzinfo = UTC,
) -> list[Peak]:  # fmt: skip
    """The peaks for which a copy of so many bytes would have to begin within the time `ahead`, the first one first.

    hours, mean_an_hour: as next_peaks takes them; gone: how long after its peak a copy is gone. A peak that comes
    before that, and before another copy could be there, is a part of the one before.
    """
    coming = joined(next_peaks(hours, mean_an_hour, now, WITHIN, zone), gone + takes(size))
    return [peak for peak in coming if begins(peak, size) < now + ahead]


@dataclass(frozen=True)
class _Option:
    """A temporary place, a column of the costs. Dollars for the time of the peak."""

    column: int
    kind: MoveKind
    serve: Split
    held: float
    there: float
    back: float

    @property
    def extra(self) -> float:
        """What it costs beside the reads."""
        return self.held + self.there + self.back


def prewarm(
    sites: Sequence[SiteOption], item: Item, peak: Peak, now: datetime, grace: timedelta = timedelta(0)
) -> list[Decision]:
    """Temporary copies and classes that clear the gate and come in time, the one that saves most in the peak first.

    grace: how long a copy still stands after its peak.
    """
    start = begins(peak, item.size)
    if start < now and now + (peak.begins - start) - LEAD > peak.begins:
        return []
    busy = replace(item, demand=peak.demand)
    costs = price(Problem(tuple(sites), (busy,), peak.hours / 24))
    shape = structures(costs)[0]
    if not item.held or breaches(costs, 0, shape):
        return []
    standing = today(costs, 0, shape)
    reads = serving(costs.problem, costs.pairs, peak.hours / 24)
    now_reads = _reads(reads, standing.primary)
    days = (peak.ends - start) / timedelta(days=1), (peak.ends + grace - start) / timedelta(days=1)
    found: list[tuple[float, Decision]] = []
    for option in _options(costs, standing, reads, days):
        saving = now_reads.serve - option.serve.serve
        chance = saving_probability(busy, -option.extra, saving, peak.hours / 24)
        clears = saving >= item.rules.payback * option.extra and chance >= item.rules.confidence
        if clears:
            found.append((saving - option.extra, _decision(costs, standing, peak, start, now_reads, option, chance)))
    return [decision for _, decision in sorted(found, key=lambda entry: -entry[0])]


def _options(
    costs: Costs, standing: ReplicaSet, reads: tuple[pricing.Floats, ...], lasting: tuple[float, float]
) -> Iterator[_Option]:
    """Where the object could lie for the time of the peak: near its readers, or in another class where it is read.

    lasting: for how many days a class is another one, and a copy is there.
    """
    item = costs.problem.items[0]
    held = {costs.pairs[column].site: column for column in standing.columns}
    providers = {costs.problem.sites[site].provider for site in held}
    for column, pair in enumerate(costs.pairs):
        site = costs.problem.sites[pair.site]
        if costs.keeps[0, column] or costs.why_not[0][column] or pair.entry.restore:
            continue
        if pair.site in held:
            if held[pair.site] != standing.primary or pair.entry.min_days:
                continue
            days = lasting[0]
            back = _way_back(costs, standing.primary, column, days)
            kind = MoveKind.CLASS
        else:
            crowded = item.rules.diversity and item.rules.rf > 1 and site.provider in providers
            if item.rules.readers is not Readers.ROUTED or crowded:
                continue
            days = lasting[1]
            back = _left_behind(costs, column, days)
            kind = MoveKind.COPY
        there = float(costs.move[0, column]) + (float(costs.leave[0, pair.site]) if kind is MoveKind.CLASS else 0.0)
        stored = _stored(costs, column, days) - (
            _stored(costs, standing.primary, days) if kind is MoveKind.CLASS else 0.0
        )
        yield _Option(column, kind, _reads(reads, column), stored, there, back)


def _reads(reads: tuple[pricing.Floats, ...], column: int) -> Split:
    requests, retrieval, egress, penalty = (float(part[0, column]) for part in reads)
    return Split(0.0, requests, retrieval, egress, penalty, 0.0, 0.0, 0.0)


def _stored(costs: Costs, column: int, days: float) -> float:
    item, pair = costs.problem.items[0], costs.pairs[column]
    site = costs.problem.sites[pair.site]
    size, zero = np.array([float(item.size)]), np.zeros(1)
    volume = site.volume_gb.get(pair.name, 0.0)
    month = pricing.object_month(pair.entry, site.book.classes[0], size, zero, zero, days, volume)
    return float(month[0]) * days / MONTH_DAYS


def _left_behind(costs: Costs, column: int, days: float) -> float:
    """What removing a copy costs after so many days: an early deletion, or the version that stays in the bucket."""
    item, pair = costs.problem.items[0], costs.pairs[column]
    site = costs.problem.sites[pair.site]
    size, age = np.array([float(item.size)]), np.array([days])
    early = float(pricing.early_deletion_usd(pair.entry, size, age)[0])
    kept = min(site.old_versions_days, LONGEST_KEPT_DAYS)
    return max(early, float(pricing.old_version_usd(pair.entry, size, kept)[0]))


def _way_back(costs: Costs, former: int, column: int, days: float) -> float:
    size = np.array([float(costs.problem.items[0].size)])
    change = pricing.transition_usd(costs.pairs[column].entry, costs.pairs[former].entry, size)
    return float(change[0]) + _left_behind(costs, column, days)


def _decision(
    costs: Costs, standing: ReplicaSet, peak: Peak, start: datetime, now_reads: Split, option: _Option, chance: float
) -> Decision:
    item = costs.problem.items[0]
    then = replace(option.serve, storage=option.held, move=option.there + option.back)
    place, former = costs.pairs[option.column], costs.pairs[standing.primary]
    site, source = costs.problem.sites[place.site].name, costs.problem.sites[former.site].name
    saved = now_reads.serve - option.serve.serve - option.extra
    first = PlannedMove(
        option.kind, source, former.name, site, place.name, item.size, option.there, -saved * PEAKS_A_MONTH,
        Times(start, peak.begins, peak.ends),
    )  # fmt: skip
    after = Times(not_before=peak.ends)
    last = (
        PlannedMove(MoveKind.CLASS, site, place.name, site, former.name, item.size, option.back, 0.0, after)
        if option.kind is MoveKind.CLASS
        else PlannedMove(MoveKind.REMOVE, site, place.name, None, None, 0, option.back, 0.0, after)
    )
    best = ReplicaSet(tuple(sorted({*standing.columns, option.column})), option.column)
    reason = (
        f"{told(peak)}: {place.name} at {site} until it ends saves {usd(now_reads.serve - option.serve.serve)} of "
        f"{usd(now_reads.serve)} and costs {usd(option.extra)}; saves with probability {chance:.2f}"
    )
    return Decision(
        item, Verdict.PREWARM, standing, now_reads, best, then, peak.hours / 24, (), (), chance, reason, (first, last)
    )
