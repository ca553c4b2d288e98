"""Which objects of a trace would have been copied for which peaks: production's decisions, a day at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np

from app.domain.demand import Demand
from app.domain.peaks import HOURS, LEAST_READS, LEAST_WEEKS, TIMES, WEEKS, Peak
from app.domain.placement_problem import Held, Item
from app.domain.policies import Rules
from app.domain.prewarming import begins, due, prewarm, takes
from app.domain.states import MoveKind
from app.lab.days import Days
from app.lab.prewarming_hours import Hourly, Occurrence, at
from app.lab.prewarming_market import Market
from app.lab.traces import OPS, Trace
from ml.history import DAY
from ml.tiering_types import WRITTEN, Bytes, Floats, Ints

A_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Copy:
    """A copy or a class for the time of a peak."""

    object: int
    pair: int
    peak: Peak
    until: int
    """The hour since 1970 from which it serves no more: the peak is over, or the object was changed."""
    extra: float
    """$ for the way there and back, storage until its grace is over and what is left of minimum days."""

    in_place: bool
    """A class for the time of the peak, not a copy elsewhere."""

    @property
    def begins(self) -> int:
        """The hour since 1970 from which it serves."""
        return int(self.peak.begins.timestamp()) // 3600


class Ground:
    """The trace by the hour, where the policy has the objects, and what places charge."""

    def __init__(
        self, trace: Trace, days: Days, market: Market, where: Bytes, grace: timedelta, every: timedelta
    ) -> None:
        self.hourly, self.days, self.market, self._where = Hourly.of(trace), days, market, where
        self._grace, self._gone, self._keys = grace, grace + every, trace.keys
        self.begin, self._parts = int(days.begin.timestamp()) // 3600, days.epoch.parts
        self.first = self.begin + days.days // 2 * 24
        self.end = self.begin + days.days * 24
        changed = np.flatnonzero(np.isin(trace.op, (OPS.index("PUT"), OPS.index("DELETE"))))
        order = changed[np.argsort(trace.object[changed], kind="stable")]
        self._changes = trace.object[order] * self.hourly.span + trace.ts[order] // (DAY // 24)
        self._deleted = trace.op[order] == OPS.index("DELETE")
        reads, bytes_ = self.hourly.reads, self.hourly.bytes
        gain_get = market.per_get - market.per_get.min()
        gain_byte = market.per_byte - market.per_byte.min(axis=0)
        seen = self.hourly.together >= LEAST_READS
        value = seen * (gain_get[:, None] * reads + gain_byte[:, self.hourly.region] * bytes_)
        self._gains = np.concatenate([np.zeros((len(value), 1)), np.cumsum(value, axis=1)], axis=1)
        self._reads = np.concatenate([[0], np.cumsum(reads)])

    def pair(self, thing: Ints, hour: Ints) -> Ints:
        """Where objects are in an hour."""
        return self._where[thing, (hour - self.begin) * self._parts // 24].astype(np.int64)

    def could_save(self, thing: Ints, hour: Ints, begins: Ints, ends: Ints) -> Floats:
        """The most that serving busy hours elsewhere than from where objects are at `hour` would save, in $.

        0 where it cannot pay the way there.
        """
        low, high = self.hourly.rows(thing, begins, ends)
        here = self.pair(thing, hour)
        most = self._gains[here, high] - self._gains[here, low]
        weeks = np.maximum((ends - begins) / HOURS, 1.0)
        pays = most / weeks >= self.market.rules.payback * self.market.there[here, thing]
        return np.where(pays, most / weeks, 0.0)

    def copies(self, days: Sequence[tuple[int, int]], tell: Callable[[str, int, int], None] | None) -> Iterator[Copy]:
        """The copies begun on these days of objects, in this order: each on what was read before its day."""
        thing, gone, known, back = -1, at(0), at(0), 0
        for number, (object_, day) in enumerate(days):
            if tell and number % 50 == 0:
                tell("recurring peaks", 10 * number // len(days), 10)
            if object_ != thing:
                thing, gone, known, back = object_, at(0), at(0), 0
            now = at(self.begin + 24 * day)
            for peak in self._due(thing, now):
                if peak.begins <= known or begins(peak, int(self.days.size[thing])) < gone:
                    continue
                known = peak.begins
                copy = self._copy(thing, peak, now, back)
                if copy:
                    gone = peak.ends + self._gone
                    back = copy.until if copy.in_place else back
                    yield copy
        if tell:
            tell("recurring peaks", 9, 10)

    def _due(self, thing: int, now: datetime) -> list[Peak]:
        """As the prewarm task finds them, once a day."""
        hour = int(now.timestamp()) // 3600
        low, high = self._rows(thing, hour - WEEKS * HOURS, hour)
        total = int(self._reads[high] - self._reads[low])
        if total < LEAST_WEEKS * LEAST_READS:
            return []
        mean = total / (WEEKS * HOURS)
        hours, together = self.hourly.hours(low, high), self.hourly.together[low:high].tolist()
        hours = [row for row, reads in zip(hours, together, strict=True) if reads >= max(LEAST_READS, TIMES * mean)]
        found = due(hours, mean, int(self.days.size[thing]), now, A_DAY, self._gone)
        return [peak for peak in found if peak.ends <= at(self.end)]

    def _copy(self, thing: int, peak: Peak, now: datetime, back: int) -> Copy | None:
        start = max(now, begins(peak, int(self.days.size[thing])))
        item = self._item(thing, start, self.market.rules, back)
        ways = prewarm(self.market.sites, item, peak, now, self._grace) if item else []
        if not ways:
            return None
        move, cost = ways[0].moves[0], ways[0].cost
        names = [(self.market.sites[pair.site].name, pair.name) for pair in self.market.pairs]
        until = min(int(peak.ends.timestamp()) // 3600, self._next_change(thing, start))
        target = names.index((str(move.to_site), str(move.to_class)))
        return Copy(thing, target, peak, until, cost.storage + cost.move, move.kind is MoveKind.CLASS)

    def worth(self, found: Occurrence) -> bool:
        """Whether a copy for this peak, had it been known, would have paid."""
        peak = self.hourly.peak(found, *self._rows(found.object, found.begins, found.ends))
        now = peak.begins - takes(int(self.days.size[found.object]))
        day = max(at(self.first), now)
        item = self._item(found.object, day, replace(self.market.rules, confidence=0.0))
        return item is not None and bool(prewarm(self.market.sites, item, peak, now, self._grace))

    def window(self, copy: Copy) -> tuple[int, int]:
        """The rows that a copy's peak spans."""
        return self._rows(copy.object, copy.begins, int(copy.peak.ends.timestamp()) // 3600)

    def served(self, copy: Copy) -> tuple[int, int]:
        """The rows that a copy answered."""
        return self._rows(copy.object, copy.begins, copy.until)

    def _rows(self, thing: int, first: int, last: int) -> tuple[int, int]:
        low, high = self.hourly.rows(np.array([thing]), np.array([first]), np.array([last]))
        return int(low[0]), max(int(low[0]), int(high[0]))

    def _item(self, thing: int, now: datetime, rules: Rules, back: int = 0) -> Item | None:
        """The object where the policy has it; None where it is deleted. back: when its last class for a peak ended."""
        hour = int(now.timestamp()) // 3600
        last = int(np.searchsorted(self._changes, thing * self.hourly.span + hour)) - 1
        if last >= 0 and self._changes[last] // self.hourly.span == thing and self._deleted[last]:
            return None
        pair = self.market.pairs[int(self.pair(np.array([thing]), np.array([hour]))[0])]
        site = self.market.sites[pair.site].name
        held = (Held(site, pair.name, min(self._days_there(thing, hour), (hour - back) / 24), origin=True),)
        return Item(thing, self._keys[thing], 1, int(self.days.size[thing]), held, Demand(), rules)

    def _days_there(self, thing: int, hour: int) -> float:
        """Since the object came to where it is, was written anew, or the second half began."""
        first, last = (((at_ - self.begin) * self._parts) // 24 for at_ in (self.first, hour))
        where = self._where[thing, first : last + 1]
        anew = np.flatnonzero((np.diff(where) != 0) | (self.days.fine.event[thing, first + 1 : last + 1] == WRITTEN))
        return (len(where) - 1 - (int(anew[-1]) + 1 if len(anew) else 0)) / self._parts

    def _next_change(self, thing: int, now: datetime) -> int:
        code = thing * self.hourly.span + int(now.timestamp()) // 3600
        place = int(np.searchsorted(self._changes, code))
        found = place < len(self._changes) and self._changes[place] // self.hourly.span == thing
        return int(self._changes[place] % self.hourly.span) if found else self.end
