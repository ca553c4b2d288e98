"""Blocks of objects, and the linear program that mixes what they choose (the decomposition of Dantzig and Wolfe).

At any prices of the rows each object has a cheapest set; what all of a block's sets cost and use is a column. The
program takes shares of columns that keep the rows at the least cost, and its prices ask for the next columns.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import csc_array, hstack

from app.domain.placement_kernel import Batch, Mask, Rows, account, cheapest
from app.domain.pricing import Floats

ROUNDS = 60
"""Looks at prices in one climb, at most."""
PARTS = 8
"""A block whose choice is mixed is cut into so many."""
FRACTION = 1e-6
"""Shares nearer to 0 or 1 are whole."""
SMOOTH = 0.5
"""Each look is so far from the program's prices towards the best ones known: they swing less."""
KEPT = 1e-9
"""A lack of room, relative to a row's scale, that is none."""


@dataclass(frozen=True)
class Mix:
    """What the linear program takes: shares [round, block], its prices, what it lacks of room [row], its cost."""

    shares: Floats
    prices: Floats
    short: Floats
    cost: float

    @property
    def mixed(self) -> Mask:
        """[block] whether it takes shares of several columns."""
        return np.asarray(((self.shares > FRACTION) & (self.shares < 1 - FRACTION)).any(axis=0))


@dataclass(frozen=True)
class Whole:
    """One set for every object: taken [object] the round of prices at which it is the cheapest; cost, and use [row]."""

    taken: Rows
    cost: float
    used: Floats

    def put(self, objects: Rows, other: Whole) -> Whole:
        """With sets for some objects that it did not count before."""
        taken = self.taken.copy()
        taken[objects] = other.taken
        return Whole(taken, self.cost + other.cost, self.used + other.used)

    def without(self, other: Whole) -> Whole:
        """Not counting those of some objects."""
        return Whole(self.taken, self.cost - other.cost, self.used - other.used)


