"""The closed form over arrays: of every object of a batch the cheapest set, the class of each copy and the copy read.

Arrays are pair-major [pair, object]: each step is one pass over contiguous memory, in blocks that stay in the cache.
Rows that objects share enter as prices on what they count, so the same form is the oracle of the fleet's dual.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from app.domain.pricing import Floats

BLOCK = 8192
CLOSED = 1e30
"""Stands for infinity in sums, so that nothing becomes not-a-number; no bill comes near it."""

Picks = npt.NDArray[np.bool_]
Mask = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Term:
    """What a coupling row counts for each copy, or with `read` for the copy that is read: at × weight.

    at: [pair], or [pair, object]; weight: [object]. Terms that share an array are counted together.
    """

    row: int
    at: Floats
    weight: Floats
    read: bool = False


@dataclass(frozen=True)
class Choice:
    """What every object of a batch takes: [pair, object] whether a copy is held there, and whether it is the one read.

    An object without a feasible set holds nothing.
    """

    held: Picks
    read: Picks

    def differs(self, other: Choice) -> Mask:
        """[object] whether the other choice is another one."""
        changed = (self.held ^ other.held) | (self.read ^ other.read)
        return np.asarray(np.logical_or.reduce(changed, axis=0), bool)

    @property
    def placed(self) -> Mask:
        """[object] whether there is a feasible set."""
        some: Mask = np.asarray(self.read.any(axis=0))
        return some

    def take(self, objects: Rows) -> Choice:
        """Of some objects."""
        return Choice(self.held[:, objects], self.read[:, objects])

    def put(self, objects: Rows, other: Choice) -> Choice:
        """With another choice for some objects."""
        held, read = self.held.copy(), self.read.copy()
        held[:, objects], read[:, objects] = other.held, other.read
        return Choice(held, read)


@dataclass(frozen=True)
class Today:
    """Copies as they stand, where there are more of them than any set holds; `open` [object]: they may stay."""

    choice: Choice
    open: Mask


@dataclass(frozen=True)
class Batch:
    """Objects of one structure: its feasible sets of sites, of each set the sites that may be read, the pairs by site.

    hold, serve [pair, object]: what a copy and what reading it costs, CLOSED where a pair is closed.
    """

    sets: tuple[tuple[int, ...], ...]
    reading: tuple[tuple[int, ...], ...]
    columns: tuple[tuple[int, ...], ...]
    hold: Floats
    serve: Floats
    terms: tuple[Term, ...] = ()
    today: Today | None = None

    @property
    def size(self) -> int:
        """Objects."""
        return int(self.hold.shape[1])

    @cached_property
    def flat(self) -> list[tuple[bool, Floats, list[int], Floats]]:
        """Terms by weight: whether of the copy read, the weight, rows, their patterns [row, pair]."""
        groups: dict[tuple[bool, int], list[Term]] = {}
        for term in self.terms:
            if term.at.ndim == 1:
                groups.setdefault((term.read, id(term.weight)), []).append(term)
        return [
            (read, some[0].weight, [term.row for term in some], np.array([term.at for term in some]))
            for (read, _), some in groups.items()
        ]

    @cached_property
    def dense(self) -> list[tuple[bool, Floats, list[Term]]]:
        """Terms that count each pair of each object by itself, by their arrays."""
        groups: dict[tuple[bool, int], list[Term]] = {}
        for term in self.terms:
            if term.at.ndim == 2:
                groups.setdefault((term.read, id(term.at)), []).append(term)
        return [(read, some[0].at, some) for (read, _), some in groups.items()]

    def take(self, objects: Rows) -> Batch:
        """The same of some objects; terms that shared an array share it still."""
        known: dict[int, Floats] = {}

        def some(array: Floats) -> Floats:
            if id(array) not in known:
                known[id(array)] = np.ascontiguousarray(array[..., objects])
            return known[id(array)]

        terms = tuple(
            replace(term, at=some(term.at) if term.at.ndim == 2 else term.at, weight=some(term.weight))
            for term in self.terms
        )
        now = self.today
        if now is not None:
            now = Today(now.choice.take(objects), now.open[objects])
        return replace(self, hold=some(self.hold), serve=some(self.serve), terms=terms, today=now)


def cheapest(batch: Batch, prices: Floats) -> Choice:
    """The cheapest set of every object when what rows count costs their prices; ties go to the first, or to today's.

    prices: [row], all zero for the objects by themselves. Exact.
    """
    held = np.zeros(batch.hold.shape, bool)
    read = np.zeros(batch.hold.shape, bool)
    for part in _parts(batch.size):
        held[:, part], read[:, part] = _block(batch, prices, part)
    return Choice(held, read)


def account(batch: Batch, choice: Choice, rows: int) -> tuple[Floats, Floats]:
    """Of a choice, each object's cost without prices, and its usage [row, object]."""
    cost, usage = np.zeros(batch.size), np.zeros((rows, batch.size))
    for part in _parts(batch.size):
        picks = (choice.held[:, part].astype(float), choice.read[:, part].astype(float))
        cost[part] = (picks[0] * batch.hold[:, part]).sum(axis=0) + (picks[1] * batch.serve[:, part]).sum(axis=0)
        for of_read, weight, into, patterns in batch.flat:
            usage[into, part] += (patterns @ picks[of_read]) * weight[part]
        for of_read, at, terms in batch.dense:
            counted = np.einsum("po,po->o", picks[of_read], at[:, part])
            for term in terms:
                usage[term.row, part] += counted * term.weight[part]
    return cost, usage


