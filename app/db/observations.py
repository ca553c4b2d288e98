"""Reads the history of accesses back as columns: what features and models are made from (step: learn)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from app.db.accesses import READ, floor_hour, microseconds
from app.db.columnar import Column, read_columns
from ml.history import STAYS, Catalogue, Former, History, Ints

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
_FORMER_COLUMNS: dict[str, Column] = {
    "object_id": "bigint",
    "until": "timestamptz",
    "size": "double precision",
    "gone": "timestamptz",
}


_FORMER = """select object_id, until,
    coalesce(size, 0)::double precision as size, coalesce(gone_at, until) as gone
    from object_former where until > %(begin)s and (%(only)s::bigint[] is null or object_id = any(%(only)s))"""
_SOME = " and (cast(:only as bigint[]) is null or id = any(:only)) order by id"
_THERE = "state <> 'gone'"
_LEARNABLE = f"({_THERE} or gone_at > :begin)"


@dataclass(frozen=True)
class Observed:
    """What is known of some objects as of a time; `ids` maps the dense indexes of the arrays to object ids."""

    ids: Ints
    history: History
    catalogue: Catalogue


def observe(session: Session, as_of: datetime, only: Sequence[int] | None = None) -> Observed:
    """The history before an aware time of all objects that are not gone, or of some, and their catalogue: the present.

    The last 24 hours come as events, what is older as hours of access_hour.
    """
    recent = floor_hour(as_of - RECENT)
    parameters = {"recent": recent, "as_of": as_of, "only": list(only) if only is not None else None}
    parts = [read_columns(session, query, _COLUMNS, **parameters) for query in (_HOURS, _EVENTS)]
    rows = {name: np.concatenate([part[name] for part in parts]) for name in _COLUMNS}
    chosen = text(f"select id, key, size, gone_at from object where {_THERE}{_SOME}")  # noqa: S608 - constants alone
    objects = session.execute(chosen, {"only": parameters["only"]}).all()
    return _observed(objects, rows, _begin(session) or as_of, None)


def observe_hours(session: Session, until: datetime, part: tuple[int, int] = (0, 1)) -> Observed:
    """The history before a full hour, in hours alone: what models are trained on, with what was there at each time.

    Objects that have ended since accesses are known are among them, with their ends, and sizes as they were: whoever
    learned from those alone that are left would take what is short-lived to live for ever.
    part: (i, n) takes the objects whose id leaves i when divided by n, for a catalogue too large to learn from whole.
    """
    which, parts = part
    begin = _begin(session) or until
    chosen = text(f"select id, key, size, gone_at from object where {_LEARNABLE} and id % :n = :i order by id")  # noqa: S608
    objects = session.execute(chosen, {"begin": begin, "n": parts, "i": which}).all()
    only = [row.id for row in objects] if parts > 1 else None
    rows = read_columns(session, _HOURS, _COLUMNS, recent=until, only=only)
    former = read_columns(session, _FORMER, _FORMER_COLUMNS, begin=begin, only=only)
    return _observed(objects, rows, begin, former)


def count_objects(session: Session) -> int:
    """How many objects can be learned from: those that are not gone, or were there since accesses are known."""
    begin = _begin(session) or datetime.max.replace(tzinfo=UTC)
    return int(session.scalar(text(f"select count(*) from object where {_LEARNABLE}"), {"begin": begin}) or 0)  # noqa: S608


def _begin(session: Session) -> datetime | None:
    """Since when accesses are known; None before the first."""
    begin: datetime | None = session.scalar(text("select min(ts_min) from access_batch"))
    return begin


def _observed(
    objects: Sequence[Row[Any]], rows: dict[str, Ints], begin: datetime, former: dict[str, Any] | None
) -> Observed:
    """objects: id, key, size and end, by id."""
    ids = np.array([row.id for row in objects], np.int64)
    owner, kept = _places(ids, rows["object_id"])
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
    ends = np.array([microseconds(row.gone_at) if row.gone_at else STAYS for row in objects], np.int64)
    keys, sizes = [row.key for row in objects], [row.size for row in objects]
    return Observed(ids, history, Catalogue.of(keys, sizes, ends, _former(ids, former) if former else None))


def _former(ids: Ints, rows: dict[str, Any]) -> Former:
    owner, kept = _places(ids, rows["object_id"])
    order = np.lexsort((rows["until"], owner))
    order = order[kept[order]]
    return Former(owner[order], rows["until"][order], rows["size"][order], rows["gone"][order])


def _places(ids: Ints, wanted: Ints) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """The dense index of each id, and which of them have one."""
    place = np.searchsorted(ids, wanted)
    if not len(ids):
        return place, np.zeros(len(wanted), bool)
    return place, (place < len(ids)) & (ids[np.minimum(place, len(ids) - 1)] == wanted)
