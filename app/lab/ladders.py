"""A site's price book as the arrays that the tiering loops go by: what each class costs each object."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import numpy.typing as npt

from app.domain import pricing
from app.domain.prices import GB, MONTH_DAYS, PriceBook, StorageClass
from app.errors import Invalid
from ml.tiering_types import Floats, Ints, Ladder

PAYS_WITHIN_DAYS = 365
MANAGED_GAIN = 8.0
"""How many times its monitoring the managed class's last step must save: smaller objects are not worth watching."""


def classes(book: PriceBook, offered: Collection[str] | None = None) -> list[StorageClass]:
    """The classes of a replay: the book's first, then by falling price those that answer at once and are not managed.

    offered: names of the classes to choose from; None: all that the book prices. Of classes with equal minimum days
    the one named first stands for all (One Zone keeps its data in one place).
    Raises Invalid for a book with fewer than two.
    """
    found: list[StorageClass] = []
    for entry in _offered(book, offered):
        known = {known.min_days for known in found}
        if not entry.archive and not entry.idle_steps and (not found or entry.min_days not in known):
            found.append(entry)
    if len(found) < 2:
        raise Invalid(f"the price book {book.name} has {len(found)} class to choose from; a replay needs two")
    return [found[0], *sorted(found[1:], key=lambda entry: -entry.first_usd)]


def managed_class(book: PriceBook, offered: Collection[str] | None = None) -> StorageClass | None:
    """The managed class of the book, or of what is offered of it, if there is one."""
    return next((entry for entry in _offered(book, offered) if entry.idle_steps), None)


def _offered(book: PriceBook, offered: Collection[str] | None) -> list[StorageClass]:
    return [entry for entry in book.classes if offered is None or entry is book.classes[0] or entry.name in offered]


def ladder(book: PriceBook, size: Ints, managed: bool = False, offered: Collection[str] | None = None) -> Ladder:
    """What the classes cost objects of `size` bytes; managed: with the managed class, in which objects then live."""
    entries = classes(book, offered)
    extra = managed_class(book, offered) if managed else None
    if managed and extra is None:
        raise Invalid(f"the price book {book.name} has no managed class")
    bytes_, hot = size.astype(float), entries[0]
    every = [*entries, *([extra] if extra else [])]
    day = np.stack([_day(entry, hot, bytes_) for entry in every])
    change = np.array([[_requests(one, two) for two in every] for one in every])
    full = np.stack([bytes_ / GB * float(entry.retrieval_per_gb) for entry in every])
    may, base = _may(day, change), np.zeros(len(size), np.int64)
    steps = np.zeros((0, len(size)))
    if extra:
        monitoring = float(extra.monitoring_per_1k) / 1000 / MONTH_DAYS
        gb = bytes_ / GB / MONTH_DAYS
        steps = np.stack([gb * float(step.usd) + monitoring for step in extra.idle_steps])
        gains = day[0] - steps[-1] > (MANAGED_GAIN - 1) * monitoring
        may[-1] = (bytes_ >= extra.managed_from_bytes) & gains
        base = np.where(may[-1], len(entries), 0)
    return Ladder(
        day=day,
        get=np.array([float(entry.get_per_1k) / 1000 for entry in every]),
        full=full,
        change=change,
        put=float(hot.put_per_1k) / 1000,
        min_days=np.array([entry.min_days for entry in every], np.int64),
        may=may,
        base=base,
        managed=len(entries) if extra else -1,
        steps_after=np.array([float(step.after_days) for step in extra.idle_steps]) if extra else np.zeros(0),
        steps_day=steps,
    )


def _day(entry: StorageClass, hot: StorageClass, size: Floats) -> Floats:
    """$ a day, at the price of the first idle day in a managed class."""
    month = pricing.billable_gb(entry, size) * entry.first_usd + entry.hot_overhead_bytes / GB * hot.first_usd
    return (month + (size >= entry.managed_from_bytes) * float(entry.monitoring_per_1k) / 1000) / MONTH_DAYS


def _requests(source: StorageClass, target: StorageClass) -> float:
    """$ for the requests of a change of class, without what is retrieved."""
    return float(pricing.transition_usd(source, target, np.zeros(1))[0])


def _may(day: Floats, change: Floats) -> npt.NDArray[np.bool_]:
    """Where a year in a class would pay for going there and back: the break-even size, computed."""
    gain = (day[0] - day) * PAYS_WITHIN_DAYS
    there_and_back = change[0] + change[:, 0]
    may = np.asarray(gain > there_and_back[:, None], bool)
    may[0] = True
    return may
