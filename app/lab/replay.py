"""Replays a trace under every policy: what each would have cost, beside the baselines and the clairvoyant optimum.

Policies learn on the first half; every cost is of the second half alone, all objects in their first class at the split,
with what is still owed at the end charged to every policy (design: economics.md, "Replay").
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from app.domain.prices import PriceBook
from app.lab.days import Days, gigabytes
from app.lab.epochs import STAY_RULE
from app.lab.ladders import classes, ladder, managed_class
from app.lab.payback import paid_back
from ml.tiering import learn, only, rules
from ml.tiering_alarm import alarmed
from ml.tiering_loops import play
from ml.tiering_optimum import clairvoyant
from ml.tiering_types import (
    COMPONENTS,
    EARLY,
    FOLLOW,
    HEAT,
    MOVE,
    NEVER,
    TIMEOUTS,
    Bytes,
    Floats,
    Ints,
    Ladder,
    Rates,
    Rule,
    Signals,
)

NAMES = (
    "all_hot", "all_warm", "all_cold", "lifecycle_30_90", "lifecycle_30_90_promote", "lifecycle_tuned",
    "intelligent_tiering", "heat_thresholds", "best_timeout", "foretide", "foretide_managed", "clairvoyant",
)  # fmt: skip
TUNED_DAYS = (7, 14, 30, 60, 90, 180)
TIMEOUT_DAYS = (1, 7, 14, 30, 60, 90, NEVER)
COMPONENT_NAMES = ("storage", "requests", "retrieval", "move", "early_deletion")
NOTES = {
    "sla_misses": "0: every class of the replay answers at once (archives are left out), and no object leaves its site",
    "paid_back": "share of moves after which storage, reads and early deletion cost less than staying would have",
    "fees": "what moves and early deletion cost",
}
LEAST_SAVING = 0.01
"""Where the optimum saves less than this share of all-hot there is no gap to close."""


@dataclass(frozen=True)
class Outcome:
    """What a policy cost over the second half. daily: $ spent and owed by each day's end, cumulated."""

    name: str
    usd: Floats
    """[object, component]"""
    moves: Ints
    """[object]"""
    daily: Floats
    paid_back: tuple[int, int] = (0, 0)
    """Moves that cost less than staying would have, and all moves that were judged."""
    spoke: str = ""
    """What decided at the end, in words."""
    where: Bytes = field(default_factory=lambda: np.zeros((0, 0), np.int8))
    """[object, column] classes; kept of `foretide` alone."""

    @property
    def cost(self) -> float:
        """All dollars."""
        return float(self.usd.sum())


@dataclass
class Replay:
    """A trace, a price book, and what came of each policy."""

    days: Days
    book: PriceBook
    horizon_days: float
    outcomes: dict[str, Outcome] = field(default_factory=dict)

    @property
    def split(self) -> int:
        """The first day that counts."""
        return self.days.days // 2

    def document(self, trace: str) -> dict[str, Any]:
        """The result as JSON; percents are of all_hot's cost."""
        return {
            "trace": trace,
            "epochs": self.days.epoch.count(self.days.days - self.split),
            "objects": len(self.days.size),
            "begin": self.days.date(0),
            "split": self.days.date(self.split),
            "end": self.days.date(self.days.days - 1),
            "horizon_days": self.horizon_days,
            "prices": self._prices(),
            "notes": NOTES,
            "assumed": list(self.days.assumed),
            "policies": [self.row(outcome) for outcome in self.outcomes.values()],
        }  # fmt: skip

    def _prices(self) -> dict[str, Any]:
        book, managed = self.book, managed_class(self.book)
        named = {"classes": [entry.name for entry in classes(book)], "managed_class": managed.name if managed else None}
        return {"book": book.name, "source": book.source, "as_of": str(book.as_of), "sample": book.sample, **named}

    def row(self, outcome: Outcome) -> dict[str, Any]:
        """One policy's figures; dollars over the second half."""
        hot, best = self.outcomes["all_hot"], self.outcomes["clairvoyant"]
        gap = hot.cost - best.cost
        moved = outcome.moves > 0
        better = outcome.usd.sum(axis=1)[moved] < hot.usd.sum(axis=1)[moved]
        spent = outcome.usd.sum(axis=0)
        return {
            "name": outcome.name,
            "cost": outcome.cost,
            "components": dict(zip(COMPONENT_NAMES, map(float, spent), strict=True)),
            "percent_of_all_hot": 100 * outcome.cost / hot.cost if hot.cost else None,
            "gap_closed": 100 * (hot.cost - outcome.cost) / gap if gap > LEAST_SAVING * hot.cost else None,
            "regret": outcome.cost - best.cost,
            "moves": int(outcome.moves.sum()),
            "bytes_moved": int((outcome.moves * self.days.size).sum()),
            "paid_back": outcome.paid_back[0] / outcome.paid_back[1] if outcome.paid_back[1] else None,
            "fees": float(spent[MOVE] + spent[EARLY]),
            "moved_objects_that_paid": float(better.mean()) if moved.any() else None,
            "sla_misses": 0,
            "decided_by": outcome.spoke,
        }


