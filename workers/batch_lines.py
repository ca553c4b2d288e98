"""What a batch operation tells, as lines of JSON: rows of its result with users' own names and times (step: batch)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from app.db.tables import Json
from app.domain.batch import Operation, Recipe
from ml.batch_columns import TS, VALUE, group_column, own_column
from ml.batch_rows import BODY
from workers.batch_streams import Stream

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MINUTE = 60_000_000
MEASURES = ("count", "values", "sum", "mean", "min", "max", "stddev")
Row = dict[str, Any]


def writer(recipe: Recipe, streams: Sequence[Stream]) -> Callable[[Row], bytes]:
    """How a row of the operation's result becomes a line."""
    shapes: dict[Operation, Callable[[Row], Json]] = {
        Operation.PROCESS_EVENTS: lambda row: _totals(row, streams[0]),
        Operation.TIME_WINDOW_METRICS: lambda row: _window(row, streams[0], recipe.window_minutes),
        Operation.DETECT_ANOMALIES: lambda row: _anomaly(row, streams[0]),
        Operation.JOIN_STREAMS: lambda row: _pair(row, streams),
    }
    shape = shapes[recipe.operation]
    return lambda row: msgspec.json.encode(shape(row))


def iso(us: int | None) -> str | None:
    """A time as text; None where there is none, or none that a date can tell."""
    if us is None:
        return None
    try:
        return (EPOCH + timedelta(microseconds=us)).isoformat().replace("+00:00", "Z")
    except OverflowError:
        return None


def _totals(row: Row, stream: Stream) -> Json:
    return {
        "group": _group(row, stream),
        **{name: row[name] for name in MEASURES},
        "first": iso(row["first_ts"]),
        "last": iso(row["last_ts"]),
    }


def _window(row: Row, stream: Stream, minutes: int) -> Json:
    begin = row["window_start"]
    return {
        "window_start": iso(begin),
        "window_end": iso(begin + minutes * MINUTE),
        "group": _group(row, stream),
        **{name: row[name] for name in MEASURES},
    }


def _anomaly(row: Row, stream: Stream) -> Json:
    told = {name: row[name] for name in (VALUE, "mean", "stddev", "z")}
    return {"group": _group(row, stream), **told, "event": _event(row, stream, "")}


def _pair(row: Row, streams: Sequence[Stream]) -> Json:
    left, right = row["left_ts"], row["right_ts"]
    return {
        "key": row["left_key"],
        "seconds_apart": None if left is None or right is None else (right - left) / 1e6,
        "left": _event(row, streams[0], "left_"),
        "right": _event(row, streams[1], "right_"),
    }


def _group(row: Row, stream: Stream) -> Json:
    return {name: row[group_column(number)] for number, name in enumerate(stream.groups)}


def _event(row: Row, stream: Stream, side: str) -> Any:
    """The event as it was sent, or the access with its fields."""
    if stream.span is None:
        return msgspec.Raw(row[side + BODY].encode())
    own = own_column("")
    fields = {name.removeprefix(own): row[side + name] for name in stream.carried}
    return {"ts": iso(row[side + TS]), **fields}
