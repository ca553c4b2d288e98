"""What an object costs in a class over days of accesses that have been, and what a change of class has cost."""

from __future__ import annotations

import numpy as np

from app.domain import pricing
from app.domain.prices import GB, MONTH_DAYS, PriceBook, StorageClass
from app.domain.savings import Days


def spent(book: PriceBook, name: str, size: int, days: Days) -> float:
    """$ for keeping an object in a class and reading it, over some days; egress is the same in every class."""
    entry, bytes_ = book.storage_class(name), np.array([float(size)])
    month = float(pricing.billable_gb(entry, bytes_)[0]) * entry.first_usd
    month += entry.hot_overhead_bytes / GB * book.classes[0].first_usd
    kept = np.full(len(days.reads), month)
    if size >= entry.managed_from_bytes:
        idle = np.array(days.idle_days)
        for step in entry.idle_steps:
            kept[idle >= step.after_days] = size / GB * float(step.usd)
        kept += float(entry.monitoring_per_1k) / 1000
    requests, retrieval = pricing.read_usd(entry, np.array(days.reads), np.array(days.bytes))
    return float((kept / MONTH_DAYS + requests + retrieval).sum())


def fee(book: PriceBook, source: str, target: str, size: int, days_in_class: float) -> float:
    """$ that a change of class has cost: its requests, retrieval, and the fee for leaving early."""
    old, new, bytes_ = book.storage_class(source), book.storage_class(target), np.array([float(size)])
    return float(pricing.transition_usd(old, new, bytes_)[0]) + owed(old, size, days_in_class)


def owed(entry: StorageClass, size: int, days_in_class: float) -> float:
    """$ that leaving a class costs after so many days in it."""
    return float(pricing.early_deletion_usd(entry, np.array([float(size)]), np.array([days_in_class]))[0])
