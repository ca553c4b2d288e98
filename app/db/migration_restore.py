"""What it costs to restore a move's source from an archive: set aside before that is asked, spent once it was."""

from __future__ import annotations

from decimal import Decimal

from sqlalchemy import func
from sqlalchemy.orm import Session

from app.db import audit, budgets, prices
from app.db.budgets import Cost
from app.db.migration_switch import ACTOR
from app.db.migration_work import Work, mine
from app.db.tables import Migration, Site
from app.domain.pins import Pin
from app.domain.prices import read_once_usd, to_usd


def intend(session: Session, work: Work, found: Pin) -> None:
    """The restore is about to be asked for: sets its fee aside, in place of what an earlier attempt had.

    Raises LeaseLost, or OverBudget when the day's budget does not allow it.
    """
    row = mine(session, work.claim)
    budgets.release(session, row)
    usd = _fee(session, work, found)
    cost = _cost(usd)
    reserved = budgets.reserve(session, work.now, [cost], work.limits)
    if reserved.refusals[0]:
        raise reserved.refusals[0]
    row.reserved_on, row.reserved = reserved.day, cost.as_json() if reserved.day else None
    row.restore_usd, row.restored_at = usd, None


def is_paid(session: Session, work: Work) -> bool:
    """Whether the source was restored for this migration already."""
    return session.get_one(Migration, work.claim.id).restored_at is not None


def asked(session: Session, work: Work) -> None:
    """The site restores the source: the fee is spent, if it was asked for this migration. Raises LeaseLost."""
    row = mine(session, work.claim)
    if row.restore_usd is None or row.restored_at is not None:
        return
    budgets.settle(session, work.now, [(row.reserved_on, _cost(row.restore_usd))])
    row.reserved_on = row.reserved = None
    row.restored_at = func.now()
    data = {"key": work.key, "site": work.source.name, "usd": str(row.restore_usd)}
    audit.append(session, ACTOR, "migration.restore", f"migration {work.claim.id}", data)


def _fee(session: Session, work: Work, found: Pin) -> Decimal:
    """$, by the site's price book; nothing where that does not price the class."""
    site = session.get_one(Site, work.source_id)
    book = prices.books(session, [site]).get(site.name)
    entry = book.by_name.get(found.storage_class) if book else None
    return to_usd(read_once_usd(entry, found.size)) if entry else Decimal(0)


def _cost(usd: Decimal) -> Cost:
    return Cost(0, Cost.of(0, usd, 0).nano_usd, requests=1, moves=0)
