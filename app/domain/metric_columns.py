"""Decides which samples are taken: columns at once, single ones only to say what is wrong (step: metrics)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from app.domain.metrics import MOST_TEXT, MOST_VALUE, Refused, Samples

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
NAMES = "a name has 1 to 63 letters, digits, dots, hyphens and underscores, the first a letter or digit"
T = TypeVar("T", bound=str | None)
Wrong = tuple[str, str]
"""A pointer and why."""


@dataclass(frozen=True)
class Columns:
    """Samples that are right. `stream` counts within `streams`: each a name and a group, empty where there is none."""

    streams: list[tuple[str, str]]
    stream: NDArray[np.int64]
    ts: NDArray[np.int64]
    value: NDArray[np.float64]
    row: NDArray[np.int64]
    """The sample's place in what was sent."""
    item: Sequence[str | None] | None
    """By place in what was sent."""

    def keep(self, which: NDArray[np.bool_]) -> Columns:
        """Those samples alone; `streams` stays as it is."""
        stream, ts, value, row = self.stream[which], self.ts[which], self.value[which], self.row[which]
        return Columns(self.streams, stream, ts, value, row, self.item)


def checked(samples: Samples, oldest: int, newest: int) -> tuple[Columns, list[Refused]]:
    """The samples that are right, and what is wrong with the others. oldest, newest: microseconds since 1970."""
    streams, stream = _streams(samples)
    value, ts = np.asarray(samples.value, np.float64), np.asarray(samples.ts, np.int64)
    found = Columns(streams, stream, ts, value, np.arange(len(value)), samples.item)
    wrong: dict[int, Wrong] = {}
    large = ("/value", f"a value is a finite number, at most {MOST_VALUE:g} in size")
    _note(wrong, ~(np.abs(value) <= MOST_VALUE), large)
    _note(wrong, ts < oldest, ("/ts", "too_late: the time is before the oldest that FORETIDE_METRIC_KEEP_S allows"))
    _note(wrong, ts > newest, ("/ts", "the time is in the future"))
    for number, (name, group) in enumerate(streams):
        if problem := _stream_problem(name, group):
            _note(wrong, stream == number, problem)
    if samples.item is not None:
        _check_items(samples.item, value, wrong)
    if not wrong:
        return found, []
    taken = np.ones(len(value), bool)
    taken[list(wrong)] = False
    return found.keep(taken), [Refused(row, *wrong[row]) for row in sorted(wrong)]


def _note(wrong: dict[int, Wrong], which: NDArray[np.bool_], problem: Wrong) -> None:
    for row in np.flatnonzero(which).tolist():
        wrong.setdefault(row, problem)


def _streams(samples: Samples) -> tuple[list[tuple[str, str]], NDArray[np.int64]]:
    """The distinct names and groups, and which of them each sample has."""
    names, name = _numbered(samples.name)
    if samples.group is None:
        return [(each, "") for each in names], name
    groups, group = _numbered(samples.group)
    if len(names) == 1:
        return [(names[0], each or "") for each in groups], group
    found, stream = np.unique(name * len(groups) + group, return_inverse=True)
    return [(names[pair // len(groups)], groups[pair % len(groups)] or "") for pair in found.tolist()], stream


def _numbered(values: Sequence[T]) -> tuple[list[T], NDArray[np.int64]]:
    distinct = list(dict.fromkeys(values))
    if len(distinct) <= 1:
        return distinct, np.zeros(len(values), np.int64)
    numbers = {value: number for number, value in enumerate(distinct)}
    return distinct, np.fromiter(map(numbers.__getitem__, values), np.int64, len(values))


def _stream_problem(name: str, group: str) -> Wrong | None:
    if not NAME.fullmatch(name):
        return "/name", NAMES
    return _text_problem("group", group)


def _text_problem(field: str, text: str) -> Wrong | None:
    if len(text) > MOST_TEXT:
        return f"/{field}", f"the {field} has more than {MOST_TEXT} characters"
    if "\x00" in text or not (text.isascii() or text.encode(errors="ignore").decode() == text):
        return f"/{field}", f"the {field} holds a character that no text may hold"
    return None


def _check_items(items: Sequence[str | None], value: NDArray[np.float64], wrong: dict[int, Wrong]) -> None:
    problems = {item: problem for item in _distinct(items) if (problem := _text_problem("item", item))}
    for row, item in enumerate(items):
        if item is not None and value[row] < 0:
            wrong.setdefault(row, ("/value", "the value is the item's weight, which is not negative"))
        if item in problems:
            wrong.setdefault(row, problems[item])


def _distinct(items: Iterable[str | None]) -> list[str]:
    return [item for item in dict.fromkeys(items) if item is not None]
