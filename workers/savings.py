"""The nightly `accrue` task: what changes of class and site have cost, beside what staying would have (step: watch)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from sqlalchemy.orm import Session

from app.db import alerts, prices, savings, sites
from app.db.tables import Json, Saving, Site
from app.domain.prices import Place, PriceBook, to_usd
from app.domain.saving_costs import Home, egress, fee, kept, kept_days, owed, spent
from app.domain.savings import EVERYWHERE, Days, is_demotion
from app.queue import TaskName
from app.settings import get_settings
from workers import features
from workers.base import JobContext, job_task

AT_ONCE = 1000
DAY = timedelta(days=1)
ALERT = "demotions_stopped"


@job_task(TaskName.ACCRUE)
def accrue(job: JobContext) -> Json:
    """Opens accounts, brings them up to yesterday, and tells which cohorts demote no more."""
    now = features.as_of(job)
    recorded = accrued = 0
    found = AT_ONCE
    while found == AT_ONCE:
        found, some = _record(job)
        recorded += some
    after: int | None = 0
    while after is not None:
        after, some = _accrue(job, now.date(), after)
        accrued += some
    result: Json = {"recorded": recorded, "accrued": accrued}
    with job.finishing(result) as session:
        result["stopped"] = _tell(session, now)
    return result


@dataclass(frozen=True)
class Homes:
    """Where copies lie and what that costs, as sites and price books are now."""

    sites: Mapping[str, Site]
    books: Mapping[str, PriceBook]
    regions: Mapping[str, Place]

    @staticmethod
    def of(session: Session) -> Homes:
        """All sites."""
        rows = sites.listing(session)
        places = {row.name: Place(row.provider, row.region) for row in rows}
        regions = {row.region: places[row.name] for row in reversed(rows)}
        return Homes({row.name: row for row in rows}, prices.books(session, rows), regions)

    def pair(self, row: Saving) -> tuple[Home, Home] | str:
        """What the copy left and where it lies, or which prices are missing."""
        old, new = self._home(row.from_site, row.from_class), self._home(row.site, row.to_class)
        if old and new:
            return old, new
        site, name = (row.from_site, row.from_class) if old is None else (row.site, row.to_class)
        return f"no prices are known for class {name} at {site}"

    def _home(self, site: str, name: str) -> Home | None:
        row, book = self.sites.get(site), self.books.get(site)
        known = row is not None and book is not None and name in book.by_name
        return Home(site, book, Place(row.provider, row.region), name) if known and row and book else None


def _record(job: JobContext) -> tuple[int, int]:
    """Opens accounts; how many changes were found without one, and how many of them were new."""
    offset = timedelta(seconds=get_settings().clock_offset_s)
    with job.saving() as session:
        found = savings.unrecorded(session, AT_ONCE)
        return len(found), savings.record(session, [_account(row, offset) for row in found])


def _account(row: Json, offset: timedelta) -> Json:
    """A change's account before its first day, which is the day of the change, counted whole."""
    moved, since = row["moved_at"] + offset, (row["before_at"] or row["first_seen_at"]) + offset
    return {
        "migration_id": row["id"],
        "object_id": row["object_id"],
        "cohort": savings.cohort_of(row["from_site"], row["key"]),
        **{name: row[name] for name in ("site", "from_site", "from_class", "to_class", "size", "is_owed")},
        "demotion": False,
        "days_before": _days(moved, since),
        "moved_on": moved.date(),
        "through": moved.date() - timedelta(days=1),
        "reason": "its first day is not over",
        "idle_days": 0.0 if row["read_at"] is None else _days(moved, row["read_at"]),
        "actual": 0,
        "stayed": 0,
        "owed": 0,
    }


def _accrue(job: JobContext, today: date, after: int) -> tuple[int | None, int]:
    """The next accounts; the last one's id, or None after the last of all, and how many were brought forward."""
    with job.saving() as session:
        accounts = savings.open_accounts(session, today, after, AT_ONCE)
        homes = Homes.of(session)
        priced = {row.migration_id: pair for row in accounts if not isinstance(pair := homes.pair(row), str)}
        for row in accounts:
            if row.migration_id not in priced:
                row.reason = str(homes.pair(row))
        ready = [row for row in accounts if row.migration_id in priced]
        forward = _bring_forward(session, today, ready, homes, priced)
    return (accounts[-1].migration_id if len(accounts) == AT_ONCE else None), forward


def _bring_forward(
    session: Session, today: date, accounts: Sequence[Saving], homes: Homes, priced: Mapping[int, tuple[Home, Home]]
) -> int:
    """Counts the accounts' days as far as anything is known of them; of how many there were any."""
    ids, offset = [row.migration_id for row in accounts], timedelta(seconds=get_settings().clock_offset_s)
    stands, left, stood = savings.standing(session, ids), savings.left_at(session, ids), savings.stood(session, ids)
    over = {i: today if i in stands or i not in left else min(today, (left[i] + offset).date()) for i in ids}
    known = savings.known_days(session, min((row.through for row in accounts), default=today) + DAY, today)
    told = known[-1] + DAY if known else date.min
    found = savings.days(session, accounts, {i: min(day, told) for i, day in over.items()}, known)
    forward = 0
    for row in accounts:
        number = row.migration_id
        counted = row.through
        _count(row, priced[number], found[number], stood[number], min(over[number], told), homes.regions)
        forward += row.through > counted
        _tell_end(row, over[number], priced[number][1], stands=number in stands)
    return forward


def _count(
    row: Saving, pair: tuple[Home, Home], days: Days, stood: float, until: date, regions: Mapping[str, Place]
) -> None:
    """Adds the days before `until`. stood: for how many days after the change what it left stands."""
    old, new = pair
    if row.fee is None:
        row.fee = to_usd(fee(old, new, row.size, row.days_before, is_owed=row.is_owed))
        row.demotion = old.site == new.site and is_demotion(old.book, old.name, new.name)
    through = max(row.through + DAY, until) - DAY
    since, end = ((day + DAY - row.moved_on).days for day in (row.through, through))
    prepaid = max(0.0, old.entry.min_days - row.days_before)
    beside = kept(old, row.size, kept_days(since, end, stood, prepaid))
    actual, stayed = (spent(home.book, home.name, row.size, days) for home in (new, old))
    if old.site != new.site:
        actual, stayed = (
            cost + egress(home, regions, days.egress) for home, cost in ((new, actual), (old, stayed))
        )  # fmt: skip
    row.actual += to_usd(actual + beside)
    row.stayed += to_usd(stayed)
    row.unknown_days += (end - since) - len(days.reads)
    row.idle_days = float(days.idle_days[-1]) if days.reads else row.idle_days
    row.through = through


def _tell_end(row: Saving, over: date, new: Home, *, stands: bool) -> None:
    """What leaving costs or did cost, why the account waits, and whether it has ended. over: the day after its last."""
    row.owed = to_usd(owed(new.entry, row.size, float((over - row.moved_on).days)))
    is_whole = row.through >= over - DAY
    row.reason = None if is_whole else f"no access is known since {row.through}"
    row.ended_on = over if is_whole and not stands else None


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
