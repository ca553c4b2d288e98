"""Which moves of a replay paid back: what followed each, set against the same accesses had the object stayed."""

from __future__ import annotations

import numpy as np

from ml.tiering_types import DELETED, WRITTEN, Bytes, Floats, Grid, Ints, Ladder


def paid_back(grid: Grid, ladder: Ladder, where: Bytes, first: int, last: int) -> tuple[int, int]:
    """How many moves of a played policy paid back, and how many there were.

    where: [n, T] the class of each object by day; all begin in class 0 on day `first`, or when they are born. A move is
    judged until the object's next move, its overwriting, deletion or the last day: what the class then cost, the change
    and what was left of its minimum days, against the class before. What leaving that one early cost is its own.
    """
    days = np.arange(first, last)
    now, begin = where[:, first:last], np.maximum(first, grid.birth)
    before = np.concatenate([np.zeros((len(now), 1), now.dtype), now[:, :-1]], axis=1)
    event = grid.event[:, first:last]
    anew = (event == WRITTEN) & (days > grid.birth[:, None])
    moved = (now != before) & ~anew & (event != DELETED) & (days >= begin[:, None])
    ends = (now != before) | anew | (event == DELETED)
    thing, at = np.nonzero(moved)
    if not len(thing):
        return 0, 0
    until = _next(ends)[thing, at]
    source, target = before[thing, at], now[thing, at]
    gain = -ladder.change[source, target] - ladder.full[source, thing]
    left = np.maximum(0, ladder.min_days[target] - (until - at))
    gain -= left * ladder.day[target, thing]
    for c in range(len(ladder.get)):
        spent = _spent(grid, ladder, c, first, last)
        cost = spent[thing, until] - spent[thing, at]
        gain += np.where(source == c, cost, 0.0) - np.where(target == c, cost, 0.0)
    return int((gain > 0).sum()), len(thing)


def _next(ends: np.ndarray) -> Ints:
    """[n, days] the first day after each on which a stay ends; the number of days where none does."""
    n, days = ends.shape
    marked = np.where(ends, np.arange(days), days)
    following = np.minimum.accumulate(marked[:, ::-1], axis=1)[:, ::-1]
    return np.concatenate([following[:, 1:], np.full((n, 1), days)], axis=1)


def _spent(grid: Grid, ladder: Ladder, c: int, first: int, last: int) -> Floats:
    """[n, days + 1] $ for storage and reads in a class before each day, added up."""
    part = slice(first, last)
    day = np.broadcast_to(ladder.day[c][:, None], (len(grid.birth), last - first))
    if c == ladder.managed:
        idle = np.where(grid.reads[:, part] > 0, 0, grid.idle[:, part])
        for after, price in zip(ladder.steps_after, ladder.steps_day, strict=True):
            day = np.where(idle >= after, price[:, None], day)
    cost = day + grid.reads[:, part] * ladder.get[c] + grid.share[:, part] * ladder.full[c][:, None]
    return np.concatenate([np.zeros((len(cost), 1)), np.cumsum(cost, axis=1)], axis=1)
