"""The savings ledger: what each change of class or site has cost, beside what staying would have, day by day."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta

from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.db.accesses import EPOCH, day_of
from app.db.demand import cohort
from app.db.tables import Json, Saving
from app.db.tables_work import MIGRATION_ACTIVE
from app.domain.savings import TRAILING_DAYS, TRIAL_DAYS, Days, Judged, stopped


def _peaks(of: str) -> str:
    """A class for the hours of a peak, and back: weighed with the peak, and no reason to judge what was before it."""
    return f"""exists (select from plan p where p.id = {of}.plan_id and p.scope @> '{{"peaks": true}}')"""


def _made(of: str) -> str:
    """The copy that is read was changed: by its class, or by a move whose source does not stay."""
    return f"""({of}.kind = 'class' and {of}.state = 'done'
        or {of}.kind = 'move' and {of}.reason is distinct from 'source_kept_readers_direct'
        and {of}.state in ('switched', 'draining', 'done')) and {_at(of)} is not null and not {_peaks(of)}"""


def _at(of: str) -> str:
    return f"coalesce({of}.switched_at, {of}.finished_at)"


_NEW = text(
    f"""select m.id, m.object_id, o.key, o.size, s.name as site, f.name as from_site, v.from_class, m.to_class,
        {_at("m")} as moved_at, b.moved_at as before_at, coalesce(b.has_account, false) as is_owed, o.first_seen_at,
        (select max(h.last_ts) from access_hour h
            where h.object_id = m.object_id and h.last_ts < {_at("m")}) as read_at
    from migration m join move v on v.id = m.move_id join object o on o.id = m.object_id
        join site s on s.id = m.to_site_id join site f on f.id = coalesce(m.from_site_id, m.to_site_id)
        left join lateral (
            select {_at("e")} as moved_at, w.from_class is not null as has_account
            from migration e left join move w on w.id = e.move_id
            where e.object_id = m.object_id and e.id < m.id and e.to_site_id = f.id and {_made("e")}
            order by e.id desc limit 1) b on true
    where {_made("m")} and v.from_class is not null and o.size is not null
        and not exists (select from saving where migration_id = m.id)
    order by m.id limit :limit"""  # noqa: S608 - only conditions of this module are put in
)
_STANDING = text(
    f"""select v.migration_id from saving v join site s on s.name = v.site
        join replica r on r.object_id = v.object_id and r.site_id = s.id
    where v.migration_id = any(:ids) and r.state = 'serving' and (r.storage_class = v.to_class
            or exists (select from migration m where m.object_id = v.object_id and m.kind = 'class'
                and {MIGRATION_ACTIVE} and m.to_site_id = s.id and m.to_class = v.to_class and {_peaks("m")}))
        and not exists (select from migration m where m.object_id = v.object_id and m.id > v.migration_id
            and coalesce(m.from_site_id, m.to_site_id) = s.id and {_made("m")})"""  # noqa: S608 - as above
)
_LEFT = text(
    f"""select v.migration_id, min({_at("m")}) as left_at from saving v join site s on s.name = v.site
        join migration m on m.object_id = v.object_id and m.id > v.migration_id
            and coalesce(m.from_site_id, m.to_site_id) = s.id and {_made("m")}
    where v.migration_id = any(:ids) group by 1"""  # noqa: S608 - as above
)
_STOOD = text(
    f"""select m.id, extract(epoch from greatest(
            (select max(coalesce(old.ended_at, :ever)) from old_version old where old.migration_id = m.id),
            (select case when m.state = 'done' and coalesce(m.reason, '') not like 'source_kept%' then m.finished_at
                    when r.state in ('draining', 'removing') then :ever
                    when r.state in ('deleted', 'lost') then r.deleted_at end
                from replica r where m.kind = 'move' and r.object_id = m.object_id and r.site_id = m.from_site_id),
            {_at("m")}) - {_at("m")}) / 86400 as days
    from migration m where m.id = any(:ids)"""  # noqa: S608 - as above
)
_KNOWN = text(
    """select day from unnest(cast(:days as timestamptz[])) as day where exists (
        select from access_hour h where h.hour >= day and h.hour < day + interval '24 hours') order by 1"""
)
_DAYS = text(
    """select h.object_id, (h.hour at time zone 'UTC')::date as day, h.region,
        sum(h.reads)::bigint as reads, sum(h.bytes_read)::bigint as bytes
    from access_hour h where h.object_id = any(:ids) and h.hour >= :since and h.hour < :until group by 1, 2, 3"""
)
_COHORTS = text(
    """select cohort, count(*) as moves, count(*) filter (where demotion) as demotions,
        coalesce(sum(fee), 0) as fee, sum(actual) as actual, sum(stayed) as stayed, sum(owed) as owed,
        sum(unknown_days)::bigint as unknown_days, count(*) filter (where reason is not null) as waiting,
        min(reason) as reason
    from saving group by cohort order by cohort"""
)
_JUDGED = text(
    """select cohort, sum(stayed) as stayed,
        sum(case when whole then coalesce(fee, 0) + actual + owed - stayed
            else greatest(actual - stayed, 0) end) as lost
    from (select *, ended_on is not null or through - moved_on + 1 - unknown_days >= :trial as whole from saving
        where demotion and moved_on > :oldest) as judged
    where whole or actual > stayed group by cohort"""
)
EVER = datetime(9000, 1, 1, tzinfo=UTC)


def unrecorded(session: Session, limit: int) -> Sequence[Json]:
    """Changes of class and moves between sites that have been made and are not in the ledger yet, as rows."""
    return [dict(row) for row in session.execute(_NEW, {"limit": limit}).mappings()]


def cohort_of(site: str, key: str) -> str:
    """Objects at a site under one first path segment are judged together."""
    return f"{site}/{cohort(key)}"


def record(session: Session, rows: Sequence[Json]) -> int:
    """Opens the accounts of changes; what another job has recorded meanwhile stays. Returns how many are new."""
    made = insert(Saving).values(list(rows)).on_conflict_do_nothing().returning(Saving.migration_id)
    return len(session.scalars(made).all()) if rows else 0


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


def left_at(session: Session, ids: Sequence[int]) -> dict[int, datetime]:
    """When the next change took the copy of each account away; those that nothing of ours has moved are missing."""
    return {row.migration_id: row.left_at for row in session.execute(_LEFT, {"ids": list(ids)})}


def stood(session: Session, ids: Sequence[int]) -> dict[int, float]:
    """For how many days after each change what it left stood at its old place, or will: while it stands, for long."""
    return {row.id: float(row.days) for row in session.execute(_STOOD, {"ids": list(ids), "ever": EVER})}


def known_days(session: Session, since: date, until: date) -> list[date]:
    """Those of the days from `since` to the one before `until` of which some access, of whatever object, is known."""
    days = [_midnight(since) + timedelta(days=number) for number in range((until - since).days)]
    return [day.astimezone(UTC).date() for day in session.scalars(_KNOWN, {"days": days})]


def days(
    session: Session, accounts: Sequence[Saving], until: Mapping[int, date], known: Sequence[date]
) -> dict[int, Days]:
    """The accesses of each account's known days that are not accrued yet, up to the day before its `until`."""
    if not known:
        return {row.migration_id: Days([], [], row.idle_days) for row in accounts}
    spans = {"since": _midnight(known[0]), "until": _midnight(known[-1] + timedelta(days=1))}
    found: dict[int, dict[date, list[tuple[str, int, int]]]] = defaultdict(lambda: defaultdict(list))
    for row in session.execute(_DAYS, {"ids": [row.object_id for row in accounts], **spans}):
        found[row.object_id][row.day].append((row.region, row.reads, row.bytes))
    return {row.migration_id: _days(row, found[row.object_id], until[row.migration_id], known) for row in accounts}


