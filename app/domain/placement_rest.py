"""Whole sets from a mix: its shares made whole, then some objects at a time solved exactly by HiGHS.

Loaded by workers and benchmarks only. What stands may exceed rows or cost too much; each turn mends or betters it.
"""

from __future__ import annotations

import time

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csc_array, hstack

from app.domain.placement_blocks import Blocks, Mix, Whole, parts
from app.domain.placement_kernel import Choice, Rows, cheapest
from app.domain.pricing import Floats

SLACK = 1e-9
"""What sums of floating-point numbers may differ by, relative to a row's limit."""
WHOLE = 8
"""Turns in which the mix is made whole, each time in less room."""
TURNS, NODES = 6, 100
"""Turns of the exact rest at most, and how much HiGHS branches in each: a clock would decide otherwise each time."""
REST = 600
"""Objects that are solved exactly in one turn."""
LOOKED_AT = 10_000
"""Those that hang on the prices are sought among so many, drawn at random."""
WIDER = (1.0, 30.0, 1e3, 1e5)
"""How much dearer each row is made in turn where no whole sets fit, in the mean cost of an object for all its limit."""
TIGHTER = 1e-7
"""What is left of each row, relative to it, so that HiGHS's tolerance does not exceed it."""
SHARE = 0.02
"""A turn ends when so much of the gap is left to prove."""


def kept(blocks: Blocks, whole: Whole) -> bool:
    """Whether every row is kept."""
    return bool((whole.used - blocks.limits <= SLACK / 2 * np.abs(blocks.limits)).all())


def made_whole(blocks: Blocks, mix: Mix, dear: Floats, until: float) -> Whole:
    """The mix made whole: where it exceeds a row, again in less room."""
    room = blocks.limits
    whole = blocks.whole(mix, room, dear)
    for turn in range(WHOLE):
        if kept(blocks, whole) or time.perf_counter() > until:
            break
        room = room - 2.0**turn * np.maximum(whole.used - blocks.limits, 0.0)
        whole = blocks.whole(blocks.mix(room, dear), room, dear)
    return whole


def improved(
    blocks: Blocks, whole: Whole, close: float, rng: np.random.Generator, until: float, turns: int = TURNS
) -> tuple[Whole, int]:
    """Turns of the exact rest, until the cost is within `close` dollars of the bound; and how many objects one held."""
    small, fits, turn = len(blocks.labels) <= REST, kept(blocks, whole), 0
    while turn < turns and time.perf_counter() < until:
        if fits and (whole.cost - blocks.best <= close or (turn and small)):
            break
        if turn and not fits:
            _spare(blocks, WIDER[min(turn, len(WIDER)) - 1])
        found = _better(blocks, whole, until - time.perf_counter(), rng)
        turn += 1
        if found is not None and kept(blocks, found) and (not fits or found.cost < whole.cost):
            whole, fits = found, True
    return whole, min(REST, len(blocks.labels)) * (turn > 0)


def chosen(blocks: Blocks, whole: Whole) -> tuple[Choice, ...]:
    """The sets that objects take, by batch."""
    result, start = [], 0
    for batch in blocks.batches:
        taken = whole.taken[start : start + batch.size]
        held, read = np.zeros(batch.hold.shape, bool), np.zeros(batch.hold.shape, bool)
        for number in np.unique(taken):
            objects = np.flatnonzero(taken == number)
            choice = cheapest(batch.take(objects), blocks.prices[number])
            held[:, objects], read[:, objects] = choice.held, choice.read
        result.append(Choice(held, read))
        start += batch.size
    return tuple(result)


def _spare(blocks: Blocks, factor: float) -> None:
    """Looks at sets that spare one row, each in turn: those at hand do not fit the limits as wholes."""
    at, unit = blocks.at, factor * abs(blocks.best) / blocks.scale / len(blocks.labels)
    for row in range(len(unit)):
        blocks.look(at + np.where(np.arange(len(unit)) == row, unit, 0.0))


def _better(blocks: Blocks, whole: Whole, seconds: float, rng: np.random.Generator) -> Whole | None:
    """The same with some objects solved exactly; None when nothing fits the rows.

    Sets that lose more than the gap at the best prices are no part of anything better, and are left out.
    """
    prices, total = blocks.at, len(blocks.labels)
    gap = max(whole.cost - blocks.best, 0.0) if kept(blocks, whole) else np.inf
    drawn = np.sort(rng.choice(total, min(total, LOOKED_AT), replace=False))
    alone = Blocks(parts(blocks.batches, drawn), blocks.limits, np.arange(len(drawn)), blocks.prices)
    loss, span = alone.apart(prices, blocks.scale)
    open_ = alone.fresh & (loss <= gap)
    open_[whole.taken[drawn], alone.labels] = True
    picked = _hanging(np.where(open_, loss, np.inf), np.where(open_, span, 0.0), rng)
    before = alone.sum(whole.taken[drawn], picked)
    others = Whole(whole.taken, whole.cost - before.cost, whole.used - before.used)
    rounds, owner = np.nonzero(open_[:, picked])
    usage = alone.usage[rounds, :, picked[owner]].T / blocks.scale[:, None]
    room = (blocks.limits - others.used) / blocks.scale - TIGHTER
    taken = _program(owner, loss[rounds, picked[owner]], usage, room, prices * blocks.scale, seconds)
    if taken is None:
        return None
    at = whole.taken[drawn]
    at[picked[owner[taken]]] = rounds[taken]
    after = alone.sum(at, picked)
    result = whole.taken.copy()
    result[drawn] = at
    return Whole(result, others.cost + after.cost, others.used + after.used)


def _hanging(loss: Floats, span: Floats, rng: np.random.Generator) -> Rows:
    """Of the objects that may change: those that give most of a row for the least loss, the heaviest, and any."""
    ratio = np.divide(loss, span, out=np.full(loss.shape, np.inf), where=span > 0).min(axis=0)
    heaviest = span.max(axis=0)
    free = np.flatnonzero((heaviest > 0) | (loss.min(axis=0) > 0))
    picked = np.zeros(len(heaviest), bool)
    for rank in (ratio, -heaviest, rng.random(len(heaviest))):
        left = free[~picked[free]]
        picked[left[np.argsort(rank[left], kind="stable")[: REST // 3]]] = True
    return np.flatnonzero(picked)


def _program(owner: Rows, loss: Floats, usage: Floats, room: Floats, prices: Floats, seconds: float) -> Rows | None:
    """The columns that are taken: one an owner, at the least loss at the prices, room left over being lost as well."""
    columns, rows = len(owner), len(room)
    cost = np.concatenate([loss, prices])
    unit = float(loss[loss > 0].mean()) if (loss > 0).any() else 1.0
    once = csc_array(
        (np.ones(columns), (owner, np.arange(columns))), shape=(int(owner.max(initial=-1)) + 1, columns + rows)
    )
    solved = milp(
        cost / unit,
        integrality=np.concatenate([np.ones(columns), np.zeros(rows)]),
        bounds=Bounds(0, np.concatenate([np.ones(columns), np.full(rows, np.inf)])),
        constraints=[
            LinearConstraint(once, 1, 1),
            LinearConstraint(hstack([csc_array(usage), csc_array(np.eye(rows))], format="csc"), room, room),
        ],
        options={"time_limit": max(seconds, 0.1), "mip_rel_gap": SHARE, "node_limit": NODES},
    )
    return None if solved.x is None else np.flatnonzero(solved.x[:columns] > 0.5)