def replay(
    days: Days, book: PriceBook, horizon_days: float, tell: Callable[[str, int, int], None] | None = None
) -> Replay:
    """Plays every policy. tell: is told the name, number and count of each that begins."""
    this = Replay(days, book, horizon_days)
    names = [name for name in NAMES if managed_class(book) or name not in ("intelligent_tiering", "foretide_managed")]
    for number, name in enumerate(names):
        if tell:
            tell(name, number, len(names))
        this.outcomes[name] = _Player(this).outcome(name)
    return this


class _Player:
    """Plays one policy of a replay, in columns of an epoch's length where it is shorter than a day."""

    def __init__(self, this: Replay) -> None:
        self._this, self._grid, self._epoch = this, this.days.fine, this.days.epoch
        self._gb = gigabytes(this.days)
        self._by_day = ladder(this.book, this.days.size)
        self._ladder = self._epoch.ladder(self._by_day)
        self._first, self._last = this.split * self._epoch.parts, this.days.days * self._epoch.parts

    def outcome(self, name: str) -> Outcome:
        """What the policy of that name costs."""
        if name == "clairvoyant":
            return self._clairvoyant()
        if name in ("foretide", "foretide_managed"):
            return self._foretide(name)
        if name == "intelligent_tiering":
            return self._fixed(name, STAY_RULE, self._epoch.ladder(self._managed()))
        if name == "lifecycle_tuned":
            return self._fixed(name, self._cheapest(_tuned(), 0, self._first), self._lifecycle())
        if name == "best_timeout":
            return self._fixed(name, self._cheapest(_timeouts(), self._first, self._last), self._lifecycle())
        rule = BASELINES[name]
        return self._fixed(name, rule, self._lifecycle() if name.startswith("lifecycle") else self._anywhere())

    def _managed(self) -> Ladder:
        return ladder(self._this.book, self._this.days.size, managed=True)

    def _anywhere(self) -> Ladder:
        """Where rules that know no prices put every object."""
        return self._ladder._replace(may=np.ones_like(self._ladder.may))

    def _lifecycle(self) -> Ladder:
        """Providers' lifecycle rules leave objects below a class's least billed size where they are."""
        least = np.array([entry.min_bytes for entry in classes(self._this.book)])
        return self._ladder._replace(may=self._this.days.size[None, :] >= least[:, None])

    def _fixed(self, name: str, rule: Rule, steps: Ladder) -> Outcome:
        rule = self._epoch.rule(rule)
        return self._play(name, steps, NOTHING, rule, np.zeros(self._last, np.int64), rule)

    def _play(
        self, name: str, steps: Ladder, signals: Signals, rule: Rule, rule_at: Ints, by: Rule, spoke: str = "",
        first: int | None = None, last: int | None = None,
    ) -> Outcome:  # fmt: skip
        first = self._first if first is None else first
        last = self._last if last is None else last
        if rule is not FOLLOWING:
            rule, rule_at = self._epoch.at(rule, rule_at, first)
        n, days = self._grid.reads.shape
        usd, daily, moves = np.zeros((n, COMPONENTS)), np.zeros(days), np.zeros(n, np.int64)
        where = np.zeros((n, days), np.int8)
        play(self._grid, steps, signals, self._gb, rule, rule_at, by, first, last, usd, daily, moves, where)
        judged = paid_back(self._grid, steps, where, first, last) if name else (0, 0)  # unnamed: tried by _cheapest
        by_day = daily[first:last][self._epoch.parts - 1 :: self._epoch.parts]
        return Outcome(name, usd, moves, by_day, judged, spoke, where if name == "foretide" else where[:0])

    def _cheapest(self, grid: Rule, first: int, last: int) -> Rule:
        """The one of the rules that costs least over these days."""
        steps, none, tried = self._lifecycle(), np.zeros(self._last, np.int64), self._epoch.rule(grid)
        each = [only(tried, k) for k in range(len(tried.kind))]
        spent = [self._play("", steps, NOTHING, one, none, one, first=first, last=last).cost for one in each]
        return only(grid, int(np.argmin(spent)))

    def _foretide(self, name: str) -> Outcome:
        steps = self._managed() if name == "foretide_managed" else self._by_day
        known = learn(self._this.days.grid, steps, self._gb, self._this.split, self._this.horizon_days)
        known = known.guarded(self._this.days.grid, steps, self._gb, self._this.split)
        spoke = known.name(self._this.days.days - 1)
        known = self._epoch.learned(alarmed(known, self._this.days.grid, steps, self._gb, self._this.split))
        return self._play(name, self._epoch.ladder(steps), known.signals, known.rule, known.rule_at, known.by, spoke)

    def _clairvoyant(self) -> Outcome:
        n, days = self._grid.reads.shape
        usd, where = np.zeros(n), np.zeros((n, days), np.int64)
        clairvoyant(self._grid, self._ladder, self._first, self._last, usd, where)
        none = np.zeros(days, np.int64)
        return self._play("clairvoyant", self._anywhere(), NOTHING._replace(cell=where), FOLLOWING, none, FOLLOWING)


