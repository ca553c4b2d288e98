"""Turns users' events into columns, page by page, and tells which events are no good (step: learn).

The rule: a feature is a number, true or false (1 and 0), or text of a number; where it is absent or null it is
missing. Events with any other value, without a target, or with a time that cannot be read are left out and reported.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import numpy as np

from app.errors import FieldError, pointer_to
from ml.serving import Floats, Ints
from ml.serving_models import Label, to_number

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
REPORTED = 20
"""So many events that are no good are named; all are counted."""
LONGEST_LABEL = 200
BITS = 20
"""Hold the number of events that are taken at once."""
EARLIEST, LATEST = -62_135_596_800, 253_402_300_799
"""The first and the last second of the years 1 to 9999, since 1970: what a date can tell."""


@dataclass(frozen=True)
class Table:
    """Events as columns, in the order of their times where they have some, else as they came."""

    X: Floats
    """(events × features), not a number where missing."""
    target: tuple[Label, ...]
    times: Ints
    """Microseconds since 1970 UTC; empty without."""
    prints: Ints
    """A number of each event's content, however it was written; of events that are equal, the first, the second …"""


@dataclass
class Reader:
    """Takes pages of events and keeps what a training reads of them."""

    features: Sequence[str]
    target: str | None
    time: str | None
    drop_missing: bool = False
    count: int = 0
    left_out: int = 0
    errors: list[FieldError] = field(default_factory=list)
    _pages: list[Floats] = field(default_factory=list)
    _target: list[Label] = field(default_factory=list)
    _times: list[int] = field(default_factory=list)
    _prints: list[int] = field(default_factory=list)
    _encoder: msgspec.json.Encoder = field(default_factory=lambda: msgspec.json.Encoder(order="sorted"))
    _known: dict[str, str] = field(default_factory=dict)

    def add(self, events: Sequence[Any]) -> None:
        """Takes a page."""
        rows = np.empty((len(events), len(self.features)))
        kept = 0
        for event in events:
            problem = self._take(event, rows[kept])
            if problem is None:
                kept += 1
            else:
                self._refuse(*problem)
            self.count += 1
        self._pages.append(rows[:kept].copy() if kept < len(rows) else rows)

    def table(self) -> Table:
        """All that was taken; the reader is empty afterwards."""
        X = np.concatenate(self._pages) if self._pages else np.zeros((0, len(self.features)))
        self._pages.clear()
        target = tuple(self._target)
        prints = _numbered(np.array(self._prints, np.int64))
        if not self.time:
            return Table(X, target, np.zeros(0, np.int64), prints)
        times = np.array(self._times, np.int64)
        order = np.argsort(times, kind="stable")
        sorted_target = tuple(target[i] for i in order.tolist()) if target else ()
        return Table(X[order], sorted_target, times[order], prints[order])

    def _take(self, event: Any, row: Floats) -> tuple[str, str] | None:
        """Fills the row; what is wrong otherwise, as a field and a sentence."""
        if not isinstance(event, Mapping):
            return "", "is no JSON object"
        for column, name in enumerate(self.features):
            try:
                row[column] = to_number(event.get(name))
            except ValueError as error:
                return name, str(error)
        if self.drop_missing and np.isnan(row).any():
            return self.features[int(np.isnan(row).argmax())], "is missing"
        label, moment = None, 0
        try:
            if self.target:
                label = self._label(event.get(self.target))
        except ValueError as error:
            return self.target or "", str(error)
        try:
            if self.time:
                moment = time_of(event.get(self.time))
        except ValueError as error:
            return self.time or "", str(error)
        if label is not None:
            self._target.append(label)
        if self.time:
            self._times.append(moment)
        self._prints.append(zlib.crc32(self._encoder.encode(event)))
        return None

    def _label(self, value: Any) -> Label:
        if isinstance(value, bool):
            return value
        if isinstance(value, int | float):
            return to_number(value)
        if isinstance(value, str) and 0 < len(value) <= LONGEST_LABEL and value.isprintable():
            return self._known.setdefault(value, value)  # a label is kept once
        raise ValueError(f"the target is a number, true or false, or text of up to {LONGEST_LABEL} characters")

    def _refuse(self, name: str, detail: str) -> None:
        self.left_out += 1
        if len(self.errors) < REPORTED:
            self.errors.append(FieldError(pointer_to("events", self.count, *([name] if name else [])), detail))


def _numbered(prints: Ints) -> Ints:
    """Numbers below 2³² with, in their last bits, how many equal ones stand before."""
    order = np.argsort(prints, kind="stable")
    before = np.empty_like(prints)
    before[order] = np.arange(len(prints)) - np.searchsorted(prints[order], prints[order])
    return prints << BITS | before


def time_of(value: Any) -> int:
    """A time in ISO 8601 with a zone, or seconds since 1970 UTC, in microseconds since then. Raises ValueError."""
    if isinstance(value, str):
        try:
            found = datetime.fromisoformat(value)
        except ValueError:
            raise ValueError("the time is not ISO 8601") from None
        if found.tzinfo is None:
            raise ValueError("the time has no zone; end it with Z or an offset")
        at = (found - EPOCH) // timedelta(microseconds=1)
    elif not isinstance(value, int | float) or isinstance(value, bool):
        raise ValueError("the time is ISO 8601 text or seconds since 1970")
    else:
        at = round(min(max(value, 2 * EARLIEST), 2 * LATEST) * 1e6)
    if not EARLIEST * 1_000_000 <= at <= LATEST * 1_000_000:
        raise ValueError("the time is not within the years 1 to 9999")
    return at
