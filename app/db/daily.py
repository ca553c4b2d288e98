"""How objects were read, by day: what voters learn from and go by; sparse columns, a row an object's day."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
from sqlalchemy import text
from sqlalchemy.orm import Session

from app.db import accesses
from app.db.accesses import EPOCH, day_of
from app.db.columnar import Column, read_columns
from app.db.demand import cohort
from ml.tiering_past import Past

KEPT_DAYS = 400
"""What is older changes no rate and no idle time that a voter tells apart."""
LEARN_OBJECTS = 2000
"""Voters learn from about so many objects: every n-th of a larger catalogue."""
_DAYS = """select object_id, (extract(epoch from date_trunc('day', hour, 'UTC')) / 86400)::bigint,
    sum(reads)::bigint, sum(writes)::bigint, sum(bytes_read)::bigint from access_hour
    where object_id = any(%(ids)s) and hour >= %(since)s and hour < %(until)s group by 1, 2 order by 1, 2"""
_COLUMNS: dict[str, Column] = {
    "object_id": "bigint", "day": "bigint", "reads": "bigint", "writes": "bigint", "bytes_read": "bigint",
}  # fmt: skip
_SUBJECTS = """select o.id, o.key, o.size, o.first_seen_at,
    (select s.name from replica r join site s on s.id = r.site_id
     where r.object_id = o.id and r.state = 'serving' order by r.id limit 1) as site
    from object o where o.size is not null and """

_LYING = """select r.object_id, s.name, r.storage_class, r.class_since from replica r join site s on s.id = r.site_id
    where r.object_id = any(:ids) and r.state = 'serving'"""


@dataclass(frozen=True)
class Subject:
    """An object whose days are asked for. group: of those taken to be read alike, by site and first path segment."""

    id: int
    size: int
    first_seen: datetime
    group: str


def sample(session: Session) -> list[Subject]:
    """The objects that voters learn from."""
    count = session.scalar(text("select count(*) from object where state = 'present' and size is not null")) or 0
    return _subjects(session, "o.state = 'present' and o.id % :n = 0 order by o.id", n=max(1, count // LEARN_OBJECTS))


def subjects(session: Session, ids: Sequence[int]) -> list[Subject]:
    """Some objects of known size, by id."""
    return _subjects(session, "o.id = any(:ids) order by o.id", ids=list(ids))


def _subjects(session: Session, which: str, **parameters: object) -> list[Subject]:
    rows = session.execute(text(_SUBJECTS + which), parameters)
    return [Subject(row.id, row.size, row.first_seen_at, f"{row.site or ''}/{cohort(row.key)}") for row in rows]


def lying(session: Session, ids: Sequence[int]) -> list[tuple[int, str, str, datetime]]:
    """Where serving copies of some objects lie: object, site, class, and since when in it."""
    found = session.execute(text(_LYING), {"ids": list(ids)})
    return [(row.object_id, row.name, row.storage_class, row.class_since) for row in found]


def past(session: Session, now: datetime, subjects: Sequence[Subject], groups: Sequence[str]) -> Past:
    """What is known of some objects, in their order (by id), on the days before today. groups: names by number."""
    today = day_of(now)
    begin = today - min(KEPT_DAYS, accesses.known_days(session, now))
    ids = np.array([subject.id for subject in subjects], np.int64)
    since, until = (EPOCH + timedelta(days=day) for day in (begin, today))
    rows = read_columns(session, _DAYS, _COLUMNS, ids=ids.tolist(), since=since, until=until)
    index, day = np.searchsorted(ids, rows["object_id"]), rows["day"] - begin
    birth = np.array([day_of(subject.first_seen) - begin for subject in subjects], np.int64)
    np.minimum.at(birth, index, day)
    size = np.array([max(subject.size, 1) for subject in subjects], float)
    number = {name: place for place, name in enumerate(groups)}
    return Past(
        object=index,
        day=day,
        reads=rows["reads"].astype(float),
        share=rows["bytes_read"] / size[index],
        written=rows["writes"] > 0,
        birth=np.clip(birth, 0, today - begin),
        cohort=np.array([number.get(subject.group, len(groups)) for subject in subjects], np.int64),
        today=today - begin,
    )
