"""A trace by day: what each object was read and written, and what is assumed of what the trace does not say."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Self

import numpy as np

from app.domain.prices import GB
from app.errors import Invalid
from app.lab.epochs import BY_DAY, Epoch
from app.lab.traces import OPS, Trace
from ml.history import DAY
from ml.tiering_grid import prepare
from ml.tiering_types import DELETED, WRITTEN, Floats, Grid, Ints

LEAST_DAYS = 4
MOST_CELLS = 60_000_000
"""Objects × days that fit into memory as the loops want them (about 6 GB)."""


@dataclass(frozen=True)
class Days:
    """The grid of a trace by day. size: bytes by object."""

    grid: Grid
    size: Ints
    begin: datetime
    assumed: tuple[str, ...]
    """What the trace does not say and was taken instead, in sentences."""
    epoch: Epoch = BY_DAY
    columns: Grid | None = None
    """The grid that costs are counted on: the one by day, or one of several columns a day."""

    @property
    def fine(self) -> Grid:
        """The grid that costs are counted on."""
        return self.grid if self.columns is None else self.columns

    @property
    def days(self) -> int:
        """How many days."""
        return int(self.grid.reads.shape[1])

    @classmethod
    def made(cls, grid: Grid, size: Ints) -> Self:
        """Days that nobody recorded, from 2025 on."""
        return cls(grid, size, datetime(2025, 1, 1, tzinfo=UTC), ())

    def date(self, day: int) -> str:
        """The date of a day, UTC."""
        return (self.begin + timedelta(days=day)).date().isoformat()


def by_day(trace: Trace, read_fraction: float = 1.0, epoch: Epoch = BY_DAY) -> Days:
    """The trace by UTC day. read_fraction: the share of an object that its largest row is taken to have read.

    Raises Invalid for a trace of fewer than four days, or with more objects and days than fit into memory.
    """
    begin, n = int(trace.ts.min()) // DAY, len(trace.keys)
    days = int(trace.ts.max()) // DAY - begin + 1
    if days < LEAST_DAYS:
        raise Invalid(f"the trace spans {days} days; a replay needs at least {LEAST_DAYS}, half of them to learn from")
    if n * days * epoch.parts > MOST_CELLS:
        what = f"{days:,} days" if epoch.parts == 1 else f"{days * epoch.parts:,} epochs"
        raise Invalid(f"{n:,} objects on {what} are more than the {MOST_CELLS:,} cells that a replay holds")
    size, assumed = _sizes(trace, read_fraction)
    grid = _grid(trace, size, trace.ts // DAY - begin, days)
    fine = None
    if epoch.parts > 1:
        column = trace.ts // (DAY // epoch.parts) - begin * epoch.parts
        fine = epoch.grid(_grid(trace, size, column, days * epoch.parts), grid)
    return Days(grid, size, datetime.fromtimestamp(begin * 86_400, UTC), assumed, epoch, fine)


def _grid(trace: Trace, size: Ints, at: Ints, columns: int) -> Grid:
    """The trace by columns. at: that of each row."""
    n = len(trace.keys)
    read = np.isin(trace.op, (OPS.index("GET"), OPS.index("HEAD")))
    count = np.ones(len(trace)) if trace.count is None else trace.count.astype(float)
    reads, share = np.zeros((n, columns)), np.zeros((n, columns))
    np.add.at(reads, (trace.object[read], at[read]), count[read])
    np.add.at(share, (trace.object[read], at[read]), trace.bytes_read[read])
    share /= size[:, None]
    event = np.zeros((n, columns), np.int8)
    changed = np.flatnonzero(np.isin(trace.op, (OPS.index("PUT"), OPS.index("DELETE"))))
    mark = np.where(trace.op[changed] == OPS.index("PUT"), WRITTEN, DELETED)
    event[trace.object[changed], at[changed]] = mark  # in order of time: a day's last event stands
    birth = np.full(n, columns, np.int64)
    np.minimum.at(birth, trace.object, at)
    names: dict[str, int] = {}
    cohort = np.array([names.setdefault(key.partition("/")[0], len(names)) for key in trace.keys], np.int64)
    return prepare(reads, share, event, birth, cohort)


def _sizes(trace: Trace, read_fraction: float) -> tuple[Ints, tuple[str, ...]]:
    """Bytes of each object: as its rows state it, else its largest row over the fraction that this one read."""
    stated, largest = np.zeros(len(trace.keys), np.int64), np.zeros(len(trace.keys), np.int64)
    np.maximum.at(stated, trace.object, trace.size)
    np.maximum.at(largest, trace.object, trace.bytes_read)
    unknown = int((stated == 0).sum())
    guessed = np.ceil(largest / read_fraction).astype(np.int64)
    size = np.maximum(np.where(stated > 0, stated, guessed), 1)
    if not unknown:
        return size, ()
    share = f"{read_fraction:.0%} of it" if read_fraction < 1 else "all of it"
    return size, (f"size of {unknown:,} of {len(size):,} objects: their largest row read {share}",)


def gigabytes(days: Days) -> Floats:
    """The objects' sizes in GB, as providers bill."""
    return days.size / GB
