"""The fleet solver: where all objects' copies should lie when rows couple them, with a certified gap.

Prices on the rows are sought on samples, then on all objects, which are mixed in blocks until the cost meets the bound;
the mix is made whole, and what hangs on the prices is solved exactly. Loaded by workers and benchmarks only (scipy).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from app.domain.placement_blocks import Blocks, Mix, alike, parts
from app.domain.placement_heavy import decide
from app.domain.placement_kernel import CLOSED, Batch, Choice, account
from app.domain.placement_rest import SLACK, TURNS, chosen, improved, kept, made_whole
from app.domain.pricing import Floats

SAMPLES = (1_000, 20_000)
"""Objects on which the prices are sought before all are looked at."""
BLOCKS = 500
"""Objects that choose alike are mixed together, in so many blocks."""
ROUGH, FINE = 1e-4, 1e-6
"""The gap at which a sample's prices will do, and that at which those of all objects will."""
DEAR = 10.0
"""What exceeding a row by all of its limit costs at first, in the cost of all objects."""
DEARER, MUCH = 3, 1e3
"""So often that is made so much dearer, where a row is exceeded though it need not be."""
ACTIVE = 1e-3
"""Prices with a smaller share of a sample's mix are not looked at again."""
FEW = 600
"""So few objects are mixed one by one, and solved exactly together."""
CLOSE = 3e-5
"""A gap that no exact rest need better."""
NUDGES = (0.02, 0.05, 0.1, 0.3)
"""How far prices are moved for further sets of few objects, so that whole ones fill what the rows leave."""
PROVEN = 1e-7
"""What objects must use beyond the limits at some prices, relative to the limits: more is no rounding."""
EXACT = 1e-9
"""A gap below which a result counts as optimal."""


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


def solve_fleet(
    batches: Sequence[Batch], limits: Floats, *, offset: float = 0.0, seconds: float = 60.0, seed: int = 0
) -> Fleet:
    """The cheapest placement that keeps usage ≤ limits (by row, as the batches' terms count it).

    offset: cost that no choice changes, for the gap's denominator. Objects without a feasible set take part in no row.
    """
    started = time.perf_counter()
    until, rng = started + seconds, np.random.default_rng(seed)
    labels = np.zeros(sum(batch.size for batch in batches), int)
    free = Blocks(batches, limits, labels, [np.zeros(len(limits))])
    whole = free.sum(labels[:1], labels[:1])
    if kept(free, whole):
        return _ended(free, chosen(free, whole), free.best, offset, started, 0)
    dear = DEAR * (abs(free.best) or 1.0) / free.scale
    blocks, mix = _price(free, dear, rng, until)
    if blocks.lacks(mix) and _impossible(free, mix.prices / (dear * free.scale), until):
        zero = np.zeros(len(limits))
        return Fleet(Status.INFEASIBLE, None, np.inf, np.inf, zero, zero, time.perf_counter() - started, 0)
    for _ in range(DEARER):
        if blocks.lacks(mix):
            dear = dear * MUCH
            mix = blocks.climb(dear, FINE, until)
    choices, bound, exact = _placed(blocks, mix, dear, offset, rng, until)
    return _ended(blocks, choices, bound, offset, started, exact)


