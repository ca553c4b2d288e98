"""How often a replay decides: every so many days, or several times a day, on columns of that length.

What is learned is learned by day. Between decisions objects stay where they are; costs count all the same.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

import numpy as np

from app.errors import Invalid
from ml.tiering import Learned, rules, together
from ml.tiering_types import NEVER, RATE, STAY, TIMEOUTS, Floats, Grid, Ints, Ladder, Rates, Rule, Signals

MOST_DAYS = 90
LEAST_HOURS = 6
STAY_RULE = rules((STAY, NEVER, NEVER, 0, 0))


@dataclass(frozen=True)
class Epoch:
    """From one decision to the next: `every` days, each of `parts` columns; one of the two is 1."""

    every: int = 1
    parts: int = 1

    @classmethod
    def parse(cls, text: str) -> Self:
        """From a text such as 6h or 7d. Raises Invalid for what is neither hours that divide a day nor whole days."""
        found = re.fullmatch(r"(\d{1,4})([hd])", text)
        hours = int(found[1]) * (1 if found[2] == "h" else 24) if found else 0
        if LEAST_HOURS <= hours < 24 and 24 % hours == 0:
            return cls(parts=24 // hours)
        if hours and hours % 24 == 0 and hours <= MOST_DAYS * 24:
            return cls(every=hours // 24)
        raise Invalid(f"an epoch is 6h, 8h, 12h or whole days up to {MOST_DAYS}d, not {text}")

    def count(self, days: int) -> int:
        """How many epochs that many days hold, a last one that is cut off included."""
        return -(-days * self.parts // self.every)

    def ladder(self, steps: Ladder) -> Ladder:
        """Costs a column, minimum days and idle steps in columns, and how many of them are a day."""
        return steps._replace(
            day=steps.day / self.parts,
            min_days=steps.min_days * self.parts,
            steps_after=steps.steps_after * self.parts,
            steps_day=steps.steps_day / self.parts,
            parts=self.parts,
        )

    def rule(self, rule: Rule) -> Rule:
        """Idle times and horizons in columns."""
        timed = (rule.warm < NEVER) & ((rule.kind == TIMEOUTS) | (rule.kind == RATE))
        idle = (rule.cold < NEVER) & (rule.kind == TIMEOUTS)
        return rule._replace(
            warm=np.where(timed, rule.warm * self.parts, rule.warm),
            cold=np.where(idle, rule.cold * self.parts, rule.cold),
        )

    def at(self, rule: Rule, rule_at: Ints, first: int) -> tuple[Rule, Ints]:
        """The rules and who speaks in each column: on all days but every so many none does. first: a column."""
        if self.every == 1:
            return rule, rule_at
        decides = (np.arange(len(rule_at)) - first) % self.every == 0
        return together(rule, STAY_RULE), np.where(decides, rule_at, len(rule.kind))

    def learned(self, known: Learned) -> Learned:
        """What was learned by day, as each column of the day goes by it."""
        if self.parts == 1:
            return known
        rates = Rates(full=self._of(known.signals.rates.full), reads=self._of(known.signals.rates.reads))
        signals = Signals(
            rates=rates,
            cell=np.repeat(known.signals.cell, self.parts, axis=1),
            tables=known.signals.tables,
            fit_at=np.repeat(known.signals.fit_at, self.parts),
            rate_at=np.repeat(known.signals.rate_at, self.parts),
            timeouts_at=np.repeat(known.signals.timeouts_at, self.parts),
        )
        return Learned(self.rule(known.rule), np.repeat(known.rule_at, self.parts), self.rule(known.by), signals)

    def _of(self, rates: Floats) -> Floats:
        return np.repeat(rates, self.parts, axis=2) / self.parts

    def grid(self, fine: Grid, days: Grid) -> Grid:
        """The grid by columns, whose recent days are those of the days before and the present one up to the column."""
        if self.parts == 1:
            return fine
        n, columns = fine.reads.shape
        read = (fine.reads > 0).reshape(n, columns // self.parts, self.parts)
        earlier = np.zeros_like(read)
        earlier[:, :, 1:] = np.logical_or.accumulate(read, axis=2)[:, :, :-1]
        recent = np.repeat(days.recent, self.parts, axis=1) + earlier.reshape(n, columns)
        return fine._replace(recent=recent)


BY_DAY = Epoch()
