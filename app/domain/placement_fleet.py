"""The fleet solver: where all objects' copies should lie when rows couple them, with a certified gap.

Prices on the rows are sought on samples, then on all objects, which are mixed in blocks until the cost meets the bound;
the mix is made whole, and what hangs on the prices is solved exactly. Loaded by workers and benchmarks only (scipy).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from app.domain.placement_blocks import Blocks, Mix, Whole, alike, parts
from app.domain.placement_kernel import CLOSED, Batch, Choice, account, cheapest
from app.domain.placement_rest import REST, better
from app.domain.pricing import Floats

SAMPLES = (1_000, 20_000)
"""Objects on which the prices are sought before all are looked at."""
BLOCKS = 500
"""Objects that choose alike are mixed together, in so many blocks."""
ROUGH, FINE = 1e-4, 1e-6
"""The gap at which a sample's prices will do, and that at which those of all objects will."""
DEAR = 10.0
"""What exceeding a row by all of its limit costs at first, in the cost of all objects."""
ACTIVE = 1e-3
"""Prices with a smaller share of a sample's mix are not looked at again."""
WHOLE = 8
"""Turns in which the mix is made whole, each time in less room."""
CLOSE = 1e-5
"""A gap that no exact rest need better."""
TURNS, TURN_S = 6, 4.0
"""Turns of the exact rest at most, and seconds for each."""
NUDGES = (0.02, 0.05, 0.1, 0.3)
"""How far prices are moved for further sets of few objects, so that whole ones fill what the rows leave."""
WIDER = (1.0, 30.0, 1e3, 1e5)
"""How much dearer each row is made in turn where no whole sets fit, in the mean cost of an object for all its limit."""
PROVEN = 1e-7
"""What objects must use beyond the limits at some prices, relative to the limits: more is no rounding."""
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
    if _kept(free, whole):
        return _ended(free, whole, offset, started, 0)
    dear = DEAR * (abs(free.best) or 1.0) / free.scale
    blocks, mix = _price(free, dear, rng, until)
    if (mix.short > PROVEN * blocks.scale).any() and _impossible(free, until):
        zero = np.zeros(len(limits))
        return Fleet(Status.INFEASIBLE, None, np.inf, np.inf, zero, zero, time.perf_counter() - started, 0)
    whole, exact = _improved(blocks, _whole(blocks, mix, dear, until), offset, rng, until)
    return _ended(blocks, whole, offset, started, exact)


def _kept(blocks: Blocks, whole: Whole) -> bool:
    return bool((whole.used - blocks.limits <= SLACK / 2 * np.abs(blocks.limits)).all())


def _improved(blocks: Blocks, whole: Whole, offset: float, rng: np.random.Generator, until: float) -> tuple[Whole, int]:
    """Turns of the exact rest, until the gap is small; and how many objects one turn has held."""
    total, kept, turn = len(blocks.labels), _kept(blocks, whole), 0
    while turn < TURNS and time.perf_counter() < until:
        if kept and (whole.cost - blocks.best <= CLOSE * abs(whole.cost + offset) or (turn and total <= REST)):
            break
        if turn and not kept:
            _spare(blocks, WIDER[min(turn, len(WIDER)) - 1])
        left = min(TURN_S, until - time.perf_counter())
        found = better(blocks, whole, left, FINE * abs(whole.cost + offset), rng)
        turn += 1
        if found is not None and _kept(blocks, found) and (not kept or found.cost < whole.cost):
            whole, kept = found, True
    return whole, min(REST, total) * (turn > 0)


def _spare(blocks: Blocks, factor: float) -> None:
    """Looks at sets that spare one row, each in turn: those at hand do not fit the limits as wholes."""
    unit = factor * abs(blocks.best) / blocks.scale / len(blocks.labels)
    for row in range(len(unit)):
        blocks.look(blocks.at + np.where(np.arange(len(unit)) == row, unit, 0.0))


