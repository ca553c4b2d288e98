"""When changes of class have lost money: the same accesses priced where an object lies and where it would lie else.

What they cost stands in app/domain/saving_costs.py. A cohort whose demotions have lost money demotes no more for a
while (economics.md, "No-harm guard").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from app.domain.prices import PriceBook

TRIAL_DAYS = 60
"""A demotion is judged whole after so many days, or when the object has come back."""
TRAILING_DAYS = 120
"""Demotions older than this are judged no more: those of 60 days, each after its 60."""
MOST_LOST = 0.004
"""Over all cohorts, the share of what staying would have cost that may be lost."""
EVERYWHERE = ""
"""Stands for all cohorts."""


@dataclass(frozen=True)
class Days:
    """One object's accesses on days of which some are known, and the days since its last read when they begin.

    egress: bytes read by readers of each region, over all of the days.
    """

    reads: Sequence[float]
    bytes: Sequence[float]
    idle: float = 0.0
    egress: Mapping[str, float] = field(default_factory=dict)

    @property
    def idle_days(self) -> list[float]:
        """Days since the last read, on each day; 0 on one with a read."""
        days, found = self.idle, []
        for reads in self.reads:
            days = 0.0 if reads else days + 1
            found.append(days)
        return found


def is_demotion(book: PriceBook, source: str, target: str) -> bool:
    """Whether storage is cheaper after a change of class."""
    return book.storage_class(target).first_usd < book.storage_class(source).first_usd


@dataclass(frozen=True)
class Judged:
    """What a cohort's demotions have come to, $: `lost` below zero is saved; both over those that are judged."""

    lost: float
    stayed: float
    """What staying would have cost."""


def stopped(cohorts: Mapping[str, Judged]) -> dict[str, str]:
    """Cohorts that demote no more, each with why; EVERYWHERE when all of them together have lost too much."""
    reasons = {
        name: f"demotions under {name} have lost ${entry.lost:.4g} against staying: none are made until that is past"
        for name, entry in cohorts.items()
        if entry.lost > 0
    }
    lost = sum(entry.lost for entry in cohorts.values())
    stayed = sum(entry.stayed for entry in cohorts.values())
    if lost > MOST_LOST * stayed:
        share = lost / stayed if stayed else 1.0
        reasons[EVERYWHERE] = f"demotions have lost {share:.2%} of what staying would have cost: none are made for now"
    return reasons
