"""The fleet solver: where all objects' copies should lie when rows couple them, with a certified gap.

Dual prices on the rows decide nearly every object by the closed form; those that a small change of prices moves are
solved exactly against the room that the others leave. Loaded by workers and benchmarks only (scipy).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from scipy.optimize import linprog

from app.domain.placement_kernel import CLOSED, Batch, Choice, Mask, Rows, account, bound, cheapest
from app.domain.placement_rest import solve_rest
from app.domain.pricing import Floats

SAMPLES = (10_000, 100_000)
"""Objects on which the prices are sought before all are looked at."""
REST = 900
"""Objects that are solved exactly, if that suffices; else four times as many, and so on."""
GOLDEN = 0.6180339887498949
"""Steps of this size fall evenly on a circle, however many."""
MOST = 10_000
"""More are solved exactly only while nothing was found that keeps every row."""
CLOSE = 3e-5
"""A gap that needs no greater rest."""
TURN_S = 4.0
"""Seconds for one turn of the exact rest."""
MIX_REACH = 0.5
"""How far around the best prices, relative to them, choices are mixed."""
LEAST_SHARE = 1e-4
"""Prices whose share of the mix is smaller are left out of it."""
FEW = 15
"""Steps for so few objects that the exact rest holds them all: it finds their prices itself."""
PROOF = 60
"""Steps in which a proof is sought that nothing keeps the rows."""
PROVEN = 1e-7
"""What objects must use beyond the limits at some prices, relative to the limits: more is no rounding."""
NUDGES = (0.02, 0.02, 0.05, 0.05, 0.1, 0.1, 0.3, 0.3)
"""How far prices are moved for further sets, so that whole ones fill what the rows leave."""
GAP = 1e-5
"""What the exact rest may leave, of the whole cost."""
STALLED = 1e-7
"""A step that promises less, relative to the bound, is not taken."""
LEAST = 0.05
"""A price of zero may rise within reach as if it were this, in units of cost ÷ limit."""
EXACT = 1e-9
"""A gap below which a result counts as optimal."""
SLACK = 1e-9
"""What sums of floating-point numbers may differ by, relative to a row's limit."""


class Status(StrEnum):
    """How the solver ended."""

    OPTIMAL = "optimal"
    """Proven: nothing is cheaper."""
    FEASIBLE = "feasible"
    """Every row is kept; the gap says how much might still be saved."""
    INFEASIBLE = "infeasible"
    """Proven: no placement keeps all rows."""
    TIME_LIMIT = "time_limit"
    """Nothing was found in the time given, and nothing proven."""


@dataclass(frozen=True)
class Fleet:
    """The outcome: choices by batch (None without one), their cost, and what no placement can be cheaper than.

    prices [row]: dollars that one more unit of a row's limit saves; used [row]; exact: objects solved exactly.
    """

    status: Status
    choices: tuple[Choice, ...] | None
    objective: float
    bound: float
    prices: Floats
    used: Floats
    seconds: float
    exact: int

    @property
    def gap(self) -> float:
        """(objective − bound) ÷ objective, never understated; inf where nothing was found."""
        if self.choices is None:
            return float("inf")
        over = self.objective - self.bound
        return max(0.0, over) / max(abs(self.objective), 1e-300) if over > 0 else 0.0


@dataclass(frozen=True)
class _Cut:
    """What the bound is at most, seen from some prices: height + slope · prices, all in units of the cost."""

    prices: Floats
    slope: Floats
    height: float


