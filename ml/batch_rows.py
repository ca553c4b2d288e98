"""Turns users' events into the columns of a stream, page by page, and tells which events are no good (step: batch).

The rule: a value is a number, true or false (1 and 0), or text of a number; a key or group is text, a number, true or
false, all compared as text; absent and null are null. Events with anything else are left out and reported.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.errors import FieldError, pointer_to
from ml.batch_columns import KEY, ROW, TS, VALUE, group_column
from ml.general_rows import REPORTED, time_of
from ml.serving_models import to_number

TIME_FIELDS = ("timestamp", "ts")
"""Where an event's time is looked for unless a field is named."""
BODY = "body"
Columns = dict[str, list[Any]]


@dataclass
class Reader:
    """Takes pages of events and gives their columns; None of a field: no event has one."""

    time: str | None = None
    value: str | None = None
    key: str | None = None
    groups: Sequence[str] = ()
    needs_time: bool = False
    keeps_body: bool = False
    first: int = 0
    """The number of the stream's first event in what was sent."""
    count: int = 0
    left_out: int = 0
    errors: list[FieldError] = field(default_factory=list)

    def columns(self, events: Sequence[Any], lines: Sequence[bytes]) -> Columns:
        """The columns of a page. lines: the events as they were sent, which are kept where the operation tells them."""
        names = [ROW, TS, VALUE, KEY, *(group_column(n) for n in range(len(self.groups)))]
        rows: list[tuple[Any, ...]] = []
        kept: list[str] = []
        for event, line in zip(events, lines, strict=True):
            try:
                rows.append(self._cells(event))
            except _Bad as bad:
                self._refuse(bad)
            else:
                if self.keeps_body:
                    kept.append(line.decode())
            self.count += 1
        columns: Columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)) if rows else {}
        return {name: columns.get(name, []) for name in names} | ({BODY: kept} if self.keeps_body else {})

    def _cells(self, event: Any) -> tuple[Any, ...]:
        if not isinstance(event, dict):
            raise _Bad("", "is no JSON object")
        key = _text(event, self.key) if self.key else None
        return (self.count, self._time(event), self._value(event), key, *[_text(event, name) for name in self.groups])

    def _time(self, event: Mapping[str, Any]) -> int | None:
        names = (self.time,) if self.time else TIME_FIELDS
        name = next((name for name in names if event.get(name) is not None), None)
        if name is None:
            if self.needs_time:
                raise _Bad(names[0], "the event has no time")
            return None
        try:
            return time_of(event[name])
        except ValueError as error:
            raise _Bad(name, str(error)) from None

    def _value(self, event: Mapping[str, Any]) -> float | None:
        if self.value is None or event.get(self.value) is None:
            return None
        try:
            return to_number(event[self.value])
        except ValueError as error:
            raise _Bad(self.value, str(error)) from None

    def _refuse(self, bad: _Bad) -> None:
        self.left_out += 1
        if len(self.errors) < REPORTED:
            pointer = pointer_to("events", self.first + self.count, *([bad.name] if bad.name else []))
            self.errors.append(FieldError(pointer, bad.detail))


class _Bad(Exception):
    """An event that is no good: in which field, and why."""

    def __init__(self, name: str, detail: str) -> None:
        super().__init__(detail)
        self.name, self.detail = name, detail


def _text(event: Mapping[str, Any], name: str) -> str | None:
    value = event.get(name)
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    raise _Bad(name, "is neither text, a number, true nor false")
