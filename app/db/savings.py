"""The savings ledger: what each change of class has cost and what staying would have, accrued a day at a time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import date, datetime, timedelta

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from app.db.accesses import EPOCH, day_of
from app.db.demand import cohort
from app.db.tables import Json, Saving
from app.db.tables_work import MIGRATION_ACTIVE
from app.domain.savings import TRAILING_DAYS, TRIAL_DAYS, Days, Judged, stopped

_PEAKS = """select from plan p where p.id = m.plan_id and p.scope @> '{"peaks": true}'"""
"""A class for the hours of a peak, and back: weighed with the peak, and no reason to judge what was before it."""
_NEW = text(
    f"""select m.id, m.object_id, o.key, o.size, s.name as site, v.from_class, m.to_class, m.finished_at,
        (select max(h.last_ts) from access_hour h
            where h.object_id = m.object_id and h.last_ts < m.finished_at) as read_at,
        (select max(p.finished_at) from migration p where p.object_id = m.object_id and p.state = 'done'
            and p.finished_at < m.finished_at) as before_at, o.first_seen_at
    from migration m join move v on v.id = m.move_id join object o on o.id = m.object_id
        join site s on s.id = m.to_site_id
    where m.state = 'done' and m.kind = 'class' and m.finished_at is not null and v.from_class is not null
        and o.size is not null and not exists (select from saving where migration_id = m.id)
        and not exists ({_PEAKS})
    order by m.id limit :limit"""  # noqa: S608 - only a condition of this module is put in
)
_STANDING = text(
    f"""select v.migration_id from saving v join site s on s.name = v.site
        join replica r on r.object_id = v.object_id and r.site_id = s.id
    where v.migration_id = any(:ids) and r.state = 'serving' and (r.storage_class = v.to_class
            or exists (select from migration m where m.object_id = v.object_id and m.kind = 'class'
                and {MIGRATION_ACTIVE} and m.to_site_id = s.id and m.to_class = v.to_class and exists ({_PEAKS})))
        and not exists (select from migration m where m.object_id = v.object_id and m.state = 'done'
            and m.id > v.migration_id and m.kind = 'class' and m.to_site_id = s.id and not exists ({_PEAKS}))"""  # noqa: S608 - only conditions of our own
)
_DAYS = text(
    """select h.object_id, (extract(epoch from date_trunc('day', h.hour, 'UTC')) / 86400)::bigint as day,
        sum(h.reads)::bigint as reads, sum(h.bytes_read)::bigint as bytes
    from access_hour h where h.object_id = any(:ids) and h.hour >= :since and h.hour < :until group by 1, 2"""
)
_COHORTS = text(
    """select cohort, count(*) as moves, count(*) filter (where demotion) as demotions,
        sum(fee) as fee, sum(actual) as actual, sum(stayed) as stayed, sum(owed) as owed
    from saving group by cohort order by cohort"""
)
_JUDGED = text(
    """select cohort, sum(stayed) as stayed,
        sum(case when whole then fee + actual + owed - stayed else greatest(actual - stayed, 0) end) as lost
    from (select *, ended_on is not null or moved_on <= :tried as whole from saving
        where demotion and moved_on > :oldest) as judged
    where whole or actual > stayed group by cohort"""
)


def unrecorded(session: Session, limit: int) -> Sequence[Json]:
    """Changes of class that have been made and are not in the ledger yet, as rows."""
    return [dict(row) for row in session.execute(_NEW, {"limit": limit}).mappings()]


def cohort_of(site: str, key: str) -> str:
    """Objects at a site under one first path segment are judged together."""
    return f"{site}/{cohort(key)}"


def record(session: Session, rows: Sequence[Saving]) -> None:
    """Opens the accounts of changes of class."""
    session.add_all(rows)


def open_accounts(session: Session, before: date, after_id: int, limit: int) -> Sequence[Saving]:
    """Changes of class that still stand and lack a day before `before`; locked, by id."""
    statement = (
        select(Saving)
        .where(Saving.ended_on.is_(None), Saving.through < before - timedelta(days=1), Saving.migration_id > after_id)
        .order_by(Saving.migration_id)
        .limit(limit)
        .with_for_update()
    )
    return session.scalars(statement).all()


def standing(session: Session, ids: Sequence[int]) -> set[int]:
    """Those of the accounts whose copy lies still where its change of class put it."""
    return set(session.scalars(_STANDING, {"ids": list(ids)}))


def days(session: Session, accounts: Sequence[Saving], until: date) -> dict[int, Days]:
    """The accesses of each account's days that are not accrued yet, up to the day before `until`."""
    since = min((row.through for row in accounts), default=until) + timedelta(days=1)
    spans = {"since": _midnight(since), "until": _midnight(until)}
    found: dict[int, dict[int, tuple[int, int]]] = defaultdict(dict)
    for row in session.execute(_DAYS, {"ids": [row.object_id for row in accounts], **spans}):
        found[row.object_id][row.day] = (row.reads, row.bytes)
    result, last = {}, day_of(_midnight(until))
    for account in accounts:
        span = range(day_of(_midnight(account.through)) + 1, last)
        known = [found[account.object_id].get(day, (0, 0)) for day in span]
        reads, bytes_ = [float(reads) for reads, _ in known], [float(size) for _, size in known]
        result[account.migration_id] = Days(reads, bytes_, account.idle_days)
    return result


def cohorts(session: Session) -> list[Json]:
    """What the changes of class of each cohort have come to, $."""
    return [
        {
            "cohort": row["cohort"],
            "moves": row["moves"],
            "demotions": row["demotions"],
            **{name: float(row[name]) for name in ("fee", "actual", "stayed", "owed")},
            "saved": float(row["stayed"] - row["actual"] - row["fee"] - row["owed"]),
        }
        for row in session.execute(_COHORTS).mappings()
    ]


def no_demotions(session: Session, now: datetime) -> dict[str, str]:
    """Cohorts that demote no more as of a time, each with why."""
    today = (EPOCH + timedelta(days=day_of(now))).date()
    spans = {"tried": today - timedelta(days=TRIAL_DAYS), "oldest": today - timedelta(days=TRAILING_DAYS)}
    rows = session.execute(_JUDGED, spans)
    return stopped({row.cohort: Judged(float(row.lost), float(row.stayed)) for row in rows})


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=EPOCH.tzinfo)
