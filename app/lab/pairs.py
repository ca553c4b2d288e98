"""Objects over several sites: what each (site, class) pair costs, what a path over pairs comes to, the cheapest path.

Unlike the loops of one site, egress counts: to the readers of each day's rows, and from site to site. Plain numpy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from app.domain import pricing
from app.domain.prices import GB, Place, PriceBook, egress_per_gb
from app.errors import Invalid
from app.lab.days import MOST_CELLS, Days
from app.lab.ladders import classes, ladder
from app.lab.traces import OPS, Trace
from ml.history import DAY
from ml.tiering_types import DELETED, WRITTEN, Bytes, Floats, Ints

COMPONENT_NAMES = ("storage", "requests", "retrieval", "egress", "move", "early_deletion")
STORAGE, REQUESTS, RETRIEVAL, EGRESS, MOVE, EARLY = range(6)
CHUNK_CELLS = 60_000_000
"""Choices that the optimum keeps at a time: objects × days × pairs × days left, a byte each."""


@dataclass(frozen=True)
class PricedSite:
    """A place and what it charges."""

    book: PriceBook
    region: str
    latency_ms: float | None = None
    """In which it answers; None where nobody said."""

    @property
    def name(self) -> str:
        """Provider and region."""
        return f"{self.book.provider}:{self.region}"

    @property
    def place(self) -> Place:
        """As the egress matrix asks for it."""
        return Place(self.book.provider, self.region)


@dataclass(frozen=True)
class Pairs:
    """What n objects cost in each of k pairs; pair 0 is the first site's first class, to which owners write."""

    days: Days
    names: tuple[str, ...]
    """[k] site/class."""
    site: Ints
    """[k] index of its site."""
    day: Floats
    """[k, n] $ a day to keep."""
    get: Floats
    full: Floats
    """[k, n] $ to retrieve all of an object once."""
    egress: Floats
    """[sites, n, T] $ for what is read that day."""
    change: Floats
    """[k, k, n] $ to move, all requests, retrieval and egress included."""
    min_days: Ints
    put: float
    first_of: tuple[int, ...]
    """[sites] the pair of each site's first class."""


def reader_regions(trace: Trace, sites: Sequence[PricedSite]) -> tuple[Floats, int]:
    """[sites, regions] $/GB to readers of each of the trace's regions, and how many rows name a site's region.

    Readers in the region of a site are taken to be inside its provider, all others on the internet.
    """
    near = {site.region: site.place for site in sites}
    targets = [near.get(region) for region in trace.regions]
    usd = np.array([[egress_per_gb(site.book, site.place, target) for target in targets] for site in sites])
    known = np.array([target is not None for target in targets])
    return usd, int(known[trace.region].sum())


def pairs_of(trace: Trace, days: Days, sites: Sequence[PricedSite]) -> Pairs:
    """The pairs of these sites.

    Raises Invalid for two sites of one name, a book with fewer than two classes, or more than fits into memory.
    """
    if len({site.name for site in sites}) < len(sites):
        raise Invalid("two sites have the same provider and region")
    if days.grid.reads.size * len(sites) > MOST_CELLS:
        raise Invalid(f"{len(sites)} sites of so many objects and days are more than the {MOST_CELLS:,} cells held")
    entries = [(number, entry) for number, site in enumerate(sites) for entry in classes(site.book)]
    ladders = [ladder(site.book, days.size) for site in sites]
    counts = [len(steps.get) for steps in ladders]
    site = np.repeat(np.arange(len(sites)), counts)
    size, n = days.size.astype(float), len(days.size)
    change = np.zeros((len(entries), len(entries), n))
    for a, (one, source) in enumerate(entries):
        for b, (two, target) in enumerate(entries):
            if one == two:
                change[a, b] = pricing.transition_usd(source, target, size)
            else:
                egress = egress_per_gb(sites[one].book, sites[one].place, sites[two].place)
                change[a, b] = pricing.copy_usd(source, target, size, egress)
    return Pairs(
        days=days,
        names=tuple(f"{sites[number].name}/{entry.name}" for number, entry in entries),
        site=site,
        day=np.concatenate([steps.day for steps in ladders]),
        get=np.concatenate([steps.get for steps in ladders]),
        full=np.concatenate([steps.full for steps in ladders]),
        egress=_egress(trace, days, reader_regions(trace, sites)[0]),
        change=change,
        min_days=np.concatenate([steps.min_days for steps in ladders]),
        put=ladders[0].put,
        first_of=tuple(int(place) for place in np.concatenate([[0], np.cumsum(counts)[:-1]])),
    )


def _egress(trace: Trace, days: Days, usd: Floats) -> Floats:
    read = trace.op == OPS.index("GET")
    thing, day = trace.object[read], (trace.ts[read] - int(days.begin.timestamp() * 1e6)) // DAY
    out = np.zeros((len(usd), *days.grid.reads.shape))
    for site, rates in enumerate(usd):
        np.add.at(out[site], (thing, day), trace.bytes_read[read] / GB * rates[trace.region[read]])
    return out


