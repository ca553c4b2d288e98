"""Stores samples by stream and bucket, each block once, and merges what has come in parts (step: metrics)."""

from __future__ import annotations

import io
import struct
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from sqlalchemy import insert, text
from sqlalchemy.orm import Session

from app.db import bulk, metrics
from app.db.columnar import POSTGRES_EPOCH, SIGNATURE, TRAILER
from app.db.tables import MetricItems
from app.domain import metric_moments as moments
from app.domain.metric_columns import Columns, checked
from app.domain.metric_moments import Ints, Moments
from app.domain.metric_sketches import Spread, Tally, stored_values
from app.domain.metrics import MICROSECONDS, WIDTH, Added, Refused, Samples
from app.settings import get_settings

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
COLUMNS = "stream_id, bucket, count, base, total, m2, low, high, sketched, body"
MERGED_AT_ONCE = 5000
"""Parts that one transaction of a merge takes up."""
_HEAD = struct.Struct("!h iq iq iq id id id id id i? i")


def add(session: Session, samples: Samples, *, now: datetime) -> Added:
    """Stores samples in the caller's transaction, each in the bucket of its own time, however late or out of order.

    Every transaction that adds is counted in full and once, however many processes add at the same time. Refused are
    samples that are no numbers, too late, in the future, or of a stream too many: FORETIDE_METRIC_KEEP_S,
    FORETIDE_FUTURE_SKEW_S, FORETIDE_METRIC_STREAMS. now: by which they are judged.
    """
    settings = get_settings()
    present = microseconds(now)
    oldest = present - round(settings.metric_keep_s * MICROSECONDS)
    found, refused = checked(samples, oldest, present + round(settings.future_skew_s * MICROSECONDS))
    if not len(found.row):
        return Added(0, refused)
    metrics.writing(session)
    used = [found.streams[number] for number in np.unique(found.stream).tolist()]
    ids = metrics.stream_ids(session, used, settings.metric_streams)
    if len(ids) < len(used):
        found, too_many = _within(found, ids, settings.metric_streams)
        refused = sorted(refused + too_many, key=lambda each: each.row)
    _write(session, parts(found, np.array([ids.get(pair, 0) for pair in found.streams])))
    if found.item is not None:
        _write_items(session, found, found.item)
    return Added(len(found.row), refused)


def _within(found: Columns, ids: dict[metrics.Pair, int], most: int) -> tuple[Columns, list[Refused]]:
    known = np.array([pair in ids for pair in found.streams])[found.stream]
    detail = f"there are {most} streams already, as many as FORETIDE_METRIC_STREAMS allows"
    return found.keep(known), [Refused(row, "/group", detail) for row in found.row[~known].tolist()]


def parts(found: Columns, ids: Ints) -> io.BytesIO:
    """The samples as rows of COPY in its binary form, one a stream and bucket. ids: of the streams by number."""
    windows = moments.by_window(found.stream, found.ts, found.value, WIDTH)
    bodies, sketched = stored_values(found.value, windows.rows(found.stream, found.ts), windows.moments.count)
    return _copy(ids[windows.stream], windows.start, windows.moments, sketched, bodies)


def _copy(stream: Ints, bucket: Ints, of: Moments, sketched: Iterable[bool], bodies: Iterable[bytes]) -> io.BytesIO:
    columns = [column.tolist() for column in (stream, bucket - POSTGRES_EPOCH, *moments.columns_of(of))]
    made = [SIGNATURE]
    for id_, start, count, base, total, m2, low, high, is_sketch, body in zip(*columns, sketched, bodies, strict=True):
        numbers = (8, id_, 8, start, 8, count, 8, base, 8, total, 8, m2, 8, low, 8, high, 1, is_sketch)
        made += (_HEAD.pack(10, *numbers, len(body)), body)
    made.append(TRAILER)
    return io.BytesIO(b"".join(made))


def _write(session: Session, body: io.BytesIO) -> None:
    with bulk.cursor(session) as driver:
        driver.copy_expert(f"copy metric_part ({COLUMNS}) from stdin (format binary)", body)


