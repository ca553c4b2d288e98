"""A fleet's alarm: what lies in colder classes is read far more than was expected of all of it together (step: learn).

No object alone tells of it in time. On a day with an alarm nothing is demoted, and reads bring an object back once they
have cost a part of what coming back costs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ml.tiering import Learned, rules, together
from ml.tiering_grid import now
from ml.tiering_loops import play
from ml.tiering_past import Means, Past
from ml.tiering_types import COMPONENTS, NEVER, STAY, Bytes, Floats, Grid, Ints, Ladder
from ml.tiering_votes import Panel

LATELY_DAYS = 7
"""The days on which reads are listened to."""
TIMES = 2.0
ERRORS = 1.5
"""Reads of these days have cost over so many times what was expected, and so many standard errors on top."""
HABIT_DAYS = 92
"""And over so many times what as many days on end had cost in these before: ends of months and quarters recur."""
HASTE = 0.25
"""What reads must have cost, of what coming back costs, on a day with an alarm."""
HASTY = rules((STAY, NEVER, NEVER, 0, HASTE))
SILENT = rules(*[(STAY, NEVER, NEVER, 0, 0)] * 3)


class Reads(NamedTuple):
    """Of each object over some days: [n] whole objects and requests."""

    full: Floats
    requests: Floats

    def usd(self, ladder: Ladder, c: Ints) -> Floats:
        """[n] $ that they cost in colder classes beyond the first. c [n]: the class of each object."""
        cold = (c != 0) & (c != ladder.managed)
        full, get = ladder.full[c, np.arange(len(c))], ladder.get[c] - ladder.get[0]
        return np.asarray((self.full * full + self.requests * get) * cold)


def at_least(paid: Floats) -> float:
    """$ that reads have surely cost; paid [n]: of each object."""
    return float(paid.sum() - ERRORS * np.sqrt((paid**2).sum()))


def dearest(daily: Floats, squares: Floats, length: int) -> float:
    """The most that reads have surely cost in so many days on end. daily, squares [days]: of all objects summed."""
    if not 0 < length <= len(daily):
        return 0.0
    runs = [np.convolve(of, np.ones(length), "valid") for of in (daily, squares)]
    return float((runs[0] - ERRORS * np.sqrt(np.maximum(runs[1], 0.0))).max())


def alarmed(known: Learned, grid: Grid, ladder: Ladder, size_gb: Floats, first: int) -> Learned:
    """The same, hasty on days with an alarm; all objects are in class 0 on day `first`."""
    last, hasty = grid.reads.shape[1], len(known.rule.kind)
    known = replace(known, rule=together(known.rule, HASTY), rule_at=known.rule_at.copy())
    where = _played(known, grid, ladder, size_gb, first)
    for t in range(first + 1, last):
        if rings_on(known, grid, ladder, where, first, t):
            known.rule_at[t] = hasty
            where = _played(known, grid, ladder, size_gb, first)
    return known


def rings_on(known: Learned, grid: Grid, ladder: Ladder, where: Bytes, first: int, t: int) -> bool:
    """Whether there is an alarm at the beginning of a day, by the days before. where [n, T]: the classes on them."""
    begin, c = max(first, t - LATELY_DAYS), where[:, t - 1].astype(np.int64)
    here = np.logical_and.accumulate((where[:, begin:t] == c[:, None])[:, ::-1], axis=1)[:, ::-1]
    days, rates = here.sum(axis=1), known.signals.rates
    read = Reads((grid.share[:, begin:t] * here).sum(axis=1), (grid.reads[:, begin:t] * here).sum(axis=1))
    paid, expected = read.usd(ladder, c), Reads(rates.full[0, :, begin] * days, rates.reads[0, :, begin] * days)
    if at_least(paid) <= TIMES * expected.usd(ladder, c).sum():
        return False
    earlier = range(max(0, begin - HABIT_DAYS), begin)
    costs = [Reads(grid.share[:, day], grid.reads[:, day]).usd(ladder, c) for day in earlier]
    daily, squares = np.array([usd.sum() for usd in costs]), np.array([(usd**2).sum() for usd in costs])
    return at_least(paid) > TIMES * dearest(daily, squares, int((days * (c != 0)).max()))


def rings_today(ladder: Ladder, past: Past, means: Means, c: Ints, since: Ints) -> bool:
    """The same for objects as they lie today. c, since [n]: the class of each, and its days in it."""
    n, begin = len(c), max(past.today - LATELY_DAYS, 0)
    days, rates = np.minimum(since, past.today - begin), now(past.before(begin), means).rates
    some = past.day >= past.today - days[past.object]
    full, requests = (np.bincount(past.object[some], of[some], n).astype(float) for of in (past.share, past.reads))
    paid, expected = (
        Reads(full, requests).usd(ladder, c),
        Reads(rates.full[0, :, 0] * days, rates.reads[0, :, 0] * days),
    )
    if at_least(paid) <= TIMES * expected.usd(ladder, c).sum():
        return False
    first = max(0, begin - HABIT_DAYS)
    some = (past.day >= first) & (past.day < begin)
    row = past.object[some]
    each = Reads(np.ones(n), np.zeros(n)).usd(ladder, c)[row], Reads(np.zeros(n), np.ones(n)).usd(ladder, c)[row]
    spent = past.share[some] * each[0] + past.reads[some] * each[1]
    daily, squares = (np.bincount(past.day[some] - first, of, begin - first) for of in (spent, spent**2))
    return at_least(paid) > TIMES * dearest(daily.astype(float), squares.astype(float), int((days * (c != 0)).max()))


def hasty(panel: Panel) -> Panel:
    """The panel on a day with an alarm: no voter asks for anything but what reads bring back."""
    return replace(panel, rule=HASTY, by=SILENT, table=np.zeros((0, 0)))


def _played(known: Learned, grid: Grid, ladder: Ladder, size_gb: Floats, first: int) -> Bytes:
    n, days = grid.reads.shape
    where, spent = np.zeros((n, days), np.int8), (np.zeros((n, COMPONENTS)), np.zeros(days), np.zeros(n, np.int64))
    play(grid, ladder, known.signals, size_gb, known.rule, known.rule_at, known.by, first, days, *spent, where)
    return where
