"""A trace by the hour, as recurring peaks are looked for in it, and which of its peaks recurred in hindsight.

Forecasts see the hours before their day alone; hindsight judges them (app/lab/prewarming_replay.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property

import numpy as np
import numpy.typing as npt

from app.domain.demand import Demand, RegionReads
from app.domain.peaks import HOURS, LEAST_READS, LEAST_WEEKS, TIMES, WEEKS, Hour, Peak
from app.lab.traces import OPS, Trace
from ml.history import DAY
from ml.tiering_types import Ints

HOUR_US = DAY // 24
Picks = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Occurrence:
    """Hours on end in which an object was read far more than usual, as it had been or was to be in other weeks."""

    object: int
    begins: int
    """Hours since 1970 UTC."""
    ends: int


@dataclass(frozen=True)
class Hourly:
    """Reads by object, hour and region, in this order, one element a row. n: how many objects there are."""

    n: int
    object: Ints
    hour: Ints
    """Since 1970 UTC."""
    region: Ints
    reads: Ints
    bytes: Ints
    together: Ints
    """Reads of all regions in the row's hour."""
    regions: list[str]

    @classmethod
    def of(cls, trace: Trace) -> Hourly:
        """The reads of a trace: bytes of a GET alone, as production counts them."""
        rows = np.isin(trace.op, (OPS.index("GET"), OPS.index("HEAD")))
        hour, first = trace.ts[rows] // HOUR_US, int(trace.ts[0]) // HOUR_US
        span, regions = int(trace.ts[-1]) // HOUR_US - first + 1, len(trace.regions)
        code, row = np.unique((trace.object[rows] * span + hour - first) * regions + trace.region[rows],
                              return_inverse=True)  # fmt: skip
        count = np.ones(len(trace), np.int64) if trace.count is None else trace.count
        sent = np.where(trace.op == OPS.index("GET"), trace.bytes_read, 0)
        reads, bytes_ = np.zeros(len(code), np.int64), np.zeros(len(code), np.int64)
        np.add.at(reads, row, count[rows])
        np.add.at(bytes_, row, sent[rows])
        _, same = np.unique(code // regions, return_inverse=True)
        together = np.bincount(same, reads).astype(np.int64)[same]
        thing = code // regions // span
        return cls(
            len(trace.keys), thing, code // regions % span + first, code % regions, reads, bytes_, together,
            trace.regions,
        )  # fmt: skip

    @cached_property
    def span(self) -> int:
        """More than any hour, those that a forecast may tell of included."""
        return int(self.hour.max(initial=0)) + WEEKS * HOURS + 1

    @cached_property
    def code(self) -> Ints:
        """[row] object and hour as one number, rising."""
        return self.object * self.span + self.hour

    def rows(self, thing: Ints, begins: Ints, ends: Ints) -> tuple[Ints, Ints]:
        """The first row of each object's hours from `begins` on, and the first one after those before `ends`."""
        low, high = (thing * self.span + np.clip(hour, 0, self.span) for hour in (begins, ends))
        return np.searchsorted(self.code, low), np.searchsorted(self.code, high)

    def hours(self, low: int, high: int) -> list[Hour]:
        """The rows from `low` to before `high`."""
        return [
            Hour(at(hour), self.regions[region], reads, bytes_)
            for hour, region, reads, bytes_ in zip(
                *(part[low:high].tolist() for part in (self.hour, self.region, self.reads, self.bytes)), strict=True
            )
        ]

    def candidates(self) -> tuple[Ints, Ints]:
        """Objects and hours that may be the beginning of a forecast peak: three of the four weeks before were busy."""
        busy = np.unique(self.code[self.together >= LEAST_READS])
        code, seen = np.unique(
            np.concatenate([busy + week * HOURS for week in range(1, WEEKS + 1)]), return_counts=True
        )
        code = code[seen >= LEAST_WEEKS]
        return code // self.span, code % self.span

    def busy(self, lived_hours: Ints) -> Picks:
        """[row] hours with four times the object's mean of the whole trace, and three reads at least."""
        mean = np.bincount(self.object, self.reads, self.n) / lived_hours
        return np.asarray(self.together >= np.maximum(LEAST_READS, TIMES * mean[self.object]), bool)

    def occurrences(self, busy: Picks, first: int) -> list[Occurrence]:
        """Runs of busy hours from the hour `first` on of which each was busy in three of some four weeks around it."""
        span, code = self.span, np.unique(self.code[busy])
        near = np.stack([np.isin(code + week * HOURS, code) for week in range(1 - WEEKS, WEEKS)])
        most = np.stack([near[week : week + WEEKS].sum(axis=0) for week in range(WEEKS)]).max(axis=0)
        code = code[(most >= LEAST_WEEKS) & (code % span >= first)]
        starts = np.flatnonzero(np.diff(code, prepend=-2) != 1)
        ends = code[np.append(starts[1:], len(code)) - 1] if len(code) else code
        return [
            Occurrence(begin // span, begin % span, end % span + 1)
            for begin, end in zip(code[starts].tolist(), ends.tolist(), strict=True)
        ]

    def peak(self, found: Occurrence, low: int, high: int) -> Peak:
        """An occurrence as a forecast that knew its rows would have told it."""
        reads = np.bincount(self.region[low:high], self.reads[low:high], len(self.regions))
        sent = np.bincount(self.region[low:high], self.bytes[low:high], len(self.regions))
        days = (found.ends - found.begins) / 24
        demand = tuple(
            RegionReads(self.regions[region], float(reads[region]) / days, float(sent[region]) / days)
            for region in np.flatnonzero(reads).tolist()
        )
        return Peak(at(found.begins), at(found.ends), WEEKS, Demand(demand, float(reads.sum())))


def at(hour: int) -> datetime:
    """The beginning of an hour since 1970 UTC."""
    return datetime.fromtimestamp(hour * 3600, UTC)
