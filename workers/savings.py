"""The nightly `accrue` task: what each change of class has cost since, and what staying would have (step: watch)."""

from __future__ import annotations

from datetime import date, datetime, timedelta

from sqlalchemy.orm import Session

from app.db import alerts, prices, savings, sites
from app.db.tables import Json, Saving
from app.domain.prices import PriceBook, to_usd
from app.domain.saving_costs import fee, owed, spent
from app.domain.savings import EVERYWHERE, is_demotion
from app.queue import TaskName
from app.settings import get_settings
from workers import features
from workers.base import JobContext, job_task

AT_ONCE = 1000
ALERT = "demotions_stopped"


@job_task(TaskName.ACCRUE)
def accrue(job: JobContext) -> Json:
    """Opens accounts, brings them up to yesterday, and tells which cohorts demote no more."""
    now = features.as_of(job)
    recorded = accrued = 0
    while some := _record(job):
        recorded += some
    after: int | None = 0
    while after is not None:
        after, some = _accrue(job, now.date(), after)
        accrued += some
    result: Json = {"recorded": recorded, "accrued": accrued}
    with job.finishing(result) as session:
        result["stopped"] = _tell(session, now)
    return result


def _record(job: JobContext) -> int:
    offset = timedelta(seconds=get_settings().clock_offset_s)
    with job.saving() as session:
        books = prices.books(session, sites.listing(session))
        found = savings.unrecorded(session, AT_ONCE)
        savings.record(session, [_account(row, books.get(row["site"]), offset) for row in found])
    return len(found)


def _account(row: Json, book: PriceBook | None, offset: timedelta) -> Saving:
    """A change's account before its first day. Without prices nothing can be counted, and it is closed at once."""
    moved = row["finished_at"] + offset
    priced = book is not None and {row["from_class"], row["to_class"]} <= set(book.by_name)
    since = (row["before_at"] or row["first_seen_at"]) + offset
    cost = fee(book, row["from_class"], row["to_class"], row["size"], _days(moved, since)) if book and priced else 0.0
    return Saving(
        migration_id=row["id"],
        object_id=row["object_id"],
        cohort=savings.cohort_of(row["site"], row["key"]),
        site=row["site"],
        from_class=row["from_class"],
        to_class=row["to_class"],
        size=row["size"],
        demotion=bool(book and priced and is_demotion(book, row["from_class"], row["to_class"])),
        moved_on=moved.date(),
        through=moved.date() - timedelta(days=1),
        ended_on=None if priced else moved.date(),
        idle_days=0.0 if row["read_at"] is None else _days(moved, row["read_at"]),
        fee=to_usd(cost),
        actual=to_usd(0.0),
        stayed=to_usd(0.0),
        owed=to_usd(0.0),
    )


def _accrue(job: JobContext, today: date, after: int) -> tuple[int | None, int]:
    """The next accounts; the last one's id, or None after the last of all, and how many there were."""
    with job.saving() as session:
        books = prices.books(session, sites.listing(session))
        accounts = savings.open_accounts(session, today, after, AT_ONCE)
        stands = savings.standing(session, [row.migration_id for row in accounts])
        days = savings.days(session, accounts, today)
        for row in accounts:
            book = books.get(row.site)
            if book is None or not {row.from_class, row.to_class} <= set(book.by_name):
                row.ended_on = today
                continue
            mine = days[row.migration_id]
            row.actual += to_usd(spent(book, row.to_class, row.size, mine))
            row.stayed += to_usd(spent(book, row.from_class, row.size, mine))
            row.owed = to_usd(owed(book.storage_class(row.to_class), row.size, float((today - row.moved_on).days)))
            row.idle_days = mine.idle_days[-1] if len(mine.reads) else row.idle_days
            row.through = today - timedelta(days=1)
            row.ended_on = None if row.migration_id in stands else today
    return (accounts[-1].migration_id if len(accounts) == AT_ONCE else None), len(accounts)


def _tell(session: Session, now: datetime) -> Json:
    """Raises an alert for each cohort that demotes no more, and resolves those of the others."""
    stopped = savings.no_demotions(session, now)
    for alert in alerts.open_alerts(session, limit=10_000):
        if alert.kind == ALERT and alert.subject not in stopped:
            alerts.clear(session, ALERT, alert.subject)
    for cohort, why in stopped.items():
        alerts.raise_alert(session, ALERT, "warning", why, subject=cohort, data={"everywhere": cohort == EVERYWHERE})
    return stopped


def _days(later: datetime, earlier: datetime) -> float:
    return max(0.0, (later - earlier) / timedelta(days=1))
