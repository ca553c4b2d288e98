"""The columns of a stream of events, whatever it was made of (step: batch)."""

from __future__ import annotations

ROW, TS, VALUE, KEY = "row", "ts", "value", "key"
"""The event's place in its stream (int64), its time in microseconds since 1970 UTC (int64), its number (float64), its
key (text). All but the first may be null."""


def own_column(name: str) -> str:
    """The column of an access's own field in a stream of accesses."""
    return f"own_{name}"


def group_column(number: int) -> str:
    """The column (text) of the so manieth field by which events are told apart: engines differ over users' names."""
    return f"g{number}"
