"""Rolls accesses up to hours, each block exactly once, and reads their history back as columns (step: window)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
from sqlalchemy import text
from sqlalchemy.orm import Session

from app.db.columnar import Column, read_columns
from ml.history import Catalogue, History, Ints

RECENT = timedelta(hours=24)
"""The windows up to this long are exact to the microsecond; older accesses are read as hours."""
READ = "a.op in ('GET', 'HEAD') and coalesce(a.status, 200) < 400"

_CLAIM = text(
    "select id, ts_min, ts_max from access_batch where rolled_up_at is null order by id limit :limit"
    " for update skip locked"
)
_ROLL_UP = text(
    f"""insert into access_hour as h
        (object_id, hour, region, reads, writes, bytes_read, partial_uploads, last_ts)
    select a.object_id, date_trunc('hour', a.ts, 'UTC'), coalesce(a.region, ''),
        count(*) filter (where {READ}),
        count(*) filter (where a.op = 'PUT'),
        coalesce(sum(a.bytes) filter (where a.op = 'GET' and {READ}), 0),
        count(*) filter (where a.partial_upload),
        max(a.ts)
    from access a where a.batch_id = any(:batches) and a.ts between :since and :until
    group by 1, 2, 3 order by 1, 2, 3
    on conflict (object_id, hour, region) do update set
        reads = h.reads + excluded.reads, writes = h.writes + excluded.writes,
        bytes_read = h.bytes_read + excluded.bytes_read,
        partial_uploads = h.partial_uploads + excluded.partial_uploads,
        last_ts = greatest(h.last_ts, excluded.last_ts)
    returning object_id"""  # noqa: S608 - only a constant of this module is put in
)
_HOURS = """select object_id, last_ts, reads, writes, bytes_read, partial_uploads from access_hour
    where hour < %(recent)s and (%(only)s::bigint[] is null or object_id = any(%(only)s))"""
_EVENTS = f"""select a.object_id, a.ts, (case when {READ} then 1 else 0 end)::bigint,
    (case when a.op = 'PUT' then 1 else 0 end)::bigint,
    case when a.op = 'GET' and {READ} then a.bytes else 0 end, a.partial_upload::int::bigint
    from access a where a.ts >= %(recent)s and a.ts < %(as_of)s
    and (%(only)s::bigint[] is null or a.object_id = any(%(only)s))"""  # noqa: S608
_COLUMNS: dict[str, Column] = {
    "object_id": "bigint",
    "ts": "timestamptz",
    "reads": "bigint",
    "writes": "bigint",
    "bytes_read": "bigint",
    "partial_uploads": "bigint",
}


@dataclass(frozen=True)
class RolledUp:
    """What one transaction of the roll-up did."""

    batches: int
    objects: set[int]
    """Ids of the objects whose hours changed."""


@dataclass(frozen=True)
class Observed:
    """What is known of some objects as of a time; `ids` maps the dense indexes of the arrays to object ids."""

    ids: Ints
    history: History
    catalogue: Catalogue


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


def observe(session: Session, as_of: datetime, only: Sequence[int] | None = None) -> Observed:
    """The history before an aware time of all objects that are not gone, or of some, and their catalogue.

    The last 24 hours come as events, what is older as hours of access_hour.
    """
    recent = floor_hour(as_of - RECENT)
    parameters = {"recent": recent, "as_of": as_of, "only": list(only) if only is not None else None}
    parts = [read_columns(session, query, _COLUMNS, **parameters) for query in (_HOURS, _EVENTS)]
    rows = {name: np.concatenate([part[name] for part in parts]) for name in _COLUMNS}
    return _observed(session, rows, as_of, only)


def observe_hours(session: Session, until: datetime, part: tuple[int, int] = (0, 1)) -> Observed:
    """The history before a full hour, in hours alone: what models are trained on.

    part: (i, n) takes the objects whose id leaves i when divided by n, for a catalogue too large to learn from whole.
    """
    which, parts = part
    ids = session.scalars(
        text("select id from object where state <> 'gone' and id % :n = :i"), {"i": which, "n": parts}
    )
    only = list(ids) if parts > 1 else None
    rows = read_columns(session, _HOURS, _COLUMNS, recent=until, only=only)
    return _observed(session, rows, until, only)


def count_objects(session: Session) -> int:
    """How many objects are not gone."""
    return int(session.scalar(text("select count(*) from object where state <> 'gone'")) or 0)


def clock(session: Session) -> datetime | None:
    """The time of the newest access, or None before the first."""
    newest: datetime | None = session.scalar(text("select max(ts_max) from access_batch"))
    return newest


def floor_hour(moment: datetime) -> datetime:
    """The full hour, UTC, at or before an aware time."""
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def microseconds(moment: datetime) -> int:
    """An aware time as the learners count it, since 1970 UTC."""
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def _observed(session: Session, rows: dict[str, Ints], as_of: datetime, only: Sequence[int] | None) -> Observed:
    objects = session.execute(
        text(
            "select id, key, size from object where state <> 'gone'"
            " and (cast(:only as bigint[]) is null or id = any(:only)) order by id"
        ),
        {"only": list(only) if only is not None else None},
    ).all()
    ids = np.array([row.id for row in objects], np.int64)
    owner = np.searchsorted(ids, rows["object_id"])
    kept = (owner < len(ids)) & (ids[np.minimum(owner, len(ids) - 1)] == rows["object_id"]) if len(ids) else owner < 0
    begin = session.scalar(text("select min(ts_min) from access_batch")) or as_of
    history = History.of(
        owner[kept],
        rows["ts"][kept],
        rows["reads"][kept],
        rows["writes"][kept],
        rows["bytes_read"][kept],
        rows["partial_uploads"][kept],
        objects=len(ids),
        begin=microseconds(begin),
    )
    return Observed(ids, history, Catalogue.of([row.key for row in objects], [row.size for row in objects]))


def recent_reads(session: Session, object_id: int, now: datetime) -> tuple[int, int]:
    """How often the object was read in the last hour and in the last 24 hours."""
    row = session.execute(
        text(
            f"select count(*) filter (where a.ts > :hour), count(*) from access a"  # noqa: S608
            f" where a.object_id = :id and a.ts > :day and a.ts <= :now and {READ}"
        ),
        {"id": object_id, "now": now, "hour": now - timedelta(hours=1), "day": now - timedelta(hours=24)},
    ).one()
    return int(row[0]), int(row[1])