def _parts(size: int) -> Iterator[slice]:
    return (slice(start, min(start + BLOCK, size)) for start in range(0, size, BLOCK))


def _block(batch: Batch, prices: Floats, part: slice) -> tuple[Picks, Picks]:
    """The choice of a part."""
    hold, serve = _priced(batch, prices, part)
    served = serve + hold
    shape = (len(batch.columns), hold.shape[1])
    held_cost, read_cost = np.full(shape, CLOSED), np.full(shape, CLOSED)
    for site, columns in enumerate(batch.columns):
        for column in columns:
            np.minimum(held_cost[site], hold[column], out=held_cost[site])
            np.minimum(read_cost[site], served[column], out=read_cost[site])
    best, member, reader = _sets(batch, held_cost, read_cost - held_cost)
    held, read = np.zeros(hold.shape, bool), np.zeros(hold.shape, bool)
    for site, columns in enumerate(batch.columns):
        kept = member[site] & ~reader[site]
        for column in columns:
            read[column] = reader[site] & (served[column] == read_cost[site])
            held[column] = kept & (hold[column] == held_cost[site])
            reader[site] &= ~read[column]
            kept &= ~held[column]
            held[column] |= read[column]
    if batch.today is not None:
        _or_today(batch.today, part, (hold, serve), best, (held, read))
    closed = best >= CLOSED / 2
    if closed.any():
        held[:, closed], read[:, closed] = False, False
    return held, read


def _priced(batch: Batch, prices: Floats, part: slice) -> tuple[Floats, Floats]:
    """hold and serve of a part with the rows' prices on them."""
    hold, serve = batch.hold[:, part], batch.serve[:, part]
    for of_read, weight, rows, patterns in batch.flat:
        fee = prices[rows] @ patterns
        if fee.any():
            added = fee[:, None] * weight[None, part]
            hold, serve = (hold, added + serve) if of_read else (added + hold, serve)
    for of_read, counted, terms in batch.dense:
        some = [prices[term.row] * term.weight[part] for term in terms if prices[term.row]]
        if some:
            added = counted[:, part] * sum(some)
            hold, serve = (hold, added + serve) if of_read else (added + hold, serve)
    return hold, serve


def _sets(batch: Batch, held: Floats, extra: Floats) -> tuple[Floats, Picks, Picks]:
    """[object] what the cheapest set costs; [site, object] whether it holds a copy there, and whether that is read."""
    best = np.full(held.shape[1], np.inf)
    totals, extras = [], []
    for chosen, reading in zip(batch.sets, batch.reading, strict=True):
        least = extra[reading[0]]
        for site in reading[1:]:
            least = np.minimum(least, extra[site])
        total = least
        for site in chosen:
            total = total + held[site]
        np.minimum(best, total, out=best)
        totals.append(total)
        extras.append(least)
    member, reader = np.zeros(held.shape, bool), np.zeros(held.shape, bool)
    undecided = np.ones(held.shape[1], bool)
    for chosen, reading, total, least in zip(batch.sets, batch.reading, totals, extras, strict=True):
        taken = (total == best) & undecided
        undecided &= ~taken
        for site in chosen:
            member[site] |= taken
        for site in reading:
            here = taken & (extra[site] == least)
            reader[site] |= here
            taken &= ~here
    return best, member, reader


def _or_today(now: Today, part: slice, costs: tuple[Floats, Floats], best: Floats, picks: tuple[Picks, Picks]) -> None:
    """Takes today's copies where dropping some of them would cost more than it saves."""
    stands = (now.choice.held[:, part], now.choice.read[:, part])
    cost = sum(np.where(stand, of, 0.0).sum(axis=0) for stand, of in zip(stands, costs, strict=True))
    cheaper = now.open[part] & (cost <= best)
    np.copyto(best, cost, where=cheaper)
    for pick, stand in zip(picks, stands, strict=True):
        np.copyto(pick, stand, where=cheaper)
