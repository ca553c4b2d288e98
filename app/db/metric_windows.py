"""Reads windows of metrics: parts are merged as they are read, in bounded memory (step: metrics)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from sqlalchemy import bindparam, select, text
from sqlalchemy.dialects.postgresql import ARRAY, BIGINT
from sqlalchemy.orm import Session

from app.db.columnar import Column, read_columns
from app.db.metric_parts import moment
from app.db.tables import MetricItems
from app.domain import metric_moments as moments
from app.domain.metric_moments import Ints, Moments
from app.domain.metric_sketches import Spread, Tally
from app.domain.metric_windows import Found, Window

AT_ONCE = 1000
"""Parts that are held with their values at a time."""
NUMBERS: dict[str, Column] = {
    "stream_id": "bigint",
    "bucket": "timestamptz",
    "count": "bigint",
    **dict.fromkeys(("base", "total", "m2", "low", "high"), "double precision"),
}
# Of ten thousand streams a join is planned far better than any(:ids).
_SPREADS = text(
    "select stream_id, (extract(epoch from bucket) * 1000000)::bigint as start, count, base, total, m2, low, high,"
    " sketched, body from metric_part join unnest(:ids) as asked(stream_id) using (stream_id)"
    " where bucket between :first and :now"
).bindparams(bindparam("ids", type_=ARRAY(BIGINT)))

_COUNTS = text(
    "select stream_id, sum(count) from metric_part join unnest(:ids) as asked(stream_id) using (stream_id) group by 1"
).bindparams(bindparam("ids", type_=ARRAY(BIGINT)))


class _Sums:
    """Moments and recent counts by row, merged chunk by chunk."""

    def __init__(self, window: Window, size: int) -> None:
        self._window = window
        self._size = size
        self._moments = moments.of_values(np.zeros(0, np.int64), np.zeros(0), size)
        self._recent = np.zeros(size, np.int64)

    def add(self, key: Ints, bucket: Ints, parts: Moments) -> None:
        late = bucket >= self._window.rate_since
        self._recent += np.bincount(key[late], parts.count[late], self._size).astype(np.int64)
        within = np.flatnonzero(bucket >= self._window.since)
        keys = np.concatenate([np.arange(self._size), key[within]])
        filled = np.concatenate([self._moments.count > 0, np.ones(len(within), bool)])
        both = moments.joined([self._moments, parts.take(within)]).take(filled)
        self._moments = moments.merged(keys[filled], both, self._size)

    def found(self, spreads: list[Spread] | None = None) -> Found:
        return Found(self._window, self._moments, self._recent, spreads)


def read(session: Session, ids: Sequence[int], rows: Sequence[int], window: Window) -> Found:
    """The moments of streams without their values. rows: which row each stream counts in, from 0 without gaps."""
    size = max(rows, default=-1) + 1
    sums = _Sums(window, size)
    if ids:
        query = (
            f"select {', '.join(NUMBERS)} from metric_part"  # noqa: S608 - names of columns
            " join unnest(%(ids)s::bigint[]) as asked(stream_id) using (stream_id)"
            " where bucket between %(first)s and %(now)s"
        )
        given = {"ids": list(ids), "first": moment(window.first), "now": moment(window.now)}
        found = read_columns(session, query, NUMBERS, **given)
        numbers = [found[name] for name in list(NUMBERS)[2:]]
        sums.add(_rows_of(ids, rows)(found["stream_id"]), found["bucket"], Moments(*numbers))
    return sums.found()


def read_spread(session: Session, ids: Sequence[int], rows: Sequence[int], window: Window) -> Found:
    """The same with how the values are spread."""
    size = max(rows, default=-1) + 1
    sums, spreads = _Sums(window, size), [Spread() for _ in range(size)]
    rows_of = _rows_of(ids, rows)
    for chunk in _chunks(session, ids, window):
        numbers = np.array([row[2:8] for row in chunk]).T
        stream, bucket = np.array([row[:2] for row in chunk]).T
        key = rows_of(stream)
        sums.add(key, bucket, Moments(numbers[0].astype(np.int64), *numbers[1:]))
        for number, part in zip(key.tolist(), chunk, strict=True):
            if part.start >= window.since:
                spreads[number].add_stored(bytes(part.body), sketched=part.sketched)
    return sums.found(spreads)


def _chunks(session: Session, ids: Sequence[int], window: Window) -> Iterator[Sequence[Any]]:
    given = {"ids": list(ids), "first": moment(window.first), "now": moment(window.now)}
    yield from session.execute(_SPREADS, given, execution_options={"yield_per": AT_ONCE}).partitions()


def _rows_of(ids: Sequence[int], rows: Sequence[int]) -> Callable[[Ints], Ints]:
    """Which row each of the streams counts in."""
    order = np.argsort(np.array(ids))
    known, row = np.array(ids)[order], np.array(rows)[order]
    return lambda stream: row[np.searchsorted(known, stream)]


def top_items(session: Session, name: str, window: Window) -> Tally:
    """The heaviest items of a metric."""
    tally = Tally({})
    within = MetricItems.bucket.between(moment(window.since), moment(window.now))
    query = select(MetricItems.weights, MetricItems.error).where(MetricItems.name == name, within)
    for weights, error in session.execute(query, execution_options={"yield_per": 100}):
        tally.add(Tally(weights, error))
    return tally


def top_groups(session: Session, labels: Mapping[int, str], window: Window) -> Tally:
    """The groups of a metric, by id, with the sums of their values: exactly."""
    found = read(session, list(labels), list(range(len(labels))), window)
    held = found.moments.count > 0
    sums = dict(zip(labels.values(), found.moments.sum.tolist(), strict=True))
    return Tally({label: sums[label] for label, is_held in zip(labels.values(), held.tolist(), strict=True) if is_held})


def counts(session: Session, ids: Sequence[int], rows: Sequence[int]) -> list[int]:
    """Samples that are kept, in the window or not, by row."""
    row_of = dict(zip(ids, rows, strict=True))
    totals = [0] * (max(rows, default=-1) + 1)
    for stream_id, count in session.execute(_COUNTS, {"ids": list(ids)}):
        totals[row_of[stream_id]] += int(count)
    return totals
