"""Backward through time: the least that objects can cost, and what each class is worth under a policy.

Compiled. Accesses do not depend on us, so one pass gives the exact cost of every (class, days left).
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from ml.tiering_fees import change, owed, stay
from ml.tiering_loops import worth
from ml.tiering_types import DELETED, WRITTEN, Bytes, Floats, Grid, Ints, Ladder

CLIP = 0.3
"""$ a GB: more than that is an outlier of one object."""


@njit(cache=True, fastmath=True, error_model="numpy")
def clairvoyant(grid: Grid, ladder: Ladder, first: int, last: int, usd: Floats, where: Ints) -> None:
    """The least that each object can cost: backward dynamic programme over (class, days left); sets usd [n].

    Every object begins in class 0; the managed class is not on offer. Exact, since objects do not depend on each other
    (design: Methods, "Clairvoyant optimum"). Sets where [n, T] to the classes that cost it, for a FOLLOW.
    """
    k = len(ladder.get) - (1 if ladder.managed >= 0 else 0)
    most = int(ladder.min_days[:k].max()) + 1
    value, later = np.zeros((k, most)), np.zeros((k, most))
    choice = np.zeros((last - first, k, most), np.int8)
    for i in range(len(usd)):
        begin = max(first, grid.birth[i])
        if begin < last:
            usd[i] = _cheapest(grid, ladder, i, k, begin, last, value, later, choice)
            c, left = 0, 0
            for t in range(begin, last):
                wanted = 0 if grid.event[i, t] == WRITTEN and t > grid.birth[i] else choice[t - begin, c, left]
                if wanted != c or grid.event[i, t] == WRITTEN:
                    c, left = wanted, ladder.min_days[wanted]
                where[i, t] = c
                left = max(0, left - 1)
                if grid.event[i, t] == DELETED:
                    c, left = 0, 0


@njit(cache=True, fastmath=True, error_model="numpy")
def _cheapest(
    grid: Grid, ladder: Ladder, i: int, k: int, begin: int, last: int, value: Floats, later: Floats, choice: Bytes
) -> float:
    """The least cost of one object from class 0 on; choice [day, class, days left]: where to go then."""
    for c in range(k):
        for left in range(ladder.min_days[c] + 1):
            later[c, left] = owed(ladder, i, c, left)
    gone, day, enter = 0.0, np.zeros(k), np.zeros(k)
    for t in range(last - 1, begin - 1, -1):
        written, exists = grid.event[i, t] == WRITTEN and t > grid.birth[i], grid.birth[i] < t
        for c in range(k):
            day[c] = ladder.day[c, i] + grid.reads[i, t] * ladder.get[c] + grid.share[i, t] * ladder.full[c, i]
            if grid.event[i, t] == DELETED:
                for left in range(ladder.min_days[c] + 1):
                    later[c, left] = owed(ladder, i, c, left) + gone
        anew = ladder.put + day[0] + later[0, 0]
        for c in range(k):
            enter[c] = day[c] + later[c, max(ladder.min_days[c] - 1, 0)]
        for c in range(k):
            for left in range(ladder.min_days[c] + 1):
                best, wanted = day[c] + later[c, max(left - 1, 0)], c
                if written:
                    best, wanted = owed(ladder, i, c, left) + anew, 0
                elif exists:
                    for b in range(k):
                        usd = change(ladder, i, c, b) + owed(ladder, i, c, left) + enter[b]
                        if b != c and usd < best:
                            best, wanted = usd, b
                value[c, left] = best
                choice[t - begin, c, left] = wanted
        gone = anew if written else gone
        later[:] = value
    return float(later[0, 0])


@njit(cache=True, fastmath=True, error_model="numpy")
def backward(
    grid: Grid, ladder: Ladder, cell: Ints, size_gb: Floats, fold: Ints, tables: Floats, clairvoyantly: bool,
    first: int, last: int, trusted: int, sums: Floats, weights: Floats,
) -> None:  # fmt: skip
    """One pass of the policy iteration: what every (class, days left) costs under the policy of `tables` [2, cells].

    Adds, a GB, clipped and weighted by the root of the size, the difference to the base class with no and with all days
    left to sums [2, CELLS, 2·(k−1)] of the fold that the object is not in. Days from `trusted` on only end the sums.
    """
    k = len(ladder.get) - (1 if ladder.managed >= 0 else 0)
    most = 1
    for c in range(k):
        most = max(most, ladder.min_days[c] + 1)
    value, later = np.zeros((k, most)), np.zeros((k, most))
    enter, day, valued = np.zeros(k), np.zeros(k), np.zeros(k)
    for i in range(len(size_gb)):
        if grid.birth[i] >= last - 2 or not ladder.may[1:k, i].any():
            continue
        gb, mine, base = size_gb[i], fold[i], ladder.base[i]
        weight = math.sqrt(gb)
        for c in range(k):
            for left in range(ladder.min_days[c] + 1):
                later[c, left] = owed(ladder, i, c, left)
        for t in range(last - 1, max(first, grid.birth[i]) - 1, -1):
            at = cell[i, t]
            for c in range(k):
                day[c] = ladder.day[c, i] + grid.reads[i, t] * ladder.get[c] + grid.share[i, t] * ladder.full[c, i]
            if base == ladder.managed:
                idle = 0.0 if grid.reads[i, t] > 0 else float(grid.idle[i, t])
                day[0] = stay(ladder, i, base, idle) + grid.reads[i, t] * ladder.get[base]
            for c in range(k):
                enter[c] = day[c] + later[c, max(ladder.min_days[c] - 1, 0)]
            if grid.birth[i] < t < trusted:
                for c in range(1, k):
                    none = (day[c] + later[c, 0] - enter[0]) / gb
                    whole = (enter[c] - enter[0]) / gb
                    sums[1 - mine, at, 2 * (c - 1)] += weight * min(max(none, -CLIP), CLIP)
                    sums[1 - mine, at, 2 * (c - 1) + 1] += weight * min(max(whole, -CLIP), CLIP)
                weights[1 - mine, at] += weight
            for c in range(k):
                valued[c] = 0.0 if c == 0 else worth(tables[mine], at, c, 1.0)
            for c in range(k):
                for left in range(ladder.min_days[c] + 1):
                    best = day[c] + later[c, max(left - 1, 0)]
                    fill = min(1.0, left / max(ladder.min_days[c] - 1, 1))
                    believed = 0.0 if c == 0 else worth(tables[mine], at, c, fill)
                    for b in range(k):
                        if b == c or grid.birth[i] >= t:
                            continue
                        fee = change(ladder, i, c, b) + owed(ladder, i, c, left)
                        if clairvoyantly:
                            best = min(best, fee + enter[b])
                        elif fee / gb + valued[b] < believed:
                            believed = fee / gb + valued[b]
                            best = fee + enter[b]
                    value[c, left] = best
            value, later = later, value
