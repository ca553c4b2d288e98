"""What an object costs in a class over days of accesses that have been, and what a change of class or site has cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from app.domain import pricing
from app.domain.prices import GB, MONTH_DAYS, Place, PriceBook, StorageClass, egress_per_gb
from app.domain.savings import Days


@dataclass(frozen=True)
class Home:
    """A class at a site, with the site's prices."""

    site: str
    book: PriceBook
    place: Place
    name: str

    @property
    def entry(self) -> StorageClass:
        """The class. Raises Invalid when the book does not price it."""
        return self.book.storage_class(self.name)


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


def egress(home: Home, regions: Mapping[str, Place], bytes_: Mapping[str, float]) -> float:
    """$ for bytes that readers of each region have read from a site. regions: those that have a site."""
    known = {**regions, home.place.region: home.place}
    rates = {name: egress_per_gb(home.book, home.place, known.get(name)) for name in bytes_}
    return sum(count / GB * rates[name] for name, count in bytes_.items())


def kept(home: Home, size: int, days: float) -> float:
    """$ for what stands beside the new copy for some days, before it is deleted: the grace, or an older version."""
    return float(pricing.old_version_usd(home.entry, np.array([float(size)]), days)[0])


def kept_days(since: float, until: float, stands: float, prepaid: float) -> float:
    """Of the days from `since` to `until` after a change those in which what it left stood and was not paid for.

    stands: days after the change at which it was deleted; prepaid: days that the fee for leaving early has paid.
    """
    return max(0.0, min(until, stands) - max(since, prepaid))


def fee(old: Home, new: Home, size: int, days_in_class: float, *, is_owed: bool = False) -> float:
    """$ that a change of class or site has cost: requests, retrieval, egress, and the fee for leaving early.

    is_owed: another account counts that fee.
    """
    bytes_ = np.array([float(size)])
    if old.site == new.site:
        made = pricing.transition_usd(old.entry, new.entry, bytes_)
    else:
        made = pricing.copy_usd(old.entry, new.entry, bytes_, egress_per_gb(old.book, old.place, new.place))
    return float(made[0]) + (0.0 if is_owed else owed(old.entry, size, days_in_class))


def owed(entry: StorageClass, size: int, days_in_class: float) -> float:
    """$ that leaving a class costs after so many days in it."""
    return float(pricing.early_deletion_usd(entry, np.array([float(size)]), np.array([days_in_class]))[0])
