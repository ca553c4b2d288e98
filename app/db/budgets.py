"""What moves may use in a day: reserved when a copy begins, settled at the switch, in whole units rounded up."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Protocol

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.db.tables import Budget, Json
from app.errors import OverBudget

NANO = 10**9
LIMITS = {
    "bytes": "bytes_per_day",
    "moves": "moves_per_day",
    "nano_usd": "usd_per_day",
    "requests": "requests_per_day",
}
"""The units, and the field of the budget policy that limits each."""


@dataclass(frozen=True)
class Cost:
    """What one move uses, in the units above."""

    bytes: int
    nano_usd: int
    requests: int
    moves: int = 1

    @staticmethod
    def of(size: int, usd: Decimal, requests: int) -> Cost:
        """size: bytes; usd: dollars, rounded up to a nano-dollar."""
        return Cost(size, max(0, math.ceil(usd * NANO)), requests)

    @staticmethod
    def from_json(stored: Json) -> Cost:
        """From what `as_json` stored."""
        return Cost(**stored)

    def as_json(self) -> Json:
        """As it stands in migration.reserved: exactly this is given back or settled."""
        return asdict(self)

    def __add__(self, other: Cost) -> Cost:
        return Cost(*(getattr(self, name) + getattr(other, name) for name in asdict(self)))

    def __neg__(self) -> Cost:
        return Cost(*(-getattr(self, name) for name in asdict(self)))


NOTHING = Cost(0, 0, 0, 0)


@dataclass(frozen=True)
class Reserved:
    """The day on which something was set aside (None: nothing is limited), and for each cost why it was not."""

    day: date | None
    refusals: Sequence[OverBudget | None]


def reserve(session: Session, now: datetime, costs: Sequence[Cost], policy: Mapping[str, object]) -> Reserved:
    """Sets costs aside on the day of `now`, each in turn, if it fits beside what is reserved and spent already."""
    limits = {unit: _limit(unit, policy[field]) for unit, field in LIMITS.items() if policy.get(field) is not None}
    if not limits or not costs:
        return Reserved(None, [None] * len(costs))
    day = now.astimezone(UTC).date()
    _add(session, day, NOTHING, column="reserved")
    rows = session.scalars(
        select(Budget).where(Budget.day == day).order_by(Budget.unit).with_for_update(key_share=True)
    )
    used = {row.unit: row.reserved + row.spent for row in rows}
    tomorrow = datetime.combine(day + timedelta(days=1), time(), UTC)
    taken, refusals = NOTHING, list[OverBudget | None]()
    for cost in costs:
        wanted = asdict(taken + cost)
        over = next((unit for unit, limit in limits.items() if used[unit] + wanted[unit] > limit), None)
        if over:
            wait_s = (tomorrow - now).total_seconds()
            refusals.append(OverBudget(f"{LIMITS[over]} is used up", retry_after_s=wait_s))
        else:
            taken += cost
            refusals.append(None)
    _add(session, day, taken, column="reserved")
    return Reserved(day, refusals)


def _limit(unit: str, value: object) -> int:
    return int(Decimal(str(value)) * (NANO if unit == "nano_usd" else 1))


def give_back(session: Session, day: date, cost: Cost) -> None:
    """Frees what was reserved on that day."""
    _add(session, day, -cost, column="reserved")


class Holder(Protocol):
    """A migration, with what is set aside for it."""

    reserved_on: date | None
    reserved: Json | None


def release(session: Session, row: Holder) -> None:
    """Gives back what a migration had reserved, if it had."""
    if row.reserved_on and row.reserved:
        give_back(session, row.reserved_on, Cost.from_json(row.reserved))
    row.reserved_on = row.reserved = None


def settle(session: Session, now: datetime, costs: Iterable[tuple[date | None, Cost]]) -> None:
    """Costs are spent: each on the day on which it was reserved, else on that of `now`."""
    spent: dict[tuple[date, bool], Cost] = {}
    for day, cost in costs:
        where = (day or now.astimezone(UTC).date(), day is not None)
        spent[where] = spent.get(where, NOTHING) + cost
    for (day, was_reserved), cost in sorted(spent.items()):
        if was_reserved:
            give_back(session, day, cost)
        _add(session, day, cost, column="spent")


def _add(session: Session, day: date, cost: Cost, *, column: str) -> None:
    """The units always in the same order, so that transactions never wait for each other in a circle."""
    rows = [{"day": day, "unit": unit, column: amount} for unit, amount in sorted(asdict(cost).items())]
    statement = insert(Budget).values(rows)
    added = {column: getattr(Budget, column) + statement.excluded[column]}
    session.execute(statement.on_conflict_do_update(index_elements=["day", "unit"], set_=added))
