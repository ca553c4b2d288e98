"""Rolls accesses up to hours, each block exactly once, and counts recent reads (step: window)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.db import partitions
from app.errors import Conflict

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
READ = "a.op in ('GET', 'HEAD') and coalesce(a.status, 200) < 400"

_MOST = 2**53
"""Bytes of an hour; more would be no number that sums of hours could keep."""
_CLAIM = text(
    "select id, ts_min, ts_max from access_batch where rolled_up_at is null order by id limit :limit"
    " for no key update skip locked"
)
_SUMS = f"""select a.object_id, date_trunc('hour', a.ts, 'UTC'), coalesce(a.region, ''),
        count(*) filter (where {READ}),
        count(*) filter (where a.op = 'PUT'),
        least(coalesce(sum(a.bytes) filter (where a.op = 'GET' and {READ}), 0), {_MOST}),
        count(*) filter (where a.partial_upload),
        max(a.ts)
    from access a where a.ts >= :since and a.ts <= :until and"""  # noqa: S608
_COLUMNS = "object_id, hour, region, reads, writes, bytes_read, partial_uploads, last_ts"
_ROLL_UP = text(
    f"""insert into access_hour as h ({_COLUMNS})
    {_SUMS} a.batch_id = any(:batches)
    group by 1, 2, 3 order by 1, 2, 3
    on conflict (object_id, hour, region) do update set
        reads = h.reads + excluded.reads, writes = h.writes + excluded.writes,
        bytes_read = least(h.bytes_read + excluded.bytes_read, {_MOST}),
        partial_uploads = h.partial_uploads + excluded.partial_uploads,
        last_ts = greatest(h.last_ts, excluded.last_ts)
    returning object_id"""
)
_REBUILD = text(
    f"""insert into access_hour ({_COLUMNS})
    {_SUMS} a.batch_id not in (select id from access_batch where rolled_up_at is null)
    group by 1, 2, 3"""  # noqa: S608
)
_RECENT = text(
    f"""with open as (select id, ts_min, ts_max from access_batch where rolled_up_at is null and ts_max > :day),
    single as (
        select a.ts from access a where a.object_id = :id and {READ} and a.ts > :day and a.ts < :first
        union all select a.ts from access a where a.object_id = :id and {READ} and a.ts >= :last and a.ts <= :now
        union all select a.ts from open o join access a on a.batch_id = o.id and a.ts between o.ts_min and o.ts_max
            where a.object_id = :id and {READ} and a.ts >= :first and a.ts < :last)
    select count(*) filter (where ts > :hour), count(*) + (select coalesce(sum(reads), 0) from access_hour
        where object_id = :id and hour >= :first and hour < :last) from single"""  # noqa: S608 - only a constant
)


@dataclass(frozen=True)
class RolledUp:
    """What one transaction of the roll-up did."""

    batches: int
    objects: set[int]
    """Ids of the objects whose hours changed."""


def roll_up(session: Session, limit: int = 64) -> RolledUp:
    """Adds up to `limit` open blocks to their hours. Late lines and repeated runs count once: the block is the unit.

    Blocks that another transaction holds are left to it.
    """
    batches = session.execute(_CLAIM, {"limit": limit}).all()
    if not batches:
        return RolledUp(0, set())
    ids = [batch.id for batch in batches]
    spans = [batch for batch in batches if batch.ts_min is not None]  # a block of duplicates alone has no span
    touched: set[int] = set()
    if spans:
        since, until = min(batch.ts_min for batch in spans), max(batch.ts_max for batch in spans)
        rows = session.scalars(_ROLL_UP, {"batches": ids, "since": since, "until": until})
        touched = set(rows)
    session.execute(text("update access_batch set rolled_up_at = now() where id = any(:ids)"), {"ids": ids})
    return RolledUp(len(ids), touched)


def rebuild(session: Session, day: date) -> int:
    """Counts the sums of a UTC day anew from its accesses; returns how many there are.

    Exact while others ingest and roll up: who writes sums is awaited and waits, and blocks that are not rolled up are
    left to their roll-up. Raises Conflict where the sums are all that is left of the day.
    """
    if lost := unknown(session, [day]):
        raise Conflict(f"the accesses of {lost[0]} are no longer kept; its sums stay as they are")
    session.execute(text("lock table access_hour in share row exclusive mode"))
    span = {"since": partitions.start(day), "until": partitions.start(day + DAY) - timedelta(microseconds=1)}
    session.execute(text("delete from access_hour where hour between :since and :until"), span)
    return int(session.execute(_REBUILD, span).rowcount)  # type: ignore[attr-defined]


def unknown(session: Session, days: Sequence[date]) -> list[date]:
    """Those of the days that have sums but no accesses any more. A partition that is there stays for now."""
    missing = partitions.missing(session, days)
    for day in set(days).difference(missing):
        session.execute(text(f"lock table {partitions.name_of(day)} in access share mode"))
    return [day for day in missing if _has_sums(session, day)]


def _has_sums(session: Session, day: date) -> bool:
    query = text("select exists (select from access_hour where hour >= :since and hour < :until)")
    return bool(session.scalar(query, {"since": partitions.start(day), "until": partitions.start(day + DAY)}))


def clock(session: Session) -> datetime | None:
    """The time of the newest access, or None before the first."""
    newest: datetime | None = session.scalar(text("select max(ts_max) from access_batch"))
    return newest


def floor_hour(moment: datetime) -> datetime:
    """The full hour, UTC, at or before an aware time."""
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def microseconds(moment: datetime) -> int:
    """An aware time as the learners count it, since 1970 UTC."""
    return (moment - EPOCH) // timedelta(microseconds=1)


def day_of(moment: datetime) -> int:
    """The UTC day of an aware time, counted from 1970."""
    return (moment - EPOCH) // timedelta(days=1)


def known_days(session: Session, now: datetime) -> int:
    """For how many whole days before today accesses are known."""
    begin: datetime | None = session.scalar(text("select min(ts_min) from access_batch where rolled_up_at is not null"))
    return 0 if begin is None else max(0, day_of(now) - day_of(begin))


def recent_reads(session: Session, object_id: int, now: datetime) -> tuple[int, int]:
    """How often the object was read in the last hour and in the last 24 hours.

    Whole hours come from their sums, which are found by object; single accesses, which are not, only of the hours at
    the ends, and of blocks that wait to be rolled up. One statement sees both as of the same moment.
    """
    hour, day = now - timedelta(hours=1), now - timedelta(hours=24)
    first, last = floor_hour(day) + timedelta(hours=1), floor_hour(hour)
    row = session.execute(
        _RECENT, {"id": object_id, "now": now, "hour": hour, "day": day, "first": first, "last": last}
    )
    in_hour, in_day = row.one()
    return int(in_hour), int(in_day)