def _write_items(session: Session, found: Columns, items: Any) -> None:
    tallies: dict[tuple[str, int], Tally] = defaultdict(lambda: Tally({}))
    columns = (found.stream.tolist(), (found.ts // WIDTH * WIDTH).tolist(), found.value.tolist(), found.row.tolist())
    for stream, bucket, value, row in zip(*columns, strict=True):
        if items[row] is not None:
            weights = tallies[found.streams[stream][0], bucket].weights
            weights[items[row]] = weights.get(items[row], 0.0) + value
    _insert_items(session, ((name, moment(bucket), tally) for (name, bucket), tally in tallies.items()))


def _insert_items(session: Session, tallies: Iterable[tuple[str, datetime, Tally]]) -> None:
    rows = [
        {"name": name, "bucket": bucket, "weights": kept.weights, "error": kept.error}
        for name, bucket, tally in tallies
        for kept in [tally.trimmed()]
    ]
    if rows:
        session.execute(insert(MetricItems), rows)


def microseconds(moment: datetime) -> int:
    """An aware time in microseconds since 1970."""
    return (moment - EPOCH) // timedelta(microseconds=1)


def moment(microseconds: int) -> datetime:
    """A time of microseconds since 1970, aware."""
    return EPOCH + timedelta(microseconds=microseconds)


_TAKE = text(
    f"""with several as (
        select stream_id, bucket from metric_part where bucket < :closed group by 1, 2 having count(*) > 1
        order by bucket limit {MERGED_AT_ONCE // 2}),
    taken as (
        select p.stream_id, p.bucket, p.id from metric_part p join several using (stream_id, bucket)
        order by p.bucket, p.stream_id limit {MERGED_AT_ONCE} for update of p skip locked)
    delete from metric_part p using taken t
    where (p.stream_id, p.bucket, p.id) = (t.stream_id, t.bucket, t.id)
    returning (extract(epoch from p.bucket) * 1000000)::bigint as start, p.*"""  # noqa: S608 - constants of this module
)
_TAKE_ITEMS = text(
    """with several as (
        select name, bucket from metric_items where bucket < :closed group by 1, 2 having count(*) > 1 limit 100),
    taken as (
        select i.name, i.bucket, i.id from metric_items i join several using (name, bucket)
        order by i.bucket, i.name limit 1000 for update of i skip locked)
    delete from metric_items i using taken t where (i.name, i.bucket, i.id) = (t.name, t.bucket, t.id) returning i.*"""
)


def merge(session: Session, closed: datetime) -> int:
    """Merges parts of buckets that begin before `closed`; how many were taken up, 0 when there is nothing left to do.

    Readers see the parts or what they were merged to; parts that another transaction holds are left to it.
    """
    metrics.writing(session)
    rows = session.execute(_TAKE, {"closed": closed}).all()
    if rows:
        _write(session, _merged(rows))
    return len(rows) + _merge_items(session, closed)


def _merged(rows: Any) -> io.BytesIO:
    pairs = np.array([(row.stream_id, row.start) for row in rows])
    found, key = np.unique(pairs, axis=0, return_inverse=True)
    columns = np.array([(row.count, row.base, row.total, row.m2, row.low, row.high) for row in rows]).T
    whole = moments.merged(key, Moments(columns[0].astype(np.int64), *columns[1:]), len(found))
    spreads = [Spread() for _ in found]
    for number, row in zip(key.tolist(), rows, strict=True):
        spreads[number].add_stored(bytes(row.body), sketched=row.sketched)
    stored = [spread.stored() for spread in spreads]
    return _copy(found[:, 0], found[:, 1], whole, [sketched for _, sketched in stored], [body for body, _ in stored])


def _merge_items(session: Session, closed: datetime) -> int:
    rows = session.execute(_TAKE_ITEMS, {"closed": closed}).all()
    tallies: dict[tuple[str, datetime], Tally] = defaultdict(lambda: Tally({}))
    for row in rows:
        tallies[row.name, row.bucket].add(Tally(row.weights, row.error))
    _insert_items(session, ((*of, tally) for of, tally in tallies.items()))
    return len(rows)
