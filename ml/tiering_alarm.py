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
HASTE = 0.25
"""What reads must have cost, of what coming back costs, on a day with an alarm."""
HASTY = rules((STAY, NEVER, NEVER, 0, HASTE))
SILENT = rules(*[(STAY, NEVER, NEVER, 0, 0)] * 3)


class Reads(NamedTuple):
    """Of each object over some days: [n] whole objects and requests."""

    full: Floats
    requests: Floats


def rings(ladder: Ladder, c: Ints, read: Reads, expected: Reads) -> bool:
    """Whether reads of objects in colder classes have cost too much. c [n]: the class in which they were read."""
    cold = (c != 0) & (c != ladder.managed)
    full, get = ladder.full[c, np.arange(len(c))] * cold, (ladder.get[c] - ladder.get[0]) * cold
    paid = read.full * full + read.requests * get
    wanted = float((expected.full * full + expected.requests * get).sum())
    return bool(paid.sum() - ERRORS * np.sqrt((paid**2).sum()) > TIMES * wanted)


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
    return rings(ladder, c, read, Reads(rates.full[0, :, begin] * days, rates.reads[0, :, begin] * days))


def rings_today(ladder: Ladder, past: Past, means: Means, c: Ints, since: Ints) -> bool:
    """The same for objects as they lie today. c, since [n]: the class of each, and its days in it."""
    n, begin = len(c), max(past.today - LATELY_DAYS, 0)
    days, rates = np.minimum(since, past.today - begin), now(past.before(begin), means).rates
    some = past.day >= past.today - days[past.object]
    full, requests = (np.bincount(past.object[some], of[some], n).astype(float) for of in (past.share, past.reads))
    return rings(ladder, c, Reads(full, requests), Reads(rates.full[0, :, 0] * days, rates.reads[0, :, 0] * days))


def hasty(panel: Panel) -> Panel:
    """The panel on a day with an alarm: no voter asks for anything but what reads bring back."""
    return replace(panel, rule=HASTY, by=SILENT, table=np.zeros((0, 0)))


def _played(known: Learned, grid: Grid, ladder: Ladder, size_gb: Floats, first: int) -> Bytes:
    n, days = grid.reads.shape
    where, spent = np.zeros((n, days), np.int8), (np.zeros((n, COMPONENTS)), np.zeros(days), np.zeros(n, np.int64))
    play(grid, ladder, known.signals, size_gb, known.rule, known.rule_at, known.by, first, days, *spent, where)
    return where