def _days(
    account: Saving, found: Mapping[date, Sequence[tuple[str, int, int]]], until: date, known: Sequence[date]
) -> Days:
    mine = [found.get(day, ()) for day in known if account.through < day < until]
    away: dict[str, float] = defaultdict(float)
    for region, _, size in (entry for day in mine for entry in day):
        away[region] += size
    reads = [float(sum(count for _, count, _ in day)) for day in mine]
    bytes_ = [float(sum(size for _, _, size in day)) for day in mine]
    return Days(reads, bytes_, account.idle_days, away)


def cohorts(session: Session) -> list[Json]:
    """What the changes of class of each cohort have come to, $."""
    return [
        {
            "cohort": row["cohort"],
            "moves": row["moves"],
            "demotions": row["demotions"],
            "unknown_days": row["unknown_days"],
            "waiting": row["waiting"],
            "reason": row["reason"],
            **{name: float(row[name]) for name in ("fee", "actual", "stayed", "owed")},
            "saved": float(row["stayed"] - row["actual"] - row["fee"] - row["owed"]),
        }
        for row in session.execute(_COHORTS).mappings()
    ]


def no_demotions(session: Session, now: datetime) -> dict[str, str]:
    """Cohorts that demote no more as of a time, each with why."""
    today = (EPOCH + timedelta(days=day_of(now))).date()
    rows = session.execute(_JUDGED, {"trial": TRIAL_DAYS, "oldest": today - timedelta(days=TRAILING_DAYS)})
    return stopped({row.cohort: Judged(float(row.lost), float(row.stayed)) for row in rows})


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=EPOCH.tzinfo)