def _tuned() -> Rule:
    """What lifecycle_tuned chooses among."""
    pairs = [(warm, cold) for warm in TUNED_DAYS for cold in TUNED_DAYS if warm <= cold]
    return rules(*((TIMEOUTS, warm, cold, back, 0) for warm, cold in pairs for back in (0, 1)))


def _timeouts() -> Rule:
    """What best_timeout chooses among: every pair of timeouts, back never or on two read days in seven."""
    return rules(
        *((TIMEOUTS, warm, cold, back, 0) for warm in TIMEOUT_DAYS for cold in TIMEOUT_DAYS for back in (0, 2))
    )


FOLLOWING = rules((FOLLOW, NEVER, NEVER, 0, 0))
BASELINES = {
    "all_hot": STAY_RULE,
    "all_warm": rules((TIMEOUTS, -1, NEVER, 0, 0)),
    "all_cold": rules((TIMEOUTS, -1, -1, 0, 0)),
    "lifecycle_30_90": rules((TIMEOUTS, 30, 90, 0, 0)),
    "lifecycle_30_90_promote": rules((TIMEOUTS, 30, 90, 1, 0)),
    "heat_thresholds": rules((HEAT, 0, 0, 0, 0)),
}
NOTHING = Signals(
    Rates(np.zeros((1, 1, 1)), np.zeros((1, 1, 1))), np.zeros((1, 1), np.int64), np.zeros((1, 1, 2)),
    np.zeros(1, np.int64), np.zeros(1, np.int64), np.zeros(1, np.int64),
)  # fmt: skip
