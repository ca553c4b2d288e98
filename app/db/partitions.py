"""Daily partitions of the accesses: made before a day's first line, dropped past retention (step: ingest)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, timedelta

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.db import lives

Keeping = Callable[[list[date]], list[date]]
PREFIX = "access_d"
LOCK = 0x666F7265  # any number that nothing else uses: one transaction at a time makes or drops partitions

_WAITING = text(
    "select exists (select from access_batch where rolled_up_at is null and ts_min < :until and ts_max >= :since)"
)
_FORGET = text("delete from access_batch where rolled_up_at is not null and coalesce(ts_max, received_at) < :day")


def ensure(session: Session, days: Iterable[date]) -> int:
    """Makes the partitions of these days that are missing; returns how many. Others wait only for the same lock."""
    wanted = {name_of(day): day for day in days}
    missing = _missing(session, list(wanted))
    if missing:
        session.execute(text("select pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
        missing = _missing(session, missing)  # another transaction may have made them meanwhile
    for name in missing:
        _create(session, name, wanted[name])
    return len(missing)


def missing(session: Session, days: Iterable[date]) -> list[date]:
    """Those of the days that have no partition."""
    wanted = {name_of(day): day for day in days}
    return [wanted[name] for name in _missing(session, list(wanted))]


def days(session: Session, before: date | None = None) -> list[date]:
    """Days that have a partition, before a day if one is given, in their order."""
    names = session.scalars(
        text(
            "select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid"
            " where i.inhparent = 'access'::regclass and (cast(:first as text) is null or c.relname < :first)"
            " order by 1"
        ),
        {"first": name_of(before) if before else None},
    )
    return [date.fromisoformat(name.removeprefix(PREFIX)) for name in names]


def prune(session: Session, before: datetime, sums_before: datetime, kept: Keeping | None = None) -> int:
    """Drops accesses of days that ended before an aware time, and sums before another; returns how many partitions.

    A day stays as long as a block that is not rolled up has a line in it, or may have. kept: tells which other of the
    days that are to be dropped must stay for now.
    """
    last_kept, last_sum = before.astimezone(UTC).date(), sums_before.astimezone(UTC).date()
    session.execute(text("select pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
    old = days(session, last_kept)
    staying = kept(old) if kept else []
    dropped = sum(_drop(session, day) for day in old if day not in staying)
    session.execute(text("delete from access_hour where hour < :day"), {"day": start(last_sum)})
    session.execute(_FORGET, {"day": start(last_sum)})
    lives.prune(session, start(last_sum))
    return dropped


def _drop(session: Session, day: date) -> bool:
    """Whether the day has gone. Who writes to it is awaited first, so that their blocks are seen."""
    session.execute(text(f"lock table {name_of(day)} in access exclusive mode"))
    if session.scalar(_WAITING, {"since": start(day), "until": start(day + timedelta(days=1))}):
        return False
    session.execute(text(f"drop table {name_of(day)}"))
    return True


def _create(session: Session, name: str, day: date) -> None:
    """By ATTACH, which lets readers and writers of the other partitions go on; CREATE … PARTITION OF would not."""
    bounds = {"since": start(day).isoformat(), "until": start(day + timedelta(days=1)).isoformat()}
    session.execute(text(f"create table {name} (like access including defaults including constraints)"))
    session.execute(
        text("alter table access attach partition {} for values from ('{since}') to ('{until}')".format(name, **bounds))
    )


def _missing(session: Session, names: list[str]) -> list[str]:
    """Read from the catalogue itself: to_regclass may answer from a cache that another's commit has not reached."""
    query = text(
        "select name from unnest(cast(:names as text[])) as name where not exists ("
        " select from pg_inherits i join pg_class c on c.oid = i.inhrelid"
        " where i.inhparent = 'access'::regclass and c.relname = name) order by name"
    )
    return list(session.scalars(query, {"names": names}))


def name_of(day: date) -> str:
    """The table that holds the accesses of a day, UTC."""
    return f"{PREFIX}{day:%Y%m%d}"


def start(day: date) -> datetime:
    """The first moment of a day, UTC."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
