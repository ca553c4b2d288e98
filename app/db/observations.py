"""Reads the history of accesses back as columns: what features and models are made from (step: learn)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
from sqlalchemy import text
from sqlalchemy.orm import Session

from app.db.accesses import READ, floor_hour, microseconds
from app.db.columnar import Column, read_columns
from ml.history import Catalogue, History, Ints

RECENT = timedelta(hours=24)
"""The windows up to this long are exact to the microsecond; older accesses are read as hours."""
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
class Observed:
    """What is known of some objects as of a time; `ids` maps the dense indexes of the arrays to object ids."""

    ids: Ints
    history: History
    catalogue: Catalogue


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
