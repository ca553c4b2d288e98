"""The heaviest objects of a fleet, decided exactly beside the mix of all others (the decomposition of Benders).

Mixed, an object that fills a hundredth of a row pretends that parts of it lie at two places, and the bound believes it.
Here each takes one whole set, and what the others then cost at least is known at every price: the bound rises.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csc_array

from app.domain.placement_blocks import Blocks, Mix, alike, parts
from app.domain.placement_kernel import Batch, Choice, Mask, Rows, account, cheapest
from app.domain.pricing import Floats

HEAVY = 300
"""Objects that are decided exactly; they are sought among the heaviest."""
SOUGHT = 10_000
PATTERNS = 4_000
"""Objects with more possible sets are not decided so."""
TURNS, NODES = 10, 1_000
"""Exact programs at most, and how much HiGHS branches in each."""


@dataclass(frozen=True)
class Heavy:
    """The heavy objects (numbered through all batches), what they take by batch, their cost and use.

    bound: what the whole fleet costs at least; others: the rest of it in the room that is left, and its mix.
    """

    objects: Rows
    choices: tuple[Choice, ...]
    cost: float
    used: Floats
    bound: float
    others: Blocks
    mix: Mix

    def joined(self, batches: Sequence[Batch], others: Sequence[Choice]) -> tuple[Choice, ...]:
        """The choices of all objects, with those of the others."""
        result, start = [], 0
        for batch, mine, rest in zip(batches, self.choices, others, strict=True):
            heavy = np.isin(np.arange(start, start + batch.size), self.objects)
            held, read = np.zeros(batch.hold.shape, bool), np.zeros(batch.hold.shape, bool)
            held[:, heavy], held[:, ~heavy] = mine.held, rest.held
            read[:, heavy], read[:, ~heavy] = mine.read, rest.read
            result.append(Choice(held, read))
            start += batch.size
        return tuple(result)


@dataclass(frozen=True)
class _Sets:
    """The sets that heavy objects may take, [column]: the object, its batch and its number there, costs and usage."""

    owner: Rows
    batch: Rows
    pattern: Rows
    cost: Floats
    usage: Floats


def decide(blocks: Blocks, gap: float, close: float, dear: Floats, until: float, many: int = HEAVY) -> Heavy | None:
    """The heaviest objects in a whole that costs at most `gap` dollars more than the bound of the blocks.

    Ends within `close` dollars of the best mix; None where these objects have too many sets.
    """
    heavy = _heaviest(blocks, gap, many)
    apart = parts(blocks.batches, heavy)
    if not len(heavy) or any(_count(batch) > PATTERNS for batch in apart if batch.size):
        return None
    sets = _sets(apart, blocks.at, gap)
    light = parts(blocks.batches, np.setdiff1d(np.arange(len(blocks.labels)), heavy))
    labels = alike(light, blocks.prices[-3:], blocks.count // 2)
    others = Blocks(light, blocks.limits, labels, blocks.prices)
    best, least, bound = None, np.inf, blocks.best
    for _ in range(TURNS):
        taken, floor = _program(sets, others, blocks, gap, dear)
        bound = max(bound, floor)
        if taken is None:
            break
        others.limits = blocks.limits - sets.usage[:, taken].sum(axis=1)
        mix = others.climb(dear, close / 2 / (abs(blocks.best) or 1.0), until)
        others.look(mix.prices)
        total = float(sets.cost[taken].sum()) + mix.cost
        if total < least and not others.lacks(mix):
            best, least = (taken, mix), total
        if least - bound <= close or time.perf_counter() > until:
            break
    if best is None:
        return None
    taken, _ = best
    used = sets.usage[:, taken].sum(axis=1)
    others.limits = blocks.limits - used
    mix = others.mix(others.limits, dear)
    choices = tuple(_read_off(apart, sets, taken))
    return Heavy(heavy, choices, float(sets.cost[taken].sum()), used, min(bound, blocks.best + gap), others, mix)


def _heaviest(blocks: Blocks, gap: float, many: int) -> Rows:
    """Those of which a better whole may take another set that uses most of some row more or less."""
    drawn = np.arange(len(blocks.labels))
    if len(drawn) > SOUGHT:
        weight = np.concatenate([_weight(blocks, batch) for batch in blocks.batches])
        drawn = np.sort(np.argpartition(-weight, SOUGHT)[:SOUGHT])
    alone = Blocks(parts(blocks.batches, drawn), blocks.limits, np.arange(len(drawn)), blocks.prices)
    loss, span = alone.apart(blocks.at, blocks.scale)
    span = np.where(loss <= gap, span, 0.0).max(axis=0)
    heaviest = np.argsort(-span, kind="stable")[:many]
    heavy: Rows = drawn[np.sort(heaviest[span[heaviest] > 0])]
    return heavy


def _weight(blocks: Blocks, batch: Batch) -> Floats:
    """[object] what it uses of a row at most, at no prices and at the best."""
    uses = [account(batch, cheapest(batch, prices), len(blocks.limits))[1] for prices in (0 * blocks.at, blocks.at)]
    weight: Floats = (np.maximum(*np.abs(uses)) / blocks.scale[:, None]).max(axis=0)
    return weight


def _count(batch: Batch) -> int:
    """Sets that each object of a batch may take."""
    pairs = zip(batch.sets, batch.reading, strict=True)
    return sum(len(reading) * prod(len(batch.columns[site]) for site in chosen) for chosen, reading in pairs)


def _patterns(batch: Batch) -> list[Choice]:
    """Every set, of all objects at once; the last are today's copies where there are more."""
    result = []
    for chosen, reading in zip(batch.sets, batch.reading, strict=True):
        for columns in product(*(batch.columns[site] for site in chosen)):
            for site in reading:
                held, read = np.zeros(batch.hold.shape, bool), np.zeros(batch.hold.shape, bool)
                held[list(columns)], read[columns[chosen.index(site)]] = True, True
                result.append(Choice(held, read))
    if batch.today is not None:
        result.append(batch.today.choice)
    return result


