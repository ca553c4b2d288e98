"""What storing, reading and moving an object costs: the price book and the arithmetic over it.

A book is dated facts in Decimal; the functions work in float64 US dollars and take arrays as well as numbers, since
the planner prices many objects at once. A GB is 2**30 bytes, as the providers bill; a month is 30 days.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from app.errors import Invalid

GB = 2**30
KB = 2**10
MONTH_DAYS = 30.0
MULTIPART_THRESHOLD = 16 * 2**20
PART_SIZE = 8 * 2**20
IN_PLACE_LIMIT = 5 * 10**9
"""Bytes of the largest object that S3 copies onto itself in one request."""

Floats = NDArray[np.float64]
ZERO = Decimal(0)


@dataclass(frozen=True)
class Band:
    """$/GB-month up to a volume in GB; None: without end."""

    usd: Decimal
    up_to_gb: Decimal | None = None


@dataclass(frozen=True)
class IdleStep:
    """$/GB-month of a managed class once an object has not been read for so many days."""

    after_days: int
    usd: Decimal


@dataclass(frozen=True)
class StorageClass:
    """Prices of one storage class, in dollars per GB-month, per 1,000 requests, per GB retrieved."""

    name: str
    storage: tuple[Band, ...]
    put_per_1k: Decimal
    get_per_1k: Decimal
    list_per_1k: Decimal
    retrieval_per_gb: Decimal = ZERO
    transition_per_1k: Decimal | None = None
    """What a change to this class costs; None: as a PUT."""
    min_days: int = 0
    min_bytes: int = 0
    """Smaller objects are billed as this many bytes."""
    overhead_bytes: int = 0
    """Billed beside each object at this class's price."""
    hot_overhead_bytes: int = 0
    """Billed beside each object at the price of the book's first class."""
    monitoring_per_1k: Decimal = ZERO
    """A month, for each object that is not below `managed_from_bytes`."""
    managed_from_bytes: int = 0
    idle_steps: tuple[IdleStep, ...] = ()
    """Not empty: a managed class, whose price falls with idle days."""
    archive: bool = False
    restore: bool = False
    """Must be restored before it can be read; a read then costs the restore request as its GET."""

    @cached_property
    def first_usd(self) -> float:
        """$/GB-month of the first volume band."""
        return float(self.storage[0].usd)

    def marginal_usd(self, volume_gb: float) -> float:
        """$/GB-month of one more GB when `volume_gb` are stored already."""
        for band in self.storage:
            if band.up_to_gb is None or volume_gb < float(band.up_to_gb):
                return float(band.usd)
        return float(self.storage[-1].usd)


@dataclass(frozen=True)
class Egress:
    """$/GB that leave a site, by where they go."""

    same_region: Decimal
    same_provider: Decimal
    other_provider: Decimal
    internet: Decimal


