"""Replays a trace over several sites: where each object should be read from, and in which class, egress included.

One replica an object. All begin in the first class of the first site, to which owners write.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from app.lab.days import Days, gigabytes
from app.lab.ladders import ladder
from app.lab.pairs import COMPONENT_NAMES, EARLY, MOVE, Pairs, PricedSite, bill, cheapest, pairs_of, reader_regions
from app.lab.replay import LEAST_SAVING, NOTES
from app.lab.traces import Trace
from ml.tiering import learn
from ml.tiering_alarm import alarmed
from ml.tiering_loops import play
from ml.tiering_types import COMPONENTS, DELETED, WRITTEN, Bytes, Floats, Ints

NAMES = ("all_hot", "best_site", "foretide_direct", "foretide", "clairvoyant")
DECIDE_DAYS = 14
HALF_LIFE_DAYS = 60.0
PRIOR_DAYS = 20.0
MARGIN = 2.0
"""How many times its switch cost a move to another site must save over the horizon."""
SITE_NOTES = {
    **NOTES,
    "sla_misses": "0: every class of the replay answers at once (archives are left out), and policies know no latency",
    "best_site": "all objects in the first class of the one site that is cheapest in hindsight",
    "foretide_direct": "classes change, objects stay at the first site",
    "paid_back": "not counted over several sites",
}


@dataclass(frozen=True)
class SiteOutcome:
    """What a policy cost over the second half. where: [n, T] pairs; daily as in a replay of one site."""

    name: str
    usd: Floats
    daily: Floats
    moves: Ints
    where: Bytes
    spoke: str = ""


@dataclass
class SitesReplay:
    """A trace, sites, and what came of each policy."""

    days: Days
    sites: Sequence[PricedSite]
    pairs: Pairs
    horizon_days: float
    assumed: tuple[str, ...]
    outcomes: dict[str, SiteOutcome] = field(default_factory=dict)

    @property
    def split(self) -> int:
        """The first day that counts."""
        return self.days.days // 2

    def document(self, trace: str) -> dict[str, Any]:
        """The result as JSON, in the form of a replay of one site, with `sites`, and what egress cost."""
        first = self.sites[0].book
        return {
            "trace": trace,
            "epochs": self.days.days - self.split,
            "objects": len(self.days.size),
            "begin": self.days.date(0),
            "split": self.days.date(self.split),
            "end": self.days.date(self.days.days - 1),
            "horizon_days": self.horizon_days,
            "prices": {
                "book": first.name, "source": first.source, "as_of": str(first.as_of),
                "sample": any(site.book.sample for site in self.sites), "classes": list(self.pairs.names),
                "managed_class": None,
            },
            "sites": [{"name": one.name, "book": one.book.name, "as_of": str(one.book.as_of)} for one in self.sites],
            "notes": SITE_NOTES,
            "assumed": list(self.assumed),
            "policies": [self._row(outcome) for outcome in self.outcomes.values()],
        }  # fmt: skip

    def _row(self, outcome: SiteOutcome) -> dict[str, Any]:
        hot, best = self.outcomes["all_hot"].usd.sum(), self.outcomes["clairvoyant"].usd.sum()
        cost, spent, gap = float(outcome.usd.sum()), outcome.usd.sum(axis=0), float(hot - best)
        size = self.days.size
        held = np.bincount(self.pairs.site[outcome.where[:, -1]], size, len(self.sites)) / size.sum()
        return {
            "name": outcome.name,
            "cost": cost,
            "components": dict(zip(COMPONENT_NAMES, map(float, spent), strict=True)),
            "percent_of_all_hot": 100 * cost / float(hot) if hot else None,
            "gap_closed": 100 * (float(hot) - cost) / gap if gap > LEAST_SAVING * hot else None,
            "regret": cost - float(best),
            "moves": int(outcome.moves.sum()),
            "bytes_moved": int((outcome.moves * size).sum()),
            "paid_back": None,
            "fees": float(spent[MOVE] + spent[EARLY]),
            "sla_misses": 0,
            "bytes_at_end": {site.name: float(share) for site, share in zip(self.sites, held, strict=True)},
            "decided_by": outcome.spoke,
        }


def replay_sites(
    trace: Trace, days: Days, sites: Sequence[PricedSite], horizon_days: float,
    tell: Callable[[str, int, int], None] | None = None,
) -> SitesReplay:  # fmt: skip
    """Plays every policy over the sites. tell: is told the name, number and count of each that begins."""
    known = reader_regions(trace, sites)[1]
    told = f"{len(trace) - known:,} of {len(trace):,} rows name no site's region: their readers are on the internet"
    assumed = (*days.assumed, told) if known < len(trace) else days.assumed
    this = SitesReplay(days, sites, pairs_of(trace, days, sites), horizon_days, assumed)
    own: list[tuple[Bytes, str]] = []
    for number, name in enumerate(NAMES):
        if tell:
            tell(name, number, len(NAMES))
        if name == "foretide_direct":
            own = [_classes_at(this, site) for site in range(len(sites))]
        where, spoke = _path(this, name, own)
        usd, daily, moves = bill(this.pairs, where, this.split, days.days)
        this.outcomes[name] = SiteOutcome(name, usd, daily, moves, where, spoke)
    return this


def _path(this: SitesReplay, name: str, own: Sequence[tuple[Bytes, str]]) -> tuple[Bytes, str]:
    """[n, T] pairs under a policy, and what decided. own: what each site's voters say."""
    shape = this.days.grid.reads.shape
    if name == "all_hot":
        return np.zeros(shape, np.int8), ""
    if name == "best_site":
        every = [np.full(shape, first, np.int8) for first in this.pairs.first_of]
        costs = [bill(this.pairs, where, this.split, this.days.days)[0].sum() for where in every]
        return every[int(np.argmin(costs))], this.sites[int(np.argmin(costs))].name
    if name == "foretide_direct":
        return own[0]
    if name == "foretide":
        return _choose_sites(this, np.stack([where for where, _ in own])), own[0][1]
    return cheapest(this.pairs, this.split, this.days.days), ""


