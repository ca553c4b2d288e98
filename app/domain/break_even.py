"""The break-even card: between which classes the cheaper one changes at how many reads, and what a move must earn.

For one object or a sample of those under a prefix; app/api/break_even.py loads them. All of it is computed from the
price book with the functions that plans are priced by, so that card and plan agree.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from app.domain import pricing
from app.domain.placement import structures, today
from app.domain.placement_costs import price
from app.domain.placement_problem import Item, Pair, Problem, SiteOption
from app.domain.prices import MONTH_DAYS, StorageClass
from app.domain.pricing import Floats

READS = np.concatenate([[0.0], np.geomspace(1e-4, 1e7, 99)])
"""Reads a month and object among which a flip is looked for."""
SIZES = np.geomspace(1.0, 50e12, 160)
"""Bytes among which the smallest size worth moving is looked for."""
READ_ONCE = (
    "of an object's copies one is priced with its reads, the one that a plan has them read from today; the others cost "
    "their storage alone, and a plan may have another one read when a class changes"
)
Copy = tuple[Item, bool]
"""An object that lies at a site, and whether it is read there."""
FINER = 4
"""How many grids are laid, each between two points of the one before."""


@dataclass(frozen=True)
class Objects:
    """Some objects at one site: bytes, reads a day, the share of an object that one read takes, days in the class.

    answered: the share of the reads that the copy at the site answers, 1 or 0 for one object.
    """

    size: Floats
    rate: Floats
    share: Floats
    age: Floats
    idle: Floats
    answered: Floats

    @property
    def reads_a_month(self) -> float:
        """Of one object, in the mean."""
        return float(self.rate.mean()) * MONTH_DAYS

    def read(self, reads_a_month: Floats) -> Objects:
        """The same objects read so often in the mean, a row each, in the shares in which they are; evenly if never."""
        mean, wanted = self.reads_a_month, reads_a_month[:, None]
        rate = self.rate * (wanted / mean) if mean > 0 else np.ones_like(self.rate) * wanted / MONTH_DAYS
        return replace(self, rate=rate)

    def mean(self) -> Objects:
        """One object of the mean size that is read as the mean of them is."""
        read = float((self.rate * self.share * self.size).sum())
        whole = float(self.rate.sum() * self.size.mean())
        share = read / whole if whole > 0 else float(self.share.mean())
        answered = float(np.average(self.answered, weights=self.rate if self.rate.any() else None))
        one = (float(self.size.mean()), self.reads_a_month / MONTH_DAYS, share, float(self.age.mean()))
        return Objects(*(np.array([value]) for value in (*one, float(self.idle.mean()), answered)))


@dataclass(frozen=True)
class Way:
    """From one class to another at a site. `held`: the objects lie in the first one today."""

    site: SiteOption
    source: StorageClass
    target: StorageClass
    held: bool
    days: float
    payback: float

    def month(self, entry: StorageClass, some: Objects) -> Floats:
        """$ a month for each object in a class: storage, and requests and retrieval of the reads that are answered."""
        hot, volume = self.site.book.classes[0], self.site.volume_gb.get(entry.name, 0.0)
        idle = some.idle if self.held and entry is self.source else np.zeros_like(some.idle)
        stored = pricing.object_month(entry, hot, some.size, some.rate, idle, self.days, volume)
        reads = some.rate * some.answered * MONTH_DAYS
        requests, retrieval = pricing.read_usd(entry, reads, reads * some.share * some.size)
        return stored + requests + retrieval

    def one_off(self, some: Objects) -> Floats:
        """$ for the change of each object, what is owed for leaving the class today included."""
        return pricing.transition_usd(self.source, self.target, some.size) + self.owed(some)

    def owed(self, some: Objects) -> Floats:
        """$ of early deletion of each object today; nothing where it does not lie in the class."""
        if not self.held:
            return np.zeros_like(some.size)
        volume = self.site.volume_gb.get(self.source.name, 0.0)
        fee = pricing.early_deletion_usd(self.source, some.size, some.age, volume)
        left = min(self.site.old_versions_days, self.days)
        return np.maximum(fee, pricing.old_version_usd(self.source, some.size, left, volume))

    def saves(self, some: Objects) -> Floats:
        """$ a month that each object's change saves; negative when it costs."""
        return self.month(self.source, some) - self.month(self.target, some)

    def flip(self, some: Objects) -> float | None:
        """Reads a month and object, in the mean, at which both classes cost the same; None if never."""
        return _crossing(lambda reads: self.saves(some.read(reads)).sum(axis=1), READS)

    def smallest(self, some: Objects) -> float | None:
        """Bytes from which such an object's move earns `payback` times its cost within the days; None if never."""
        like = some.mean()

        def gain(sizes: Floats) -> Floats:
            some = replace(like, size=sizes)
            end = pricing.early_deletion_usd(self.target, sizes, np.array([self.days]))
            return self.saves(some) * self.days / MONTH_DAYS - end - self.payback * self.one_off(some)

        return 0.0 if gain(SIZES[:1])[0] >= 0 else _crossing(gain, SIZES)


def _crossing(value: Callable[[Floats], Floats], grid: Floats) -> float | None:
    """The first point at which a function changes its sign between two of the grid's; None if there is none."""
    for _ in range(FINER):
        values = value(grid)
        found = np.flatnonzero((values[1:] >= 0) != (values[:-1] >= 0))
        if not len(found):
            return None
        low, high = found[0], found[0] + 1
        share = values[low] / (values[low] - values[high])
        at = grid[low] + share * (grid[high] - grid[low])
        grid = np.linspace(grid[low], grid[high], len(grid))
    return float(at)