@dataclass(frozen=True)
class PriceBook:
    """A provider's prices at a date. The first class is the one that objects are written to when none is named."""

    name: str
    provider: str
    source: str
    as_of: date
    egress: Egress
    classes: tuple[StorageClass, ...]
    sample: bool = False
    """True: the source itself calls its figures examples."""
    by_name: dict[str, StorageClass] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Indexes the classes. S3 servers answer STANDARD, or nothing, for whatever class is their first."""
        named = {entry.name: entry for entry in self.classes}
        object.__setattr__(self, "by_name", {"STANDARD": self.classes[0], "": self.classes[0], **named})

    def storage_class(self, name: str) -> StorageClass:
        """The class of that name. Raises Invalid when the book does not price it."""
        try:
            return self.by_name[name]
        except KeyError:
            raise Invalid(
                f"price book {self.name} has no storage class {name}; it prices "
                + ", ".join(entry.name for entry in self.classes)
            ) from None


@dataclass(frozen=True)
class Place:
    """Where bytes are: enough to tell which egress price applies."""

    provider: str
    region: str


def storage_month(entry: StorageClass, gb: float) -> float:
    """$ a month for `gb` stored in a class with no other bytes in it, through its volume bands."""
    total, below = 0.0, 0.0
    for band in entry.storage:
        top = float("inf") if band.up_to_gb is None else float(band.up_to_gb)
        total += max(0.0, min(gb, top) - below) * float(band.usd)
        below = top
    return total


def billable_gb(entry: StorageClass, size: Floats) -> Floats:
    """GB billed for objects of `size` bytes: at least the minimum, plus the overhead."""
    return (np.maximum(size, entry.min_bytes) + entry.overhead_bytes) / GB


def object_month(
    entry: StorageClass,
    hot: StorageClass,
    size: Floats,
    rate: Floats,
    idle: Floats,
    days: float,
    volume_gb: float = 0.0,
) -> Floats:
    """$ a month, the mean over the next `days`, for keeping objects in a class.

    size: bytes; rate: reads a day; idle: days since the last read (0 for an object that is written now); both matter
    in managed classes alone. volume_gb: what the site's class holds already, which decides the volume band.
    """
    usd = entry.marginal_usd(volume_gb)
    cost = billable_gb(entry, size) * usd + entry.hot_overhead_bytes / GB * hot.first_usd
    managed = size >= entry.managed_from_bytes
    if entry.idle_steps:
        for cheaper, dearer in zip(entry.idle_steps, (None, *entry.idle_steps[:-1]), strict=True):
            drop = (usd if dearer is None else float(dearer.usd)) - float(cheaper.usd)
            cost = cost - managed * size / GB * drop * idle_share(rate, idle, float(cheaper.after_days), days)
    return cost + managed * float(entry.monitoring_per_1k) / 1000


def idle_share(rate: Floats, idle: Floats, after: float, days: float) -> Floats:
    """The expected share of the next `days` in which a Poisson-read object has been idle for at least `after` days."""
    rate = np.maximum(rate, 1e-12)
    start = np.maximum(0.0, after - idle)
    end = min(after, days)
    before = np.maximum(0.0, np.exp(-rate * start) - np.exp(-rate * end)) / rate
    share: Floats = (before + max(0.0, days - after) * np.exp(-rate * after)) / days
    return share


def read_usd(entry: StorageClass, reads: Floats, bytes_read: Floats) -> tuple[Floats, Floats]:
    """$ for requests and $ for retrieval of so many reads and bytes."""
    return reads * float(entry.get_per_1k) / 1000, bytes_read / GB * float(entry.retrieval_per_gb)


def restore_usd(entry: StorageClass, size: int) -> float:
    """$ for asking an object of `size` bytes back from a class that must be restored: the request and the retrieval."""
    requests, retrieval = read_usd(entry, np.ones(1), np.array([float(size)]))
    return float(requests[0] + retrieval[0])


def egress_per_gb(book: PriceBook, source: Place, target: Place | None) -> float:
    """$/GB from a site to a place; None: readers on the internet."""
    if target is None:
        return float(book.egress.internet)
    if target == source:
        return float(book.egress.same_region)
    if target.provider == source.provider:
        return float(book.egress.same_provider)
    return float(book.egress.other_provider)


def put_requests(size: Floats) -> Floats:
    """Requests that writing objects takes: one, or one a part and two around them."""
    return np.where(size < MULTIPART_THRESHOLD, 1.0, np.ceil(size / PART_SIZE) + 2)


def copy_usd(source: StorageClass, target: StorageClass, size: Floats, egress: float) -> Floats:
    """$ for a verified copy to another site, worked beside the target.

    Source: LIST (a thousandth), two HEADs, GET, retrieval, egress. Target: PUTs, HEAD and the re-read that verifies it.
    """
    head = 3 * float(source.get_per_1k) + 2 * float(target.get_per_1k)
    requests = (head + float(source.list_per_1k) / 1000 + put_requests(size) * float(target.put_per_1k)) / 1000
    return requests + size / GB * (float(source.retrieval_per_gb) + float(target.retrieval_per_gb) + egress)


def transition_usd(source: StorageClass, target: StorageClass, size: Floats) -> Floats:
    """$ for a change of class in place: two HEADs, the copy onto itself and the retrieval of what is rewritten.

    What is too large for one request pays for its parts.
    """
    change = target.put_per_1k if target.transition_per_1k is None else target.transition_per_1k
    heads = float(source.get_per_1k) + float(target.get_per_1k)
    in_parts = np.where(size > IN_PLACE_LIMIT, put_requests(size) * float(target.put_per_1k), 0.0)
    return (float(change) + heads + in_parts) / 1000 + size / GB * float(source.retrieval_per_gb)


def early_deletion_usd(entry: StorageClass, size: Floats, age_days: Floats, volume_gb: float = 0.0) -> Floats:
    """$ for leaving a class before its minimum days are over: the days that are left, at its storage price."""
    left = np.maximum(0.0, entry.min_days - age_days)
    return billable_gb(entry, size) * entry.marginal_usd(volume_gb) * left / MONTH_DAYS


def old_version_usd(entry: StorageClass, size: Floats, days: float, volume_gb: float = 0.0) -> Floats:
    """$ for the version that a move leaves in a versioned bucket, stored for so many days more.

    A fee for leaving the class early is part of it, as far as it lasts.
    """
    return billable_gb(entry, size) * entry.marginal_usd(volume_gb) * days / MONTH_DAYS


def to_usd(value: float) -> Decimal:
    """A float of dollars as it is stored: twelve decimals."""
    return Decimal(repr(float(value))).quantize(Decimal("1e-12"))
