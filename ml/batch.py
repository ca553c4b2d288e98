"""Operations over many events at once as ibis expressions: written once, run by DuckDB or by Spark (step: batch).

A stream is a table with the columns of ml/batch_columns.py. Integers alone tell the time, so that no engine's time
zone, calendar or daylight saving comes between; text is compared by its bytes; null groups are a group of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import ibis

from ml.batch_columns import KEY, ROW, TS, VALUE, group_column, own_column
from ml.history import HOUR

if TYPE_CHECKING:
    from ibis.expr.types import IntegerColumn, Table, Value

MOST_BYTES = 2**53
"""As in the roll-up of accesses (app/db/accesses.py)."""


@dataclass(frozen=True)
class Windows:
    """Measures of the values in windows that begin at multiples of their width since 1970 UTC, an hour by default."""

    groups: Sequence[str] = ()
    width_us: int = HOUR


@dataclass(frozen=True)
class Totals:
    """Measures of the values over the whole stream."""

    groups: Sequence[str] = ()


@dataclass(frozen=True)
class Anomalies:
    """Values that lie further from their group's mean than so many of its standard deviations.

    These are of all values, not of a sample, as everywhere in Foretide; a group all of whose values are equal has none.
    """

    groups: Sequence[str] = ()
    threshold: float = 2.0
    carried: Sequence[str] = ()
    """Further columns that stand in the result."""


@dataclass(frozen=True)
class Join:
    """Pairs of events of two streams with equal keys, and with times at most so far apart where that is given.

    An event without a key pairs with none; with a tolerance neither does one without a time.
    """

    carried: Sequence[str]
    """Columns of the left stream that stand in the result, as left_…."""
    other: Sequence[str]
    """Columns of the right stream that do, as right_…."""
    within_us: int | None = None


def windows(events: Table, asked: Windows) -> Table:
    """A row a window and group that has an event: window_start in microseconds, groups, measures, in this order.

    Events without a time are in no window.
    """
    timed = events.filter(events[TS].notnull())
    placed = timed.mutate(window_start=_floor(timed[TS], asked.width_us))
    return _measured(placed, ["window_start", *asked.groups])


def totals(events: Table, asked: Totals) -> Table:
    """A row a group: groups, measures, first_ts and last_ts; one row even of no event where there are no groups."""
    return _measured(events, list(asked.groups), first_ts=events[TS].min(), last_ts=events[TS].max())


def anomalies(events: Table, asked: Anomalies) -> Table:
    """A row an anomaly, in the order of the stream: row, ts, groups, value, mean, stddev, z, and what is carried."""
    valued = events.filter(events[VALUE].notnull())
    group = ibis.window(group_by=list(asked.groups))
    spread = valued.mutate(mean=valued[VALUE].mean().over(group), stddev=valued[VALUE].std(how="pop").over(group))
    spread = spread.filter(spread.stddev > 0)
    scored = spread.mutate(z=(spread[VALUE] - spread.mean) / spread.stddev)
    found = scored.filter(scored.z.abs() > asked.threshold)
    columns = [ROW, TS, *asked.groups, VALUE, "mean", "stddev", "z", *asked.carried]
    return found.select(*dict.fromkeys(columns)).order_by(_ordered(found[TS]), found[ROW])


def join(left: Table, right: Table, asked: Join) -> Table:
    """A row a pair, in the order of the left stream and then of the right: key, left_ts, right_ts, what is carried."""
    mine, theirs = _side(left, "left", asked.carried), _side(right, "right", asked.other)
    conditions = [mine.left_key == theirs.right_key]
    if asked.within_us is not None:
        conditions.append((mine.left_ts - theirs.right_ts).abs() <= asked.within_us)
    pairs = mine.join(theirs, conditions)
    order = [_ordered(pairs.left_ts), pairs.left_row, _ordered(pairs.right_ts), pairs.right_row]
    return pairs.order_by(order)


def hours(accesses: Table) -> Table:
    """Accesses as app/db/accesses.py rolls them up, whatever the region: a row a key and hour, in their order.

    Takes ts, key, op, status, bytes, partial_upload; tells key, hour, reads, writes, bytes_read, partial_uploads,
    last_ts, times in microseconds: rows of a history from which ml/features.py makes the features.
    """
    op = accesses["op"]
    t = accesses.mutate(
        hour=_floor(accesses[TS], HOUR),
        is_read=op.isin(["GET", "HEAD"]) & (accesses["status"].fill_null(200) < 400),
        number=ibis.least(accesses["bytes"], MOST_BYTES).cast("float64"),  # exact up to where the sum is cut
    )
    read_whole = ibis.ifelse(t["is_read"] & (t["op"] == "GET"), t["number"], 0.0)
    cells = t.group_by([KEY, "hour"]).aggregate(
        reads=t.count(where=t["is_read"]),
        writes=t.count(where=t["op"] == "PUT"),
        bytes_read=ibis.least(read_whole.sum(), ibis.literal(float(MOST_BYTES))).cast("int64"),
        partial_uploads=t.count(where=t["partial_upload"]),
        last_ts=t[TS].max(),
    )
    return cells.order_by([cells[KEY], cells["hour"]])


def accesses_stream(accesses: Table, value: str, key: str, groups: Sequence[str]) -> Table:
    """Accesses as a stream whose values, keys and groups are these of their fields; all of them stand in own_…."""
    own = {own_column(name): accesses[name] for name in accesses.columns if name != ROW}
    named = {group_column(number): accesses[name].cast("string") for number, name in enumerate(groups)}
    columns = {VALUE: accesses[value].cast("float64"), KEY: accesses[key].cast("string")}
    return accesses.select(**{ROW: accesses[ROW], TS: accesses[TS]}, **columns, **named, **own)


def _measured(events: Table, by: list[str], **more: Value) -> Table:
    value = events[VALUE]
    measures = {
        "count": events.count(),
        "values": value.count(),
        "sum": value.sum(),
        "mean": value.mean(),
        "min": value.min(),
        "max": value.max(),
        "stddev": value.std(how="pop"),
        **more,
    }
    if not by:
        return events.aggregate(**measures)
    found = events.group_by(by).aggregate(**measures)
    return found.order_by([_ordered(found[name]) for name in by])


def _side(events: Table, name: str, carried: Sequence[str]) -> Table:
    keyed = events.filter(events[KEY].notnull())
    columns = dict.fromkeys([ROW, TS, KEY, *carried])
    return keyed.select(**{f"{name}_{column}": keyed[column] for column in columns})


def _floor(ts: IntegerColumn, width_us: int) -> IntegerColumn:
    """The multiple of the width at or before: engines' % has the sign of what is divided."""
    return ts - ((ts % width_us) + width_us) % width_us


def _ordered(column: Value) -> Value:
    return ibis.asc(column, nulls_first=True)