def bill(pairs: Pairs, where: Bytes, first: int, last: int) -> tuple[Floats, Floats, Ints]:
    """What paths over pairs cost: [n, components] $, [days] $ spent and owed by each day's end, [n] moves.

    where: [n, T]. Every object is in pair 0 at the beginning of day `first`, or of the day on which it is born.
    """
    grid, n = pairs.days.grid, len(pairs.days.size)
    every, usd, moves = np.arange(n), np.zeros((n, len(COMPONENT_NAMES))), np.zeros(n, np.int64)
    c, left, alive = np.zeros(n, np.int64), np.zeros(n, np.int64), np.ones(n, bool)
    daily = np.zeros(last - first)
    for t in range(first, last):
        here = grid.birth <= t
        anew = (grid.event[:, t] == WRITTEN) & (grid.birth < t)
        wanted = np.where(here & alive & ~anew & (grid.birth < t), where[:, t], c)
        wanted[anew] = 0
        going = wanted != c
        usd[:, EARLY] += np.where(going | anew, left * pairs.day[c, every], 0.0)
        usd[:, REQUESTS] += anew * pairs.put
        moving = going & ~anew
        usd[:, MOVE] += np.where(moving, pairs.change[c, wanted, every], 0.0)
        moves += moving
        left = np.where(going | anew, pairs.min_days[wanted], left)
        c, alive = wanted, alive | anew
        kept = here & alive
        usd[:, STORAGE] += kept * pairs.day[c, every]
        usd[:, REQUESTS] += kept * grid.reads[:, t] * pairs.get[c]
        usd[:, RETRIEVAL] += kept * grid.share[:, t] * pairs.full[c, every]
        usd[:, EGRESS] += kept * pairs.egress[pairs.site[c], every, t]
        left = np.where(kept, np.maximum(0, left - 1), left)
        ended = kept & (grid.event[:, t] == DELETED)
        usd[:, EARLY] += ended * left * pairs.day[c, every]
        c, left, alive = np.where(ended, 0, c), np.where(ended, 0, left), alive & ~ended
        daily[t - first] = usd.sum() + float((left * pairs.day[c, every]).sum())
    usd[:, EARLY] += left * pairs.day[c, every]
    return usd, daily, moves


def cheapest(pairs: Pairs, first: int, last: int) -> Bytes:
    """[n, T] the path over pairs that costs each object least: backward dynamic programme over (pair, days left)."""
    n, days = pairs.days.grid.reads.shape
    where = np.zeros((n, days), np.int8)
    states = len(pairs.names) * (int(pairs.min_days.max()) + 1)
    step = max(1, CHUNK_CELLS // max(1, states * (last - first)))
    for begin in range(0, n, step):
        part = np.arange(begin, min(n, begin + step))
        where[part] = _follow(pairs, part, _choices(pairs, part, first, last), first)
    return where


def _choices(pairs: Pairs, part: Ints, first: int, last: int) -> Bytes:
    """[day, pair, days left, object] the pair to be in from the day's beginning on."""
    grid, k, most = pairs.days.grid, len(pairs.names), int(pairs.min_days.max()) + 1
    day, change = pairs.day[:, part], pairs.change[:, :, part]
    birth, left = grid.birth[part], np.arange(most)[None, :, None]
    owed = left * day[:, None]
    later, gone = owed.copy(), np.zeros(len(part))
    choice = np.zeros((last - first, k, most, len(part)), np.int8)
    following = np.maximum(np.arange(most) - 1, 0)
    entering = np.maximum(pairs.min_days - 1, 0)
    barred = np.where(np.eye(k, dtype=bool), np.inf, 0.0)[:, :, None]
    for t in range(last - 1, first - 1, -1):
        spent = day + grid.reads[part, t] * pairs.get[:, None] + grid.share[part, t] * pairs.full[:, part]
        spent = spent + pairs.egress[pairs.site][:, part, t]
        ended = grid.event[part, t] == DELETED
        after = np.where(ended, owed + gone, later)
        anew = pairs.put + spent[0] + after[0, 0]
        enter = spent + after[np.arange(k), entering]
        by_target = change + enter[None] + barred
        target = by_target.argmin(axis=1)
        stay = spent[:, None] + after[:, following]
        go = owed + np.take_along_axis(by_target, target[:, None], axis=1)
        written = (grid.event[part, t] == WRITTEN) & (birth < t)
        moves = (go < stay) & (birth < t)
        value = np.where(moves, go, stay)
        choice[t - first] = np.where(moves, target[:, None], np.arange(k)[:, None, None])
        later = np.where(written, owed + anew, value)
        gone = np.where(written, anew, gone)
    return choice


def _follow(pairs: Pairs, part: Ints, choice: Bytes, first: int) -> Bytes:
    grid, every = pairs.days.grid, np.arange(len(part))
    where = np.zeros((len(part), grid.reads.shape[1]), np.int8)
    c, left = np.zeros(len(part), np.int64), np.zeros(len(part), np.int64)
    for number, choices in enumerate(choice):
        t = first + number
        anew = (grid.event[part, t] == WRITTEN) & (grid.birth[part] < t)
        wanted = np.where(anew, 0, choices[c, left, every]).astype(np.int64)
        left = np.where((wanted != c) | anew, pairs.min_days[wanted], left)
        where[:, t] = c = wanted
        left = np.where(grid.birth[part] <= t, np.maximum(0, left - 1), left)
        ended = grid.event[part, t] == DELETED
        c, left = np.where(ended, 0, c), np.where(ended, 0, left)
    return where
