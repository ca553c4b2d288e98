"""Moves that an operation asks for (a rollback, a repair), as a plan holds them: what each costs and saves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from app.domain import pricing
from app.domain.moves import PlannedMove
from app.domain.placement_problem import SiteOption
from app.domain.prices import MONTH_DAYS, egress_per_gb
from app.domain.states import MoveKind


@dataclass(frozen=True)
class WantedMove:
    """One move of one object, and why. days_in_class: how long the copy that is left has lain in its class."""

    object_id: int
    object_version: int
    kind: MoveKind
    from_site: str
    from_class: str
    to_site: str | None
    to_class: str | None
    size: int
    reason: str
    days_in_class: float = 0.0


@dataclass(frozen=True)
class Storage:
    """$ a month that copies cost where they lie before and after a move."""

    before: float
    after: float


def priced(move: WantedMove, sites: Mapping[str, SiteOption]) -> tuple[PlannedMove, Storage]:
    """The move with its money: the copy, fees for leaving a class early, storage. A site without prices costs nothing.

    sites: those with a price book, by name.
    """
    source, target = sites.get(move.from_site), sites.get(move.to_site or "")
    before = _month(source, move.from_class, move.size)
    leaves = move.kind is not MoveKind.COPY
    after = _month(target, move.to_class, move.size) + (0.0 if leaves else before)
    one_off = _moved(move, source, target)
    if leaves and source and move.from_class in source.book.by_name:
        entry, age = source.book.storage_class(move.from_class), np.array([move.days_in_class])
        size, left_days = np.array([float(move.size)]), min(source.old_versions_days, MONTH_DAYS)
        early, old = pricing.early_deletion_usd(entry, size, age), pricing.old_version_usd(entry, size, left_days)
        one_off += float(np.maximum(early, old)[0])
    planned = PlannedMove(
        kind=move.kind,
        from_site=move.from_site,
        from_class=move.from_class,
        to_site=move.to_site,
        to_class=move.to_class,
        bytes=0 if move.kind is MoveKind.REMOVE else move.size,
        one_off=one_off,
        monthly_delta=after - before,
    )
    return planned, Storage(before, after)


def _month(site: SiteOption | None, storage_class: str | None, size: int) -> float:
    """$ a month for storing the object there."""
    if site is None or storage_class is None or storage_class not in site.book.by_name:
        return 0.0
    entry, one, none = site.book.storage_class(storage_class), np.array([float(size)]), np.zeros(1)
    return float(pricing.object_month(entry, site.book.classes[0], one, none, none, MONTH_DAYS)[0])


def _moved(move: WantedMove, source: SiteOption | None, target: SiteOption | None) -> float:
    """$ for the requests and bytes of the move itself."""
    classes = (move.from_class, move.to_class)
    if move.kind is MoveKind.REMOVE or source is None or target is None:
        return 0.0
    if classes[0] not in source.book.by_name or classes[1] not in target.book.by_name:
        return 0.0
    left, entered = source.book.storage_class(move.from_class), target.book.storage_class(move.to_class or "")
    size = np.array([float(move.size)])
    if move.kind is MoveKind.CLASS:
        return float(pricing.transition_usd(left, entered, size)[0])
    rate = egress_per_gb(source.book, source.place, target.place)
    return float(pricing.copy_usd(left, entered, size, rate)[0])
