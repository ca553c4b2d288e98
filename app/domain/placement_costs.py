"""What every (site, class) pair would cost every object: arrays [object, pair] by cost component.

placement.py and placement_milp.py minimise the same arrays. Costs are float64 US dollars over the horizon.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from app.domain import pricing
from app.domain.placement_problem import READABLE, Item, Pair, Problem, SiteOption
from app.domain.policies import Readers
from app.domain.prices import GB, MONTH_DAYS, StorageClass, egress_per_gb
from app.domain.pricing import Floats
from app.domain.states import SiteState

Picks = NDArray[np.bool_]

LONGEST_MINIMUM_DAYS = 90.0
SLA_USD_PER_MS_1K_READS = 0.001
"""What a thousand reads that are a millisecond over the SLA are taken to cost: the source's 0.001 in its objective."""


@dataclass(frozen=True)
class Costs:
    """What each pair would cost each object over `horizon_days`; arrays are [object, pair] unless said otherwise.

    A copy at a pair costs storage + move + end; the copy that is read costs requests + retrieval + egress + penalty
    more. `leave` [object, site] is due when the copy that stands at a site is removed or changes its class; `keeps`
    says where a copy stands already, `why_not` why a pair is closed to an object ("" when it is open).
    """

    problem: Problem
    pairs: tuple[Pair, ...]
    horizon_days: float
    storage: Floats
    move: Floats
    end: Floats
    requests: Floats
    retrieval: Floats
    egress: Floats
    penalty: Floats
    leave: Floats
    keeps: Picks
    why_not: tuple[tuple[str, ...], ...]
    may_read: Picks | None = None
    """At which pairs the copy that is read may lie, beside what is closed; None: wherever the rules allow."""

    @cached_property
    def serve(self) -> Floats:
        """What reading from a pair costs."""
        return self.requests + self.retrieval + self.egress + self.penalty

    @property
    def reading(self) -> Floats:
        """What reading from a pair costs; inf where the copy that is read may not lie."""
        return self.serve if self.may_read is None else np.where(self.may_read, self.serve, np.inf)

    @cached_property
    def hold(self) -> Floats:
        """What a copy at a pair costs, net of the leaving fee that it spares; inf where the pair is closed."""
        sites = np.array([pair.site for pair in self.pairs])
        spared = np.where(self.keeps, self.leave[:, sites], 0.0)
        closed = np.array([[bool(reason) for reason in row] for row in self.why_not])
        return np.where(closed, np.inf, self.storage + self.move + self.end - spared)

    @property
    def base(self) -> Floats:
        """[object] what it costs to leave every copy that stands."""
        total: Floats = self.leave.sum(axis=1)
        return total


def price(problem: Problem) -> Costs:
    """Prices every pair for every object. Raises Invalid when a class is not in its site's book."""
    pairs = problem.pairs()
    longest = max((pair.entry.min_days for pair in pairs), default=0)
    days = max(problem.horizon_days, min(float(longest), LONGEST_MINIMUM_DAYS))
    size = np.array([item.size for item in problem.items], float)
    standing = _standing(problem, pairs, days)
    shape = (len(problem.items), len(pairs))
    storage, move, end = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    rate = np.array([item.demand.reads for item in problem.items])
    idle = np.array([item.demand.idle_days for item in problem.items])
    keeps = standing.pair_age >= 0
    for column, pair in enumerate(pairs):
        kept, age = keeps[:, column], standing.pair_age[:, column]
        hot, volume = _hot(problem, pair), _volume(problem, pair)
        month = pricing.object_month(pair.entry, hot, size, rate, np.where(kept, idle, 0.0), days, volume)
        storage[:, column] = month * days / MONTH_DAYS
        end[:, column] = pricing.early_deletion_usd(pair.entry, size, np.where(kept, age, 0.0) + days, volume)
        move[:, column] = np.where(kept, 0.0, _move_in(problem, pairs, column, size, standing))
    return Costs(
        problem, pairs, days, storage, move, end, *serving(problem, pairs, days), standing.leave, keeps,
        _closed(problem, pairs),
    )  # fmt: skip


@dataclass(frozen=True)
class _Standing:
    """pair_age [object, pair]: days a copy stands there, -1 where none does; leave [object, site]: fee of leaving."""

    pair_age: Floats
    leave: Floats


def _hot(problem: Problem, pair: Pair) -> StorageClass:
    return problem.sites[pair.site].book.classes[0]


def _volume(problem: Problem, pair: Pair) -> float:
    return problem.sites[pair.site].volume_gb.get(pair.name, 0.0)


def _standing(problem: Problem, pairs: Sequence[Pair], days: float) -> _Standing:
    column = {(problem.sites[pair.site].name, pair.name): index for index, pair in enumerate(pairs)}
    age = np.full((len(problem.items), len(pairs)), -1.0)
    leave = np.zeros((len(problem.items), len(problem.sites)))
    books = {site.name: site.book for site in problem.sites}
    for row, item in enumerate(problem.items):
        for held in item.held:
            name = books[held.site].storage_class(held.storage_class).name
            age[row, column[held.site, name]] = max(0.0, held.days_in_class)
    size = np.array([item.size for item in problem.items], float)
    for index, pair in enumerate(pairs):
        volume, left_days = _volume(problem, pair), min(problem.sites[pair.site].old_versions_days, days)
        fee = pricing.early_deletion_usd(pair.entry, size, age[:, index], volume)
        fee = np.maximum(fee, pricing.old_version_usd(pair.entry, size, left_days, volume))
        leave[:, pair.site] += np.where(age[:, index] >= 0, fee, 0.0)
    return _Standing(age, leave)


