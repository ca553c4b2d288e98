"""The exact rest of a fleet: some objects that hang on the prices, solved by HiGHS in the room that all others leave.

Loaded by workers and benchmarks only. What stands may exceed rows or cost too much; each turn mends or betters it.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csc_array

from app.domain.placement_blocks import Blocks, Whole, parts
from app.domain.placement_kernel import Rows
from app.domain.pricing import Floats

REST = 900
"""Objects that are solved exactly in one turn."""
NEAR = 4
"""Of so many times as many that hang on the prices most, drawn anew for each turn."""
LOOKED_AT = 20_000
"""Those that hang on the prices are sought among so many, drawn at random."""
TOLERANCE = 1e-6
"""What HiGHS takes for kept of a row near 1."""


def better(blocks: Blocks, whole: Whole, seconds: float, gap: float, rng: np.random.Generator) -> Whole | None:
    """The same with some objects solved exactly, to within a gap in dollars; None when nothing fits the rows."""
    objects = _hanging(blocks, whole, rng)
    alone = Blocks(parts(blocks.batches, objects), blocks.limits, np.arange(len(objects)), blocks.prices)
    before = alone.sum(whole.taken[objects], alone.labels)
    others = whole.without(before)
    above = float(alone.above[before.taken, alone.labels].sum())
    rounds = _program(alone, blocks.limits - others.used, seconds, gap / (above or 1.0))
    return None if rounds is None else others.put(objects, alone.sum(rounds, alone.labels))


def _hanging(blocks: Blocks, whole: Whole, rng: np.random.Generator) -> Rows:
    """The objects that give or take most of a row at the least loss, and some at random."""
    total = len(whole.taken)
    if total <= REST:
        return np.arange(total)
    drawn = np.sort(rng.choice(total, min(total, LOOKED_AT), replace=False))
    alone = Blocks(parts(blocks.batches, drawn), blocks.limits, np.arange(len(drawn)), blocks.prices)
    now = (whole.taken[drawn], np.arange(len(drawn)))
    worth = alone.cost + np.einsum("r,krn->kn", blocks.at, alone.usage)
    given = (np.abs(alone.usage - alone.usage[now[0], :, now[1]].T) / blocks.scale[:, None]).max(axis=1)
    loss = np.abs(worth - worth[now])
    ratio = np.divide(loss, given, out=np.full(loss.shape, np.inf), where=given > 0).min(axis=0)
    nearest = np.lexsort((rng.random(len(drawn)), ratio))[: NEAR * REST]
    return np.sort(drawn[rng.choice(nearest, REST, replace=False)])


def _program(alone: Blocks, room: Floats, seconds: float, gap: float) -> Rows | None:
    """[object] the round of which each takes its set, at the least cost that keeps to the room."""
    rounds, objects = at = np.nonzero(alone.fresh)
    above = alone.above[at]
    money = float(above.mean()) or 1.0
    usage = alone.usage[rounds, :, objects].T
    units = np.maximum(np.abs(room), np.abs(usage).max(axis=1, initial=0.0))
    units = np.where(units > 0, units, 1.0)
    once = csc_array((np.ones(len(objects)), (objects, np.arange(len(objects)))))
    tight = room - TOLERANCE * units
    for _ in range(3):
        solved = milp(
            above / money,
            integrality=np.ones(len(objects)),
            bounds=Bounds(0, 1),
            constraints=[
                LinearConstraint(once, 1, 1),
                LinearConstraint(csc_array(usage / units[:, None]), -np.inf, tight / units),
            ],
            options={"time_limit": max(seconds, 0.1), "mip_rel_gap": float(np.clip(gap, 1e-9, 0.5))},
        )
        if solved.x is None:
            return None
        chosen = solved.x > 0.5
        over = usage[:, chosen].sum(axis=1) - room
        if not (over > 1e-10 * units).any():
            taken = np.zeros(alone.count, int)
            taken[objects[chosen]] = rounds[chosen]
            return taken
        tight = tight - 2 * np.maximum(over, 0.0)
    return None