class _Dual:
    """The Lagrangian dual: prices in units of cost ÷ limit, so that all are near 1; remembers the best it saw."""

    def __init__(self, batches: Sequence[Batch], limits: Floats) -> None:
        self.batches, self.limits = batches, limits
        self.best, self.prices = -np.inf, np.zeros(len(limits))
        self.cuts: list[_Cut] = []
        free, self.free_use = self.at(self.prices)
        self.money = abs(free) or 1.0
        scale = np.maximum(np.abs(limits), np.abs(self.free_use))
        self.unit = self.money / np.where(scale > 0, scale, 1.0)

    def at(self, prices: Floats) -> tuple[float, Floats]:
        """The bound that prices give, and what the objects use at them."""
        parts = [bound(batch, prices) for batch in self.batches]
        value = sum(part for part, _ in parts) - float(prices @ self.limits)
        used = np.sum([use for _, use in parts], axis=0) if parts else np.zeros(len(prices))
        if value > self.best:
            self.best, self.prices = value, prices
        return value, used

    def climb(self, start: Floats, reach: float, steps: int, until: float, enough: float = np.inf) -> None:
        """Raises the bound from some prices: each step goes to the top of the cuts known, within its reach.

        Bounds are concave and made of planes, so cuts find the top where gradients alone stall at an edge. The reach
        (relative to each price) grows while steps are as good as the cuts promised, and shrinks where they were not. It
        ends early at a bound that is `enough`.
        """
        at = np.maximum(start / self.unit, 0.0)
        best = self._cut(at)
        for _ in range(steps):
            step = reach * np.maximum(at, LEAST)
            top, promised, _ = _top(self.cuts, np.maximum(at - step, 0.0), at + step)
            if self.best > enough or promised - best <= STALLED * abs(best) or time.perf_counter() > until:
                break
            value = self._cut(top)
            gained = (value - best) / (promised - best)
            reach = min(reach * 2, 4.0) if gained > 0.5 else reach if gained > 0.05 else reach / 2
            if value > best:
                at, best = top, value

    def mix(self) -> list[tuple[float, Floats]]:
        """Shares and prices: choices taken at these prices in these shares keep the rows, but for what cuts miss."""
        at = self.prices / self.unit
        step = MIX_REACH * np.maximum(at, LEAST)
        _, _, shares = _top(self.cuts, np.maximum(at - step, 0.0), at + step)
        kept = [(share, cut.prices) for share, cut in zip(shares, self.cuts, strict=True) if share > LEAST_SHARE]
        return sorted(kept, key=lambda entry: -entry[0]) or [(1.0, self.prices)]

    def _cut(self, scaled: Floats) -> float:
        """Looks at some prices: the bound there, in units of the cost."""
        value, used = self.at(scaled * self.unit)
        slope = (used - self.limits) * self.unit / self.money
        self.cuts.append(_Cut(scaled * self.unit, slope, value / self.money - float(slope @ scaled)))
        return value / self.money


def _top(cuts: Sequence[_Cut], low: Floats, high: Floats) -> tuple[Floats, float, Floats]:
    """Where the least of the cuts is highest between two points, how high, and the share of each cut in it."""
    rows, slopes = len(low), np.array([cut.slope for cut in cuts])
    heights = np.array([cut.height for cut in cuts])
    solved = linprog(
        np.append(np.zeros(rows), -1.0),
        A_ub=np.hstack([-slopes, np.ones((len(cuts), 1))]),
        b_ub=heights,
        bounds=[*zip(low, high, strict=True), (None, None)],
        method="highs",
    )
    if solved.status != 0:  # numbers too far apart for the solver: no step
        return low, -np.inf, np.zeros(len(cuts))
    return solved.x[:rows], float(solved.x[rows]), -solved.ineqlin.marginals


def solve_fleet(
    batches: Sequence[Batch], limits: Floats, *, offset: float = 0.0, seconds: float = 60.0, seed: int = 0
) -> Fleet:
    """The cheapest placement that keeps usage ≤ limits (by row, as the batches' terms count it).

    offset: cost that no choice changes, for the gap's denominator. Objects without a feasible set take part in no row.
    """
    started = time.perf_counter()
    until, rng = started + seconds, np.random.default_rng(seed)
    dual = _Dual(batches, limits)
    if not (dual.free_use > limits).any():
        return _ended(dual, tuple(cheapest(batch, dual.prices) for batch in batches), offset, started, 0)
    _price(dual, batches, limits, rng, until)
    choices, exact = _repair(dual, rng, until)
    if choices is None and _impossible(batches, limits, until):
        zero = np.zeros(len(limits))
        return Fleet(Status.INFEASIBLE, None, np.inf, np.inf, zero, zero, time.perf_counter() - started, exact)
    return _ended(dual, choices, offset, started, exact)