def _classes_at(this: SitesReplay, site: int) -> tuple[Bytes, str]:
    """[n, T] the pairs of one site in which its voters would keep the objects; egress is the same in all of them."""
    grid, gb, last = this.days.grid, gigabytes(this.days), this.days.days
    steps = ladder(this.sites[site].book, this.days.size)
    known = learn(grid, steps, gb, this.split, this.horizon_days).guarded(grid, steps, gb, this.split)
    spoke, known = known.name(last - 1), alarmed(known, grid, steps, gb, this.split)
    n, where = len(gb), np.zeros(grid.reads.shape, np.int8)
    spent = (np.zeros((n, COMPONENTS)), np.zeros(last), np.zeros(n, np.int64))
    play(grid, steps, known.signals, gb, known.rule, known.rule_at, known.by, this.split, last, *spent, where)
    thing, day = np.nonzero((grid.event == DELETED) & (np.arange(last) > this.split))
    where[thing, day] = where[thing, day - 1]  # that day the object was still there
    return where + np.int8(this.pairs.first_of[site]), spoke


def _choose_sites(this: SitesReplay, own: Bytes) -> Bytes:
    """[n, T] pairs: the site that serves an object cheapest, in the class that the site's voters say.

    own: [sites, n, T]. A site's cost is storage, requests and retrieval there and egress to the readers, at the
    object's Gamma–Poisson rates; another is taken when it saves MARGIN times the move over the horizon, or over the
    time between two overwritings where that is shorter.
    """
    pairs, grid, gb = this.pairs, this.days.grid, gigabytes(this.days)
    n, days = grid.reads.shape
    every, where, at = np.arange(n), np.zeros((n, days), np.int8), np.zeros(n, np.int64)
    faded, since, writes = _Faded(pairs, gb), np.full(n, this.split), np.zeros(n)
    for t in range(days):
        if t >= this.split:
            at[grid.event[:, t] == WRITTEN] = 0
            since[(grid.event[:, t] == WRITTEN) | (grid.birth == t)] = t
            if (t - this.split) % DECIDE_DAYS == 0:
                lived = np.minimum(this.horizon_days, np.maximum(t - grid.birth, 1) / np.maximum(writes, 1e-9))
                at = np.where(grid.birth < t, _best_site(pairs, faded, own[:, :, t], at, t - since, lived), at)
            where[:, t] = own[at, every, t]
            since[where[:, t] != (where[:, t - 1] if t > this.split else 0)] = t
        writes += (grid.event[:, t] == WRITTEN) & (grid.birth < t)
        faded.add(t)
    return where


def _best_site(pairs: Pairs, faded: _Faded, own: Bytes, at: Ints, stayed: Ints, lived: Floats) -> Ints:
    every = np.arange(len(at))
    reads, share, egress = faded.rates()
    cost = np.stack([
        pairs.day[own[s], every] + reads * pairs.get[own[s]] + share * pairs.full[own[s], every] + egress[s]
        for s in range(len(own))
    ])  # fmt: skip
    now = own[at, every]
    owed = np.maximum(0, pairs.min_days[now] - stayed) * pairs.day[now, every]
    switch = np.stack([pairs.change[now, own[s], every] for s in range(len(own))]) + owed
    gain = (cost[at, every] - cost) * lived - MARGIN * switch
    gain[at, every] = 0.0
    return np.asarray(gain.argmax(axis=0), np.int64)


class _Faded:
    """Reads a day of each object, drawn to the fleet's mean a GB: a Gamma–Poisson rate with a memory."""

    def __init__(self, pairs: Pairs, gb: Floats) -> None:
        self._pairs, self._gb, n = pairs, gb, len(gb)
        self._sums = np.zeros((2 + len(pairs.egress), n))
        self._watched = np.zeros(n)

    def add(self, t: int) -> None:
        """A day more."""
        grid, fade = self._pairs.days.grid, 0.5 ** (1 / HALF_LIFE_DAYS)
        self._sums = self._sums * fade + np.concatenate(
            [grid.reads[None, :, t], grid.share[None, :, t], self._pairs.egress[:, :, t]]
        )
        self._watched = self._watched * fade + (grid.birth <= t)

    def rates(self) -> tuple[Floats, Floats, Floats]:
        """A day's requests, whole objects read, and [sites] $ of egress."""
        watched = max(float(self._watched.sum()), 1.0)
        means = self._sums.sum(axis=1, keepdims=True) / watched
        weight = np.stack([np.ones_like(self._gb)] * 2 + [self._gb / self._gb.mean()] * (len(self._sums) - 2))
        rate = (self._sums + PRIOR_DAYS * means * weight) / (self._watched + PRIOR_DAYS)
        return rate[0], rate[1], rate[2:]