def _move_in(problem: Problem, pairs: Sequence[Pair], column: int, size: Floats, standing: _Standing) -> Floats:
    """$ to bring a copy to a pair: a change of class where the site holds one, else a copy from the cheapest source."""
    target = pairs[column]
    place = problem.sites[target.site].place
    in_place, copy = np.full(len(size), np.inf), np.full(len(size), np.inf)
    for index, source in enumerate(pairs):
        held = standing.pair_age[:, index] >= 0
        if index == column or not held.any() or problem.sites[source.site].state not in READABLE:
            continue
        if source.site == target.site:
            in_place = np.where(held, pricing.transition_usd(source.entry, target.entry, size), in_place)
        else:
            origin = problem.sites[source.site]
            rate = egress_per_gb(origin.book, origin.place, place)
            cost = pricing.copy_usd(source.entry, target.entry, size, rate)
            copy = np.where(held, np.minimum(copy, cost), copy)
    return np.where(np.isfinite(in_place), in_place, copy)


def serving(problem: Problem, pairs: Sequence[Pair], days: float) -> tuple[Floats, Floats, Floats, Floats]:
    """Requests, retrieval, egress and SLA penalty of serving all reads of so many days from each pair, in dollars."""
    items = problem.items
    reads = np.array([item.demand.reads for item in items])[:, None] * days
    read_bytes = np.array([item.demand.bytes for item in items])[:, None] * days
    gets = np.array([float(pair.entry.get_per_1k) / 1000 for pair in pairs])
    back = np.array([float(pair.entry.retrieval_per_gb) / GB for pair in pairs])
    sites = np.array([pair.site for pair in pairs], int)
    regions = sorted({entry.region for item in items for entry in item.demand.regions})
    by_region = np.zeros((len(items), len(regions)))
    for row, item in enumerate(items):
        for entry in item.demand.regions:
            by_region[row, regions.index(entry.region)] += entry.bytes * days / GB
    rates = np.array([[_reader_rate(problem, site, region) for site in problem.sites] for region in regions])
    egress = by_region @ rates.reshape(len(regions), len(problem.sites))
    sla = np.array([np.inf if item.rules.sla_ms is None else item.rules.sla_ms for item in items])
    hot = np.array([1.0 if item.demand.p_hot is None else item.demand.p_hot for item in items])
    over = np.maximum(0.0, np.array([site.latency_ms for site in problem.sites])[None, :] - sla[:, None])
    penalty = over * (hot * reads[:, 0] * SLA_USD_PER_MS_1K_READS / 1000)[:, None]
    return reads * gets, read_bytes * back, egress[:, sites], penalty[:, sites]


def _reader_rate(problem: Problem, site: SiteOption, region: str) -> float:
    """$/GB to readers of a region: those in the region of a site are taken to be inside its provider."""
    if region == site.region:
        return egress_per_gb(site.book, site.place, site.place)
    near = next((other.place for other in problem.sites if other.region == region), None)
    return egress_per_gb(site.book, site.place, near)


def _closed(problem: Problem, pairs: Sequence[Pair]) -> tuple[tuple[str, ...], ...]:
    """`_why_not` of every object and pair, worked out once for objects that share rules and copies."""
    known: dict[tuple[int, tuple[tuple[str, str], ...]], tuple[str, ...]] = {}
    rows = []
    for item in problem.items:
        key = (id(item.rules), tuple((held.site, held.storage_class) for held in item.held))
        if key not in known:
            known[key] = tuple(_why_not(problem, item, pair) for pair in pairs)
        rows.append(known[key])
    return tuple(rows)


def _why_not(problem: Problem, item: Item, pair: Pair) -> str:
    """The rule that closes a pair to an object, or ""."""
    site, rules = problem.sites[pair.site], item.rules
    held = next((entry for entry in item.held if entry.site == site.name), None)
    same = held is not None and site.book.storage_class(held.storage_class).name == pair.name
    if rules.sites is not None and site.name not in rules.sites:
        return "residency"
    if site.state is SiteState.DRAINING and (held is None or rules.readers is Readers.ROUTED):
        return "site is draining"
    if same:
        return ""
    if rules.pinned and held is not None:
        return "legal hold" if rules.legal_hold else "pinned"
    if site.state is not SiteState.READY:
        return f"site is {site.state}"
    if not item.held:
        return "no copy to read from"
    if rules.encrypted_only and not site.encrypted:
        return "encryption"
    if pair.entry.restore and not rules.allow_restore:
        return "restore is not allowed"
    if pair.entry.archive and rules.never_archive:
        return "never archive"
    if pair.name not in {site.book.storage_class(name).name for name in site.classes}:
        return "class is not offered"
    return ""