def _placed(
    blocks: Blocks, mix: Mix, dear: Floats, offset: float, rng: np.random.Generator, until: float
) -> tuple[tuple[Choice, ...] | None, float, int]:
    """Whole sets from the mix, a bound, and how many objects one exact program has held.

    Where whole sets cost more than the gap that is wanted, the heaviest objects are decided before the others.
    """
    total, close = len(blocks.labels), CLOSE * abs(mix.cost + offset)
    whole = made_whole(blocks, mix, dear, until)
    exact = 0
    if whole.cost - blocks.best > close or not kept(blocks, whole):
        turns = 1 if total > FEW and kept(blocks, whole) else TURNS
        whole, exact = improved(blocks, whole, close, rng, until, turns)
    if not kept(blocks, whole):
        return None, blocks.best, exact
    gap = whole.cost - blocks.best
    if gap <= close or total <= FEW:
        return chosen(blocks, whole), blocks.best, exact
    heavy = decide(blocks, gap, close / 3, dear, until)
    if heavy is None:
        whole, exact = improved(blocks, whole, close, rng, until)
        return chosen(blocks, whole), blocks.best, exact
    if whole.cost - heavy.bound <= close:
        return chosen(blocks, whole), heavy.bound, max(exact, len(heavy.objects))
    others = heavy.others
    rest, more = improved(others, made_whole(others, heavy.mix, dear, until), close / 2, rng, until)
    exact = max(exact, more, len(heavy.objects))
    if kept(others, rest) and heavy.cost + rest.cost < whole.cost:
        return heavy.joined(blocks.batches, chosen(others, rest)), max(blocks.best, heavy.bound), exact
    return chosen(blocks, whole), max(blocks.best, heavy.bound), exact


def _ended(
    blocks: Blocks, choices: tuple[Choice, ...] | None, bound: float, offset: float, started: float, exact: int
) -> Fleet:
    """The outcome; cost and use are summed anew from the choices, and each row is checked once more."""
    rows = len(blocks.limits)
    objective, used, status = np.inf, np.zeros(rows), Status.TIME_LIMIT
    if choices is not None:
        sums = [account(batch, choice, rows) for batch, choice in zip(blocks.batches, choices, strict=True)]
        objective = float(sum(cost.sum() for cost, _ in sums)) + offset
        used = np.sum([use.sum(axis=1) for _, use in sums], axis=0) if sums else used
        status = Status.FEASIBLE
    if (used - blocks.limits > SLACK * np.abs(blocks.limits)).any():
        choices, objective, used, status = None, np.inf, np.zeros(rows), Status.TIME_LIMIT
    fleet = Fleet(status, choices, objective, bound + offset, blocks.at, used, time.perf_counter() - started, exact)
    return replace(fleet, status=Status.OPTIMAL) if fleet.gap <= EXACT else fleet


def _price(free: Blocks, dear: Floats, rng: np.random.Generator, until: float) -> tuple[Blocks, Mix]:
    """The blocks of all objects and their mix, its prices sought on samples first."""
    prices, total = free.prices, len(free.labels)
    for wanted in SAMPLES:
        if 2 * wanted < total:
            share = wanted / total
            some = parts(free.batches, np.flatnonzero(rng.random(total) < share))
            blocks = Blocks(some, free.limits * share, alike(some, prices, BLOCKS // 4), prices)
            mix = blocks.climb(dear, ROUGH, until)
            active = np.flatnonzero(mix.shares.sum(axis=1) > ACTIVE * blocks.count)
            prices = [*(blocks.prices[number] for number in active), blocks.at, mix.prices]
    alone = total <= FEW
    blocks = Blocks(
        free.batches, free.limits, np.arange(total) if alone else alike(free.batches, prices, BLOCKS), prices
    )
    mix = blocks.climb(dear, EXACT if alone else FINE, until)
    if alone:  # whole sets of few objects fill the rows better where there are more of them
        for size in NUDGES:
            blocks.look(blocks.at * (1 + size * rng.uniform(-1, 1, len(dear))))
        mix = blocks.mix(blocks.limits, dear)
    return blocks, mix


def _impossible(free: Blocks, prices: Floats, until: float) -> bool:
    """Whether some prices prove, costs aside, that what objects must use exceeds the limits; sought from some on."""
    batches = [_without_costs(batch) for batch in free.batches]
    tried = [*free.prices, prices]
    blocks = Blocks(batches, free.limits, alike(batches, tried, BLOCKS), tried)
    blocks.climb(1 / free.scale, EXACT, until, enough=PROVEN)
    return blocks.best > PROVEN


def _without_costs(batch: Batch) -> Batch:
    """The same objects and rows, every open pair for nothing."""
    return replace(batch, hold=np.where(batch.hold >= CLOSED / 2, CLOSED, 0.0), serve=np.zeros_like(batch.serve))