def card(problem: Problem) -> dict[str, Any]:
    """The card of the problem's objects as JSON: what is held and owed today, and every way between two classes.

    Dollars are of all the objects together; reads and bytes of one of them, in the mean.
    """
    costs = price(problem)
    read_at = [costs.pairs[today(costs, row, shape).primary].site for row, shape in enumerate(structures(costs))]
    days = costs.horizon_days
    payback = max(item.rules.payback for item in problem.items)
    copies, ways = [], []
    for number, site in enumerate(problem.sites):
        pairs = [pair for pair in costs.pairs if pair.site == number]
        here = _held(problem, number, read_at)
        for name, held in here.items():
            copies.append(_copy(site, name, held, days))
        every = [copy for held in here.values() for copy in held]
        for source in pairs if every else ():
            some = _objects(site, here.get(source.name, every))
            for target in pairs:
                if target is not source:
                    way = Way(site, source.entry, target.entry, source.name in here, days, payback)
                    ways.append(_way(way, some, _closed(costs.pairs, costs.why_not, target)))
    total = sum(item.size for item in problem.items)
    return {
        "objects": len(problem.items),
        "bytes": total,
        "reads_a_month": sum(item.demand.reads for item in problem.items) * MONTH_DAYS / max(len(problem.items), 1),
        "horizon_days": days,
        "payback": payback,
        "copies": copies,
        "ways": ways,
        "says": _says(ways) + ([READ_ONCE] if any(len(item.held) > 1 for item in problem.items) else []),
        "prices": {site.name: {"book": site.book.name, "as_of": str(site.book.as_of)} for site in problem.sites},
    }


def _held(problem: Problem, number: int, read_at: Sequence[int]) -> dict[str, list[Copy]]:
    """The copies at a site by the class in which they lie there. read_at: where each object is read."""
    site, found = problem.sites[number], dict[str, list[Copy]]()
    for item, reading in zip(problem.items, read_at, strict=True):
        for copy in item.held:
            if copy.site == site.name:
                name = site.book.storage_class(copy.storage_class).name
                found.setdefault(name, []).append((item, reading == number))
    return found


def _objects(site: SiteOption, copies: Sequence[Copy]) -> Objects:
    items = [item for item, _ in copies]
    size = np.array([item.size for item in items], float)
    rate = np.array([item.demand.reads for item in items])
    read = np.array([item.demand.bytes for item in items])
    whole = rate * size
    share = np.where(whole > 0, read / np.where(whole > 0, whole, 1.0), 1.0)
    age = [next(copy.days_in_class for copy in item.held if copy.site == site.name) for item in items]
    idle, answered = (
        np.array([item.demand.idle_days for item in items]),
        np.array([float(is_read) for _, is_read in copies]),
    )
    return Objects(size, rate, share, np.array(age), idle, answered)


def _copy(site: SiteOption, name: str, copies: Sequence[Copy], days: float) -> dict[str, Any]:
    entry, some = site.book.storage_class(name), _objects(site, copies)
    way = Way(site, entry, entry, True, days, 0.0)
    return {
        "site": site.name,
        "storage_class": name,
        "objects": len(copies),
        "objects_read": sum(is_read for _, is_read in copies),
        "bytes": sum(item.size for item, _ in copies),
        "usd_a_month": float(way.month(entry, some).sum()),
        "minimum_days": entry.min_days,
        "days_left": float(np.maximum(0.0, entry.min_days - some.age).max()),
        "early_deletion_usd": float(pricing.early_deletion_usd(entry, some.size, some.age).sum()),
    }


def _way(way: Way, some: Objects, closed: dict[str, int]) -> dict[str, Any]:
    saves, one_off = float(way.saves(some).sum()), float(way.one_off(some).sum())
    flip, smallest = way.flip(some), way.smallest(some)
    return {
        "site": way.site.name,
        "from": way.source.name,
        "to": way.target.name,
        "held": way.held,
        "saves_a_month": saves,
        "one_off": one_off,
        "early_deletion_usd": float(way.owed(some).sum()),
        "payback_days": one_off / saves * MONTH_DAYS if saves > 0 else None,
        "flips_at_reads_a_month": flip,
        "smallest_bytes": smallest,
        "closed": closed,
    }


def _closed(
    pairs: Sequence[Pair], why_not: Sequence[Sequence[str]], target: Pair
) -> dict[str, int]:  # fmt: skip
    """What rules the target out, and for how many of the objects."""
    column = pairs.index(target)
    reasons: dict[str, int] = {}
    for row in why_not:
        if row[column]:
            reasons[row[column]] = reasons.get(row[column], 0) + 1
    return reasons


def _says(ways: Sequence[dict[str, Any]]) -> list[str]:
    """The open ways out of the classes that are held, a sentence each."""
    said = []
    for way in ways:
        if way["held"] and not way["closed"] and way["flips_at_reads_a_month"] is not None:
            cheaper = "saves money now" if way["saves_a_month"] > 0 else "costs more now"
            flip = f"flips at {way['flips_at_reads_a_month']:.3g} reads a month"
            said.append(f"{way['from']} → {way['to']} at {way['site']} {cheaper}; {flip}")
    return said
