"""Objects by day as the tiering loops take them: all of a history, or today alone (step: learn, plan).

The decision of a day uses nothing of that day or later.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ml.tiering_loops import cells, idle_and_recent
from ml.tiering_past import Means, Past
from ml.tiering_types import PRIOR_DAYS, WRITTEN, Floats, Grid, Ints, Rates


class Now(NamedTuple):
    """Objects as of today: a grid of one day, with the rates and cells that go with it."""

    grid: Grid
    rates: Rates
    cell: Ints


def now(past: Past, means: Means) -> Now:
    """Today. past.cohort: places in the arrays of `means`."""
    n, faded = len(past.birth), past.faded()
    prior = np.array(PRIOR_DAYS)[:, None]
    full = (faded.full + prior * means.full[:, past.cohort]) / (faded.days + prior)
    reads = (faded.reads + prior * means.reads[:, past.cohort]) / (faded.days + prior)
    rates = Rates(np.ascontiguousarray(full[:, :, None]), np.ascontiguousarray(reads[:, :, None]))
    none, first = np.zeros((n, 1)), np.zeros(n, np.int64)
    idle, recent = past.idle()[:, None], past.recent()[:, None]
    grid = Grid(none, none, np.zeros((n, 1), np.int8), first, idle, recent, past.cohort)
    cell = np.zeros((n, 1), np.int64)
    cells(grid, rates, cell)
    return Now(grid, rates, cell)


def whole(past: Past) -> Grid:
    """Every day with its reads, and today without any: what is learned from."""
    shape = (len(past.birth), past.today + 1)
    reads, share, event = np.zeros(shape), np.zeros(shape), np.zeros(shape, np.int8)
    reads[past.object, past.day] = past.reads
    share[past.object, past.day] = past.share
    event[past.object[past.written], past.day[past.written]] = WRITTEN
    return prepare(reads, share, event, past.birth, past.cohort)


def prepare(reads: Floats, share: Floats, event: np.ndarray, birth: Ints, cohort: Ints | None = None) -> Grid:
    """The grid with what follows from it: idle and recent days. cohort: by default all objects are of one."""
    zeros = np.zeros(reads.shape, np.int64)
    together = np.zeros(len(birth), np.int64)
    grid = Grid(reads, share, event, birth, zeros, zeros.copy(), together if cohort is None else cohort)
    idle_and_recent(grid)
    return grid
