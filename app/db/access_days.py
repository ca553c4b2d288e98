"""Days of accesses as text for whoever makes files of them: one COPY a day, never a row in Python (step: batch)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import BinaryIO

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.db import partitions
from app.db.bulk import cursor
from app.domain.batch import Span

COLUMNS = ("ts", "key", "op", "site", "bytes", "status", "region", "client", "event_id", "partial_upload")
_DAY = """copy (select (extract(epoch from a.ts) * 1000000)::bigint, o.key, a.op, s.name, a.bytes, a.status, a.region,
        a.client, a.event_id, a.partial_upload
    from access a join object o on o.id = a.object_id left join site s on s.id = a.site_id
    where a.ts >= %(since)s and a.ts < %(until)s and starts_with(o.key, %(prefix)s)
    order by a.ts, a.batch_id, a.ctid) to stdout (format csv)"""


def days_of(span: Span) -> list[date]:
    """The UTC days that the span touches."""
    first, end = span.since.astimezone(UTC).date(), span.until.astimezone(UTC)
    days = (first + timedelta(days=n) for n in range((end.date() - first).days + 1))
    return [day for day in days if partitions.start(day) < end]


def whole(day: date) -> Span:
    """The span of a day."""
    return Span(partitions.start(day), partitions.start(day + timedelta(days=1)))


def within(span: Span, day: date) -> Span:
    """The part of the span that lies in a day."""
    of_day = whole(day)
    return Span(max(span.since, of_day.since), min(span.until, of_day.until), span.prefix)


def copy_out(session: Session, span: Span, file: BinaryIO) -> None:
    """Writes the span's accesses as CSV with the columns of COLUMNS, in the order of their times.

    ts: microseconds since 1970 UTC; what is null is empty, and text without a character is quoted.
    """
    asked = {"since": span.since, "until": span.until, "prefix": span.prefix}
    with cursor(session) as driver:
        driver.copy_expert(driver.mogrify(_DAY, asked).decode(), file)


def kept(session: Session, days: Sequence[date]) -> list[date]:
    """Those of the days that have a partition."""
    missing = set(partitions.missing(session, days))
    return [day for day in days if day not in missing]


def blocks(session: Session, day: date) -> tuple[int, int]:
    """How many ingested blocks have lines in the day or around it, and how many of them are not rolled up yet."""
    span = whole(day)
    row = session.execute(
        text(
            "select count(*), count(*) filter (where rolled_up_at is null) from access_batch"
            " where ts_min < :until and ts_max >= :since"
        ),
        {"since": span.since, "until": span.until},
    ).one()
    return int(row[0]), int(row[1])


def first_known(session: Session) -> datetime | None:
    """The time of the oldest access of which there are blocks."""
    found: datetime | None = session.scalar(text("select min(ts_min) from access_batch"))
    return found