def _ended(dual: _Dual, choices: tuple[Choice, ...] | None, offset: float, started: float, exact: int) -> Fleet:
    """The outcome, its cost and use summed anew from the choices."""
    rows = len(dual.limits)
    objective, used = np.inf, np.zeros(rows)
    if choices is not None:
        sums = [account(batch, choice, rows) for batch, choice in zip(dual.batches, choices, strict=True)]
        objective = float(sum(cost.sum() for cost, _ in sums)) + offset
        used = np.sum([use.sum(axis=1) for _, use in sums], axis=0) if sums else used
    fleet = Fleet(
        Status.TIME_LIMIT, choices, objective, dual.best + offset, dual.prices, used,
        time.perf_counter() - started, exact,
    )  # fmt: skip
    if choices is None:
        return fleet
    status = Status.OPTIMAL if fleet.gap <= EXACT else Status.FEASIBLE
    return Fleet(**{**vars(fleet), "status": status})


def _price(dual: _Dual, batches: Sequence[Batch], limits: Floats, rng: np.random.Generator, until: float) -> None:
    """Seeks the prices on samples, then on all objects."""
    total = sum(batch.size for batch in batches)
    start, reach = np.zeros(len(limits)), 1.0
    for wanted in SAMPLES:
        if 2 * wanted < total:
            part = _Dual(_sample(batches, wanted / total, rng), limits * (wanted / total))
            part.climb(start, reach, 150, until)
            start, reach = part.prices, reach / 3
    steps = FEW if total <= REST else int(np.clip(2e7 / total, 30, 150))  # few objects get their prices from the rest
    dual.climb(start, reach, steps, until)


def _sample(batches: Sequence[Batch], share: float, rng: np.random.Generator) -> list[Batch]:
    """About a share of the objects of every batch."""
    picked = (np.flatnonzero(rng.random(batch.size) < share) for batch in batches)
    return [batch.take(some) for batch, some in zip(batches, picked, strict=True) if len(some)]


def _repair(dual: _Dual, rng: np.random.Generator, until: float) -> tuple[tuple[Choice, ...] | None, int]:
    """Choices that keep every row, and how many objects were solved exactly.

    Objects whose choice is the same at all prices of the mix are decided; the others begin with a choice drawn by the
    shares, which keeps the rows on the whole, and the exact rest makes up for what the draw has missed.
    """
    batches, mix = dual.batches, dual.mix()
    drawn = [_draw(dual, batch, mix, rng) for batch in batches]
    choices, loose = [choice for choice, _ in drawn], [mask for _, mask in drawn]
    used = _use(dual, batches, choices)
    prices = [dual.prices, *(entry for _, entry in mix)]
    prices += [dual.prices * (1 + size * rng.uniform(-1, 1, len(used))) for size in NUDGES]
    best, least, wanted = None, np.inf, REST
    while True:
        picked = _picked(dual, choices, loose, wanted, rng)
        some = [batch.take(objects) for batch, objects in zip(batches, picked, strict=True)]
        before = [choice.take(objects) for choice, objects in zip(choices, picked, strict=True)]
        room = dual.limits - used + _use(dual, some, before)
        rest = solve_rest(some, room, prices, min(until, time.perf_counter() + TURN_S), GAP * dual.money)
        dual.at(rest.prices)
        count = sum(map(len, picked))
        if rest.choices is not None:
            whole = zip(choices, picked, rest.choices, strict=True)
            found = tuple(choice.put(objects, new) for choice, objects, new in whole)
            cost = _cost(dual, found)
            if cost < least:
                best, least = found, cost
        close = best is not None and least - dual.best <= CLOSE * abs(least)
        if close or count == sum(batch.size for batch in batches) or time.perf_counter() > until:
            return best, count
        if best is not None and wanted >= MOST:
            return best, count
        wanted *= 4