class Blocks:
    """Objects in blocks (labels [object], batch after batch) and their columns, one for each round of prices."""

    def __init__(self, batches: Sequence[Batch], limits: Floats, labels: Rows, prices: Sequence[Floats] = ()) -> None:
        self.batches, self.limits, self.labels = batches, limits, labels
        self.count = int(labels.max(initial=-1)) + 1
        self.prices: list[Floats] = []
        self.cost = np.zeros((0, self.count))
        self.usage = np.zeros((0, len(limits), self.count))
        self.fresh = np.zeros((0, self.count), bool)
        for some in prices:
            self.look(some)
        free = np.abs(self.usage[0].sum(axis=1)) if prices else np.zeros(len(limits))
        scale = np.maximum(np.abs(limits), free)
        self.scale = np.where(scale > 0, scale, 1.0)

    @property
    def worth(self) -> Floats:
        """[round] what all sets cost at the round's prices, what they use included."""
        worth: Floats = self.cost.sum(axis=1) + np.einsum("kr,krb->k", np.array(self.prices), self.usage)
        return worth

    @property
    def bounds(self) -> Floats:
        """[round] what no placement within the limits can cost less than."""
        bounds: Floats = self.worth - np.array(self.prices) @ self.limits
        return bounds

    @property
    def best(self) -> float:
        """The best bound."""
        return float(self.bounds.max())

    @property
    def at(self) -> Floats:
        """The prices of the best bound."""
        return self.prices[int(self.bounds.argmax())]

    def apart(self, prices: Floats, scale: Floats) -> tuple[Floats, Floats]:
        """[round, block] what a column loses against the best at some prices, and how far its use lies from that's."""
        worth = self.cost + np.einsum("r,krb->kb", prices, self.usage)
        now = self.usage[worth.argmin(axis=0), :, np.arange(self.count)].T
        span: Floats = (np.abs(self.usage - now) / scale[:, None]).max(axis=1)
        return worth - worth.min(axis=0), span

    @property
    def above(self) -> Floats:
        """[round, block] what a column costs beyond the cheapest of its block."""
        above: Floats = self.cost - self.cost.min(axis=0)
        return above

    def look(self, prices: Floats) -> bool:
        """One more round: the bound and the columns at some prices. Whether any of these is new."""
        cost, usage = np.zeros(self.count), np.zeros((len(self.limits), self.count))
        start = 0
        for batch in self.batches:
            into = self.labels[start : start + batch.size]
            each, used = account(batch, cheapest(batch, prices), len(usage))
            cost += np.bincount(into, each, self.count)
            for row, some in enumerate(used):
                usage[row] += np.bincount(into, some, self.count)
            start += batch.size
        fresh = np.ones(self.count, bool)
        for earlier, use in zip(self.cost, self.usage, strict=True):
            fresh &= (earlier != cost) | (use != usage).any(axis=0)
        self.prices.append(prices)
        self.cost, self.usage = np.vstack([self.cost, [cost]]), np.concatenate([self.usage, [usage]])
        self.fresh = np.vstack([self.fresh, [fresh]])
        return bool(fresh.any())

    def mix(self, room: Floats, dear: Floats) -> Mix:
        """The cheapest shares that keep to the room; dear [row]: what a unit that is lacking costs."""
        rounds, blocks = at = np.nonzero(self.fresh)
        columns, rows = len(blocks), len(room)
        above = self.above[at]
        money = float(above.mean()) or 1.0
        usage = csc_array(self.usage[rounds, :, blocks].T / self.scale[:, None])
        once = csc_array((np.ones(columns), (blocks, np.arange(columns))), shape=(self.count, columns))
        solved = linprog(
            np.concatenate([above, dear * self.scale]) / money,
            A_ub=hstack([usage, csc_array(-np.eye(rows))], format="csc"),
            b_ub=room / self.scale,
            A_eq=hstack([once, csc_array((self.count, rows))], format="csc"),
            b_eq=np.ones(self.count),
            method="highs-ds",
        )
        shares = np.zeros(self.fresh.shape)
        if solved.status != 0:  # numbers too far apart for the solver: as if there were no room at all
            return Mix(shares, self.at, np.full(rows, np.inf), np.inf)
        shares[at] = solved.x[:columns]
        prices = np.maximum(-solved.ineqlin.marginals, 0.0) * money / self.scale
        return Mix(shares, prices, solved.x[columns:] * self.scale, float((shares * self.cost).sum()))

    def lacks(self, mix: Mix) -> bool:
        """Whether a mix exceeds some row."""
        return bool((mix.short > KEPT * self.scale).any())

    def climb(self, dear: Floats, gap: float, until: float, enough: float = np.inf) -> Mix:
        """Looks at prices until shares cost no more than the bound and the gap, or nothing new is found.

        dear [row]: what a unit that a row lacks costs; enough: a bound at which to end.
        """
        for _ in range(ROUNDS):
            mix = self.mix(self.limits, dear)
            close = mix.cost + float(dear @ mix.short) - self.best <= gap * abs(mix.cost)
            if close or self.best > enough or time.perf_counter() > until:
                break
            smooth = SMOOTH * self.at + (1 - SMOOTH) * mix.prices
            if not self.look(smooth) and not self.look(mix.prices):
                break
        return mix

    def whole(self, mix: Mix, room: Floats, dear: Floats) -> Whole:
        """The shares made whole, nearly keeping to the room.

        Blocks that are mixed are cut into parts and mixed again in the room that the others leave, down to single
        objects: there are never more of these than rows.
        """
        taken, mixed = mix.shares.argmax(axis=0), mix.mixed
        objects = np.flatnonzero(mixed[self.labels])
        if len(objects) == np.count_nonzero(mixed):
            return self.sum(taken, np.arange(self.count))
        rest = self.sum(taken, np.flatnonzero(~mixed))
        left = room - rest.used
        inside = Blocks(parts(self.batches, objects), left, _cut(self.labels[objects]), self.prices)
        return rest.put(objects, inside.whole(inside.mix(left, dear), left, dear))

    def sum(self, taken: Rows, blocks: Rows) -> Whole:
        """What some blocks cost and use where each takes one column, with the rounds of all objects."""
        at = taken[blocks]
        return Whole(taken[self.labels], float(self.cost[at, blocks].sum()), self.usage[at, :, blocks].sum(axis=0))


def alike(batches: Sequence[Batch], prices: Sequence[Floats], count: int) -> Rows:
    """[object] labels of about so many blocks of objects that choose alike at these prices."""
    codes = []
    for some in prices:
        choices = [cheapest(batch, some) for batch in batches]
        bits = [(number, 2.0 ** np.arange(len(choice.held))) for number, choice in enumerate(choices)]
        pairs = zip(bits, choices, strict=True)
        codes.append(
            np.concatenate(
                [number + bit @ choice.held + bit[-1] * 2 * (bit @ choice.read) for (number, bit), choice in pairs]
            )
        )
    order = np.lexsort(codes[::-1])
    labels = np.empty(len(order), int)
    labels[order] = np.arange(len(order)) * min(count, len(order)) // max(1, len(order))
    return labels


def parts(batches: Sequence[Batch], objects: Rows) -> list[Batch]:
    """Some objects, numbered through all batches, of each batch."""
    ends = np.cumsum([0, *(batch.size for batch in batches)])
    cuts = np.searchsorted(objects, ends)
    return [
        batch.take(objects[low:high] - start)
        for batch, start, low, high in zip(batches, ends, cuts, cuts[1:], strict=False)
    ]


def _cut(labels: Rows) -> Rows:
    """Every block in parts."""
    order = np.argsort(labels, kind="stable")
    _, which, sizes = np.unique(labels[order], return_inverse=True, return_counts=True)
    place = np.arange(len(labels)) - (np.cumsum(sizes) - sizes)[which]
    finer = np.empty(len(labels), int)
    finer[order] = which * PARTS + place * PARTS // sizes[which]
    return np.unique(finer, return_inverse=True)[1]
