"""Samples of metrics: what one may be, and the words in which they are handed over and refused (step: metrics)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

BUCKET_S = 10
"""Samples are kept together by stream and by so many seconds of their own times."""
MICROSECONDS = 1_000_000
WIDTH = BUCKET_S * MICROSECONDS
MOST_VALUE = 1e140
"""The largest value in size: the sums of squares of as many samples as can be sent stay numbers."""
MOST_TEXT = 256
"""Characters of a group or an item."""
DEFAULT_WINDOW_S, RATE_WINDOW_S, DEFAULT_K = 300.0, 60.0, 10
PERCENTILES = {"p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99}


@dataclass(frozen=True)
class Samples:
    """Samples in columns of one length. A metric's name and a group make a stream; without a group, a stream too."""

    name: Sequence[str]
    value: Sequence[float]
    ts: Sequence[int]
    """Microseconds since 1970 UTC."""
    group: Sequence[str | None] | None = None
    item: Sequence[str | None] | None = None
    """What the value is a weight of in the metric's top list; of any number, since items are no streams."""


@dataclass(frozen=True)
class Refused:
    """A sample that was not taken: its place in the columns, the first 0, the field as a pointer, and why."""

    row: int
    pointer: str
    detail: str


@dataclass(frozen=True)
class Added:
    """What became of samples."""

    accepted: int
    refused: list[Refused]
