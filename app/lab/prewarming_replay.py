"""Pre-warming in a replay: for which recurring peaks objects would have been copied, and what that was worth.

Each day's decisions are production's own (app/domain/prewarming.py), on the hours before that day alone; what came of
them is counted on the reads that followed, beside the policy `foretide` without them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np

from app.domain.peaks import HOURS, WEEKS
from app.domain.prewarming import BYTES_PER_S, LEAD
from app.lab.days import Days
from app.lab.prewarming_decisions import Copy, Ground
from app.lab.prewarming_hours import Occurrence
from app.lab.prewarming_market import Market
from app.lab.traces import Trace
from ml.history import DAY
from ml.tiering_types import Bytes, Floats, Ints

MOST_PRICED = 4000
"""Days of objects, and peaks, that are priced one by one: some fifteen seconds."""
DAILY = "the trace tells days, not hours: recurring peaks cannot be seen in it"
NOTE = (
    "recurring peaks of the second half for which a temporary copy or class pays: met are those whose copy was ready, "
    "missed all others, false are copies without a peak; dollars are of the objects that had one, under foretide, and "
    "hours are UTC"
)


@dataclass(frozen=True)
class Prewarming:
    """What came of it in the second half."""

    copies: tuple[Copy, ...]
    met: int
    missed: int
    false: int
    usd: tuple[float, float]
    """With pre-warming and without, of the objects that had a copy."""
    sla_misses: tuple[int, int]
    """Of the same objects, with and without."""
    left_out: int
    """Objects whose peaks were not priced, for want of time."""

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "peaks": self.met + self.missed, "met": self.met, "missed": self.missed, "false": self.false,
            "usd_with": self.usd[0], "usd_without": self.usd[1],
            "sla_misses_with": self.sla_misses[0], "sla_misses_without": self.sla_misses[1],
        }  # fmt: skip

    @property
    def note(self) -> str:
        """What the figures mean, in a sentence."""
        left = f"; {self.left_out:,} objects with smaller peaks were not looked at" if self.left_out else ""
        return NOTE + left


def prewarmed(
    trace: Trace, days: Days, market: Market, where: Bytes, usd: Floats, grace: timedelta, every: timedelta,
    tell: Callable[[str, int, int], None] | None = None,
) -> Prewarming | None:  # fmt: skip
    """Plays pre-warming over the second half; None for a trace that tells days alone.

    where: [n, columns] the pairs under the policy; usd: [n] what each object costs under it. grace: how long a copy
    stands after its peak; every: how often production looks for peaks. tell: is told how far it is.
    """
    if not (trace.ts % DAY).any():
        return None
    ground = Ground(trace, days, market, where, grace, every)
    busy = ground.hourly.busy(24 * np.maximum(days.days - days.grid.birth, 1))
    occurrences = ground.hourly.occurrences(busy, ground.first)
    work = _Work.of(ground, occurrences)
    copies = tuple(ground.copies(work.days, tell))
    met, missed = _judged(ground, copies, occurrences, work)
    false = sum(not busy[slice(*ground.window(copy))].any() for copy in copies)
    return Prewarming(
        copies, met, missed, false, _dollars(ground, copies, usd), _sla_misses(ground, copies), work.left_out
    )


@dataclass(frozen=True)
class _Work:
    """What is priced one by one: days on which a copy may have to begin, and peaks that may be worth one."""

    days: list[tuple[int, int]]
    """Object and day, rising."""
    peaks: frozenset[Occurrence]
    left_out: int

    @classmethod
    def of(cls, ground: Ground, occurrences: Sequence[Occurrence]) -> _Work:
        """All that could pay; of the objects that could save most where that is more than MOST_PRICED."""
        thing, day = _days(ground)
        start = ground.begin + 24 * day
        saves = ground.could_save(thing, start, start - WEEKS * HOURS, start)
        peaks = np.array([(one.object, one.begins, one.ends) for one in occurrences], np.int64).reshape(-1, 3).T
        worth = ground.could_save(peaks[0], peaks[1], peaks[1], peaks[2])
        each = np.concatenate([thing[saves > 0], peaks[0][worth > 0]])
        least = np.bincount(each, np.concatenate([saves[saves > 0], worth[worth > 0]]), ground.hourly.n)
        order = np.argsort(-least, kind="stable")
        fits = np.cumsum(np.bincount(each, minlength=ground.hourly.n)[order]) <= MOST_PRICED
        chosen = np.zeros(ground.hourly.n, bool)
        chosen[order[fits]] = True
        kept = (saves > 0) & chosen[thing]
        days = list(zip(thing[kept].tolist(), day[kept].tolist(), strict=True))
        listed = np.flatnonzero((worth > 0) & chosen[peaks[0]]).tolist()
        return cls(days, frozenset(occurrences[number] for number in listed), int(((least > 0) & ~chosen).sum()))


def _days(ground: Ground) -> tuple[Ints, Ints]:
    """Objects and days, rising, on which the copy for a forecast peak may have to begin."""
    thing, hour = ground.hourly.candidates()
    thing, hour = (part[(hour > ground.first) & (hour < ground.end)] for part in (thing, hour))
    lead = LEAD.total_seconds() + ground.days.size[thing] / BYTES_PER_S
    day = np.floor(((hour - ground.begin) * 3600 - lead) / 86_400).astype(np.int64)
    pairs = np.unique(np.stack([thing, np.maximum(day, ground.days.days // 2)], axis=1), axis=0)
    return pairs[:, 0], pairs[:, 1]


def _judged(ground: Ground, copies: Sequence[Copy], occurrences: Sequence[Occurrence], work: _Work) -> tuple[int, int]:
    """Peaks whose copy was ready when they began, and those without one that would have paid."""
    by_object: dict[int, list[Copy]] = {}
    for copy in copies:
        by_object.setdefault(copy.object, []).append(copy)
    ready = [
        any(copy.begins <= one.begins < copy.until for copy in by_object.get(one.object, ())) for one in occurrences
    ]
    missed = (one in work.peaks and ground.worth(one) for one, met in zip(occurrences, ready, strict=True) if not met)
    return sum(ready), sum(missed)


def _dollars(ground: Ground, copies: Sequence[Copy], usd: Floats) -> tuple[float, float]:
    without = float(usd[sorted({copy.object for copy in copies})].sum())
    return without + sum(copy.extra - _saved(ground, copy) for copy in copies), without


def _saved(ground: Ground, copy: Copy) -> float:
    """$ that the reads which a copy answered would have cost more where the policy had the object."""
    hourly, market, rows = ground.hourly, ground.market, slice(*ground.served(copy))
    here = ground.pair(hourly.object[rows], hourly.hour[rows])
    get = market.per_get[here] - market.per_get[copy.pair]
    region = hourly.region[rows]
    each = market.per_byte[here, region] - market.per_byte[copy.pair, region]
    return float((get * hourly.reads[rows] + each * hourly.bytes[rows]).sum())


def _sla_misses(ground: Ground, copies: Sequence[Copy]) -> tuple[int, int]:
    """Reads of the objects that had a copy which were answered too slowly, with the copies and without."""
    hourly, slow = ground.hourly, ground.market.slow
    mine = np.flatnonzero(np.isin(hourly.object, [copy.object for copy in copies]) & (hourly.hour >= ground.first))
    without = int((slow[ground.pair(hourly.object[mine], hourly.hour[mine])] * hourly.reads[mine]).sum())
    spared = 0
    for copy in copies:
        rows = slice(*ground.served(copy))
        here = ground.pair(hourly.object[rows], hourly.hour[rows])
        spared += int(((slow[here] - slow[copy.pair]) * hourly.reads[rows]).sum())
    return without - spared, without
