"""What a price book holds, and what single figures come to by it: what the planner reads, without arrays.

A book is dated facts in Decimal; sums are float64 US dollars. A GB is 2**30 bytes, as the providers bill; a month is
30 days. The same for many objects at once is in app/domain/pricing.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from functools import cached_property

from app.errors import Invalid

GB = 2**30
KB = 2**10
MONTH_DAYS = 30.0
IN_PLACE_LIMIT = 5 * 10**9
"""Bytes of the largest object that S3 copies onto itself in one request."""

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


def read_once_usd(entry: StorageClass, size: int) -> float:
    """$ for one read, or one restore, of an object of `size` bytes: the request and the retrieval."""
    return float(entry.get_per_1k) / 1000 + size / GB * float(entry.retrieval_per_gb)


def egress_per_gb(book: PriceBook, source: Place, target: Place | None) -> float:
    """$/GB from a site to a place; None: readers on the internet."""
    if target is None:
        return float(book.egress.internet)
    if target == source:
        return float(book.egress.same_region)
    if target.provider == source.provider:
        return float(book.egress.same_provider)
    return float(book.egress.other_provider)


def to_usd(value: float) -> Decimal:
    """A float of dollars as it is stored: twelve decimals."""
    return Decimal(repr(float(value))).quantize(Decimal("1e-12"))