def _sets(apart: Sequence[Batch], prices: Floats, gap: float) -> _Sets:
    """The sets that lose at most the gap at these prices: no other is part of a better whole."""
    found, start = [], 0
    for number, batch in enumerate(apart):
        if batch.size:
            accounts = [account(batch, choice, len(prices)) for choice in _patterns(batch)]
            cost, usage = np.array([cost for cost, _ in accounts]), np.array([use for _, use in accounts])
            if batch.today is not None:
                cost[-1, ~batch.today.open] = np.inf
            worth = cost + np.einsum("r,kro->ko", prices, usage)
            pattern, owner = _worthy(worth - worth.min(axis=0) <= gap, cost, usage)
            columns = (owner + start, np.full(len(owner), number), pattern, cost[pattern, owner])
            found.append((*columns, usage[pattern, :, owner].T))
            start += batch.size
    return _Sets(*(np.concatenate(some, axis=-1) for some in zip(*found, strict=True)))


def _worthy(open_: Mask, cost: Floats, usage: Floats) -> tuple[Rows, Rows]:
    """The patterns and objects of open sets, without those that use and cost no less than another."""
    patterns, owners = [], []
    for owner in range(cost.shape[1]):
        some = np.flatnonzero(open_[:, owner])
        some = some[np.argsort(cost[some, owner], kind="stable")]
        use, left = usage[some, :, owner], np.ones(len(some), bool)
        for at in range(len(some)):
            if left[at]:
                left[at + 1 :] &= (use[at + 1 :] < use[at]).any(axis=1)
        patterns.append(some[left])
        owners.append(np.full(int(left.sum()), owner))
    return np.concatenate(patterns), np.concatenate(owners)


def _program(sets: _Sets, others: Blocks, blocks: Blocks, gap: float, dear: Floats) -> tuple[Rows | None, float]:
    """The columns that are best if the others cost what is known of them at least; and the bound that this gives.

    Costs are counted at the best prices known, and in units of the gap, so that all numbers are near 1.
    """
    prices, columns = np.array(others.prices), len(sets.owner)
    near = (prices <= dear).all(axis=1)  # dearer ones hold as well, but not in the solver's precision
    prices = prices[near]
    worth = sets.cost + blocks.at @ sets.usage
    objects = int(sets.owner.max()) + 1
    least = np.full(objects, np.inf)
    np.minimum.at(least, sets.owner, worth)
    known = others.worth[near] - prices @ blocks.limits  # what the others cost at least when heavy objects use nothing
    base = blocks.best - float(least.sum())
    solved = milp(
        np.append((worth - least[sets.owner]) / gap, 1.0),
        integrality=np.append(np.ones(columns), 0.0),
        bounds=Bounds(np.append(np.zeros(columns), -np.inf), np.append(np.ones(columns), np.inf)),
        constraints=[
            LinearConstraint(
                csc_array((np.ones(columns), (sets.owner, np.arange(columns))), shape=(objects, columns + 1)), 1, 1
            ),
            LinearConstraint(
                np.hstack([(prices - blocks.at) @ sets.usage / gap, -np.ones((len(prices), 1))]),
                -np.inf,
                (base - known) / gap,
            ),
        ],
        options={"node_limit": NODES, "mip_rel_gap": 1e-4},
    )
    floor = -np.inf if solved.mip_dual_bound is None else blocks.best + float(solved.mip_dual_bound) * gap
    return (None if solved.x is None else np.flatnonzero(solved.x[:columns] > 0.5)), floor


def _read_off(apart: Sequence[Batch], sets: _Sets, taken: Rows) -> list[Choice]:
    """The sets taken, by batch."""
    result = []
    start = 0
    for number, batch in enumerate(apart):
        held, read = np.zeros(batch.hold.shape, bool), np.zeros(batch.hold.shape, bool)
        patterns = _patterns(batch) if batch.size else []
        for column in taken[sets.batch[taken] == number]:
            object_, choice = sets.owner[column] - start, patterns[sets.pattern[column]]
            held[:, object_], read[:, object_] = choice.held[:, object_], choice.read[:, object_]
        result.append(Choice(held, read))
        start += batch.size
    return result