def _cost(dual: _Dual, choices: Sequence[Choice]) -> float:
    """What choices cost."""
    rows = len(dual.limits)
    pairs = zip(dual.batches, choices, strict=True)
    return float(sum(account(batch, choice, rows)[0].sum() for batch, choice in pairs))


def _draw(
    dual: _Dual, batch: Batch, mix: Sequence[tuple[float, Floats]], rng: np.random.Generator
) -> tuple[Choice, Mask]:
    """A choice for each object, drawn from those at the mix's prices by their shares, and whether these differ.

    Objects are drawn evenly along the row that they weigh on most, by weight: chance alone would miss by the heaviest.
    """
    choices = [cheapest(batch, prices) for _, prices in mix]
    loose = np.zeros(batch.size, bool)
    for other in choices[1:]:
        loose |= choices[0].differs(other)
    objects = np.flatnonzero(loose)
    some = batch.take(objects)
    scale = np.where(dual.limits != 0, np.abs(dual.limits), 1.0)[:, None]
    weight = account(some, choices[0].take(objects), len(dual.limits))[1] / scale
    order = np.lexsort((weight.max(axis=0, initial=0.0), weight.argmax(axis=0)))
    shares = np.cumsum([share for share, _ in mix])
    even = (rng.random() + np.arange(len(objects)) * GOLDEN) % 1.0
    turn = np.empty(len(objects), int)
    turn[order] = np.searchsorted(shares / shares[-1], even, side="right")
    choice = choices[0]
    for number, other in enumerate(choices[1:], 1):
        taken = objects[turn == number]
        choice = choice.put(taken, other.take(taken))
    return choice, loose


def _use(dual: _Dual, batches: Sequence[Batch], choices: Sequence[Choice]) -> Floats:
    """[row] what choices use."""
    rows = len(dual.limits)
    total: Floats = np.zeros(rows)
    for batch, choice in zip(batches, choices, strict=True):
        total = total + account(batch, choice, rows)[1].sum(axis=1)
    return total


def _picked(
    dual: _Dual, choices: Sequence[Choice], loose: Sequence[np.ndarray], wanted: int, rng: np.random.Generator
) -> list[Rows]:
    """The objects to solve exactly: of those that hang on the prices the greatest and a random share, then others."""
    total = sum(len(mask) for mask in loose)
    if total <= wanted:
        return [np.arange(len(mask)) for mask in loose]
    hangs = np.concatenate(loose)
    rank = rng.random(total)
    scale = np.where(np.abs(dual.limits) > 0, np.abs(dual.limits), 1.0)
    weight = np.concatenate(
        [
            (account(batch, choice, len(scale))[1] / scale[:, None]).max(axis=0)
            for batch, choice in zip(dual.batches, choices, strict=True)
        ]
    )
    order = np.argsort(-weight[hangs])[: wanted // 2]
    rank[np.flatnonzero(hangs)[order]] -= 2
    rank[hangs] -= 1
    chosen = np.zeros(total, bool)
    chosen[np.argpartition(rank, wanted)[:wanted]] = True
    result, start = [], 0
    for mask in loose:
        result.append(np.flatnonzero(chosen[start : start + len(mask)]))
        start += len(mask)
    return result


def _impossible(batches: Sequence[Batch], limits: Floats, until: float) -> bool:
    """Whether some prices prove, costs aside, that what objects must use exceeds the limits."""
    dual = _Dual([_without_costs(batch) for batch in batches], limits)
    dual.climb(dual.prices, 1.0, PROOF, until, enough=PROVEN)
    return dual.best > PROVEN


def _without_costs(batch: Batch) -> Batch:
    """The same objects and rows, every open pair for nothing."""
    return replace(batch, hold=np.where(batch.hold >= CLOSED / 2, CLOSED, 0.0), serve=np.zeros_like(batch.serve))