def _ended(blocks: Blocks, whole: Whole, offset: float, started: float, exact: int) -> Fleet:
    """The outcome; cost and use are summed anew from the choices, and each row is checked once more."""
    choices = tuple(_choices(blocks, whole))
    sums = [account(batch, choice, len(blocks.limits)) for batch, choice in zip(blocks.batches, choices, strict=True)]
    objective = float(sum(cost.sum() for cost, _ in sums)) + offset
    used = np.sum([use.sum(axis=1) for _, use in sums], axis=0) if sums else np.zeros(len(blocks.limits))
    kept = (used - blocks.limits <= SLACK * np.abs(blocks.limits)).all()
    fleet = Fleet(
        Status.FEASIBLE, choices, objective, blocks.best + offset, blocks.at, used, time.perf_counter() - started, exact
    )
    if not kept:
        return replace(fleet, status=Status.TIME_LIMIT, choices=None, objective=np.inf, used=np.zeros(len(used)))
    return replace(fleet, status=Status.OPTIMAL) if fleet.gap <= EXACT else fleet


def _choices(blocks: Blocks, whole: Whole) -> Iterator[Choice]:
    """The sets that objects take, by batch."""
    start = 0
    for batch in blocks.batches:
        taken = whole.taken[start : start + batch.size]
        held, read = np.zeros(batch.hold.shape, bool), np.zeros(batch.hold.shape, bool)
        for number in np.unique(taken):
            objects = np.flatnonzero(taken == number)
            choice = cheapest(batch.take(objects), blocks.prices[number])
            held[:, objects], read[:, objects] = choice.held, choice.read
        yield Choice(held, read)
        start += batch.size


def _price(free: Blocks, dear: Floats, rng: np.random.Generator, until: float) -> tuple[Blocks, Mix]:
    """The blocks of all objects and their mix, its prices sought on samples first."""
    prices, total = free.prices, len(free.labels)
    for wanted in SAMPLES:
        if 2 * wanted < total:
            share = wanted / total
            some = parts(free.batches, np.flatnonzero(rng.random(total) < share))
            blocks = Blocks(some, free.limits * share, alike(some, prices, BLOCKS), prices)
            mix = blocks.climb(dear, ROUGH, until)
            active = np.flatnonzero(mix.shares.sum(axis=1) > ACTIVE * blocks.count)
            prices = [*(blocks.prices[number] for number in active), blocks.at, mix.prices]
    alone = total <= REST
    blocks = Blocks(
        free.batches, free.limits, np.arange(total) if alone else alike(free.batches, prices, BLOCKS), prices
    )
    mix = blocks.climb(dear, EXACT if alone else FINE, until)
    if alone:  # whole sets of few objects fill the rows better where there are more of them
        for size in NUDGES:
            blocks.look(blocks.at * (1 + size * rng.uniform(-1, 1, len(dear))))
        mix = blocks.mix(blocks.limits, dear)
    return blocks, mix


def _whole(blocks: Blocks, mix: Mix, dear: Floats, until: float) -> Whole:
    """The mix made whole: where it exceeds a row, again in less room."""
    room = blocks.limits
    whole = blocks.whole(mix, room, dear)
    for turn in range(WHOLE):
        if _kept(blocks, whole) or time.perf_counter() > until:
            break
        room = room - 2.0**turn * np.maximum(whole.used - blocks.limits, 0.0)
        whole = blocks.whole(blocks.mix(room, dear), room, dear)
    return whole


def _impossible(free: Blocks, until: float) -> bool:
    """Whether some prices prove, costs aside, that what objects must use exceeds the limits."""
    batches = [_without_costs(batch) for batch in free.batches]
    blocks = Blocks(batches, free.limits, alike(batches, free.prices, BLOCKS), free.prices)
    blocks.climb(1 / free.scale, EXACT, until, enough=PROVEN)
    return blocks.best > PROVEN


def _without_costs(batch: Batch) -> Batch:
    """The same objects and rows, every open pair for nothing."""
    return replace(batch, hold=np.where(batch.hold >= CLOSED / 2, CLOSED, 0.0), serve=np.zeros_like(batch.serve))
