"""What moves may use in a day: reserved when a copy begins, settled at the switch, in whole units rounded up."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

from sqlalchemy import update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.db.tables import Budget
from app.errors import OverBudget

NANO = 10**9
LIMITS = {"bytes": "bytes_per_day", "moves": "moves_per_day", "nano_usd": "usd_per_day"}
"""The units, and the field of the budget policy that limits each."""


@dataclass(frozen=True)
class Cost:
    """What one move uses."""

    bytes: int
    usd: Decimal

    @property
    def amounts(self) -> dict[str, int]:
        """By unit, always in the same order, so that transactions never wait for each other in a circle."""
        return {"bytes": self.bytes, "moves": 1, "nano_usd": max(0, math.ceil(self.usd * NANO))}


def reserve(session: Session, now: datetime, cost: Cost, policy: Mapping[str, object]) -> date | None:
    """Sets the cost aside on the day of `now`, which is returned; None when the policy limits nothing.

    Raises OverBudget when a limit would be passed.
    """
    if all(policy.get(field) is None for field in LIMITS.values()):
        return None
    day = now.astimezone(UTC).date()
    _add(session, day, dict.fromkeys(LIMITS, 0), column="reserved")
    for unit, amount in cost.amounts.items():
        taken = update(Budget).where(Budget.day == day, Budget.unit == unit).values(reserved=Budget.reserved + amount)
        limit = policy.get(LIMITS[unit])
        if limit is not None:
            most = int(Decimal(str(limit)) * (NANO if unit == "nano_usd" else 1))
            taken = taken.where(Budget.reserved + Budget.spent + amount <= most)
        if session.scalar(taken.returning(Budget.reserved)) is None:
            tomorrow = datetime.combine(day + timedelta(days=1), time(), UTC)
            raise OverBudget(f"{LIMITS[unit]} is used up", retry_after_s=(tomorrow - now).total_seconds())
    return day


def give_back(session: Session, day: date, cost: Cost) -> None:
    """Frees what was reserved on that day."""
    _add(session, day, {unit: -amount for unit, amount in cost.amounts.items()}, column="reserved")


def settle(session: Session, day: date | None, now: datetime, cost: Cost) -> None:
    """The cost is spent: on the day on which it was reserved, else on that of `now`."""
    if day:
        give_back(session, day, cost)
    _add(session, day or now.astimezone(UTC).date(), cost.amounts, column="spent")


def _add(session: Session, day: date, amounts: Mapping[str, int], *, column: str) -> None:
    rows = [{"day": day, "unit": unit, column: amount} for unit, amount in amounts.items()]
    statement = insert(Budget).values(rows)
    added = {column: getattr(Budget, column) + statement.excluded[column]}
    session.execute(statement.on_conflict_do_update(index_elements=["day", "unit"], set_=added))
