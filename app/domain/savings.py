"""What changes of class have really saved: the same accesses priced where an object lies and where it would lie else.

A cohort whose demotions have lost money demotes no more for a while (economics.md, "No-harm guard").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from app.domain import pricing
from app.domain.pricing import MONTH_DAYS, Floats, PriceBook, StorageClass

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
    """One object's accesses on consecutive days, and the days since its last read when they begin."""

    reads: Floats
    bytes: Floats
    idle: float = 0.0

    @property
    def idle_days(self) -> Floats:
        """Days since the last read, on each day; 0 on one with a read."""
        days, found = self.idle, []
        for reads in self.reads.tolist():
            days = 0.0 if reads else days + 1
            found.append(days)
        return np.array(found)


def spent(book: PriceBook, name: str, size: int, days: Days) -> float:
    """$ for keeping an object in a class and reading it, over some days; egress is the same in every class."""
    entry, bytes_ = book.storage_class(name), np.array([float(size)])
    month = float(pricing.billable_gb(entry, bytes_)[0]) * entry.first_usd
    month += entry.hot_overhead_bytes / pricing.GB * book.classes[0].first_usd
    kept = np.full(len(days.reads), month)
    if size >= entry.managed_from_bytes:
        for step in entry.idle_steps:
            kept[days.idle_days >= step.after_days] = size / pricing.GB * float(step.usd)
        kept += float(entry.monitoring_per_1k) / 1000
    requests, retrieval = pricing.read_usd(entry, days.reads, days.bytes)
    return float((kept / MONTH_DAYS + requests + retrieval).sum())


def fee(book: PriceBook, source: str, target: str, size: int, days_in_class: float) -> float:
    """$ that a change of class has cost: its requests, retrieval, and the fee for leaving early."""
    old, new, bytes_ = book.storage_class(source), book.storage_class(target), np.array([float(size)])
    return float(pricing.transition_usd(old, new, bytes_)[0]) + owed(old, size, days_in_class)


def owed(entry: StorageClass, size: int, days_in_class: float) -> float:
    """$ that leaving a class costs after so many days in it."""
    return float(pricing.early_deletion_usd(entry, np.array([float(size)]), np.array([days_in_class]))[0])


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
