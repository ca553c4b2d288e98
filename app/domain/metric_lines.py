"""Reads a block of samples: every line that is right in columns, every other with what is wrong (step: metrics)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta

from app.domain.metrics import MOST_TEXT, MOST_VALUE, Samples
from app.errors import TooLarge

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_AT = re.compile(r" - at `\$([^`]*)`$")
_FIELD = re.compile(r"(?:missing required|contains unknown) field `([^`]*)`")
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
SECONDS = "0000-00-00T00:00:00"

Text = Annotated[str, Meta(min_length=1, max_length=MOST_TEXT)]


class Line(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """One sample, as it is sent. `ts` is read apart, since of many at once it takes half the time."""

    name: str
    value: Annotated[float, Meta(ge=-MOST_VALUE, le=MOST_VALUE)]
    group: Text | None = None
    item: Text | None = None
    ts: str | None = None


_line = msgspec.json.Decoder(Line)
_lines = msgspec.json.Decoder(list[Line])
_raw = msgspec.json.Decoder(list[msgspec.Raw])
_Time = Annotated[datetime, Meta(tz=True)]


@dataclass
class Lines:
    """The samples that are right with their numbers, the first of a block 1, and what is wrong with the others."""

    samples: Samples
    numbers: Sequence[int]
    errors: list[dict[str, Any]] = field(default_factory=list)


def read(data: bytes, max_lines: int, now: int) -> Lines:
    """The samples of one JSON object, an array or NDJSON. Raises TooLarge above `max_lines`.

    now: the time of samples without one, in microseconds since 1970.
    """
    errors: list[dict[str, Any]] = []
    lines, numbers = _decoded(data, max_lines, errors)
    ts = _times([line.ts for line in lines], now)
    if ts is None:
        lines, numbers, ts = _times_one_by_one(lines, numbers, now, errors)
    samples = Samples(
        [line.name for line in lines],
        [line.value for line in lines],
        ts,
        [line.group for line in lines],
        [line.item for line in lines] if b'"item"' in data else None,
    )
    return Lines(samples, numbers, errors)


def _decoded(data: bytes, max_lines: int, errors: list[dict[str, Any]]) -> tuple[list[Line], Sequence[int]]:
    if data.lstrip()[:1] == b"[":
        return _array(data, max_lines, errors)
    count = data.count(b"\n") + (not data.endswith(b"\n") and bool(data))
    try:
        lines = _line.decode_lines(data)
    except _UNREADABLE:
        lines = _one(data)
    if len(lines) == count or len(lines) == 1:
        _check_count(len(lines), max_lines)
        return lines, range(1, len(lines) + 1)
    _check_count(count, max_lines)
    return _each(data.split(b"\n"), errors)  # some line is wrong or empty: find it


def _one(data: bytes) -> list[Line]:
    """The sample that stands over several lines; none where it is not one."""
    try:
        return [_line.decode(data)]
    except _UNREADABLE:
        return []


def _array(data: bytes, max_lines: int, errors: list[dict[str, Any]]) -> tuple[list[Line], Sequence[int]]:
    try:
        lines = _lines.decode(data)
    except _UNREADABLE:
        try:
            elements = _raw.decode(data)
        except _UNREADABLE as error:
            errors.append(_error(1, "", f"the array is not JSON: {error}"))
            return [], []
        _check_count(len(elements), max_lines)
        return _each([bytes(element) for element in elements], errors)
    _check_count(len(lines), max_lines)
    return lines, range(1, len(lines) + 1)


def _each(texts: list[bytes], errors: list[dict[str, Any]]) -> tuple[list[Line], list[int]]:
    lines, numbers = [], []
    for number, text in enumerate(texts, 1):
        if not text.strip():
            continue
        try:
            lines.append(_line.decode(text))
            numbers.append(number)
        except _UNREADABLE as error:
            errors.append(_error(number, *_explained(error)))
    return lines, numbers


def _check_count(count: int, max_lines: int) -> None:
    if count > max_lines:
        raise TooLarge(f"the request has {count} lines; at most {max_lines} are taken, so send blocks")


def _error(line: int, pointer: str, detail: str) -> dict[str, Any]:
    return {"line": line, "pointer": pointer, "detail": detail}


def _explained(error: Exception) -> tuple[str, str]:
    """Where and what, as a pointer into the line and a sentence."""
    if isinstance(error, UnicodeDecodeError):
        return "", "the line is not UTF-8"
    if isinstance(error, RecursionError):
        return "", "the line is nested too deep"
    text = str(error)
    named, at = _FIELD.search(text), _AT.search(text)
    path = at.group(1) if at else ""
    pointer = (f".{named.group(1)}" if named else path).replace(".", "/")
    return pointer, _AT.sub("", text).replace("`", "")


def _times(texts: list[str | None], now: int) -> Sequence[int] | None:
    """Microseconds since 1970 of times that are all written alike, in UTC; None where they are not."""
    given = [text for text in texts if text is not None]
    if not given:
        return [now] * len(texts)
    read = _alike(given)
    if read is None or len(read) == len(texts):
        return read
    times = iter(read)
    return [now if text is None else next(times) for text in texts]


def _alike(texts: list[str]) -> list[int] | None:
    """The times by numpy, which reads other forms too, and none where one has another shape than the first."""
    length = len(texts[0])
    zone = "Z" if texts[0].endswith("Z") else "+00:00"
    shape = (SECONDS + "." + "0" * length)[: max(length - len(zone), len(SECONDS))] + zone
    whole = "".join(texts)
    if set(map(len, texts)) != {len(shape)} or not whole.isascii():
        return None
    expected = np.frombuffer(shape.encode(), np.uint8)
    characters = np.frombuffer(whole.encode(), np.uint8).reshape(-1, length)
    digit = (expected == ord("0")) & (np.arange(length) < length - len(zone))
    if (characters[:, ~digit] != expected[~digit]).any() or (characters[:, digit] - ord("0") > 9).any():
        return None
    try:
        read = np.ascontiguousarray(characters[:, : -len(zone)]).view(f"S{length - len(zone)}")
        found: list[int] = read.ravel().astype("datetime64[us]").astype(np.int64).tolist()
    except ValueError:  # such as the 30th of February
        return None
    return found


def _times_one_by_one(
    lines: list[Line], numbers: Sequence[int], now: int, errors: list[dict[str, Any]]
) -> tuple[list[Line], list[int], list[int]]:
    kept: list[tuple[Line, int, int]] = []
    for line, number in zip(lines, numbers, strict=True):
        try:
            ts = now if line.ts is None else _microseconds(msgspec.convert(line.ts, _Time))
            kept.append((line, number, ts))
        except msgspec.ValidationError as error:
            said = "the time has no zone; end it with Z or an offset" if "timezone" in str(error) else str(error)
            errors.append(_error(number, "/ts", said.replace("`", "")))
    return [line for line, _, _ in kept], [number for _, number, _ in kept], [ts for _, _, ts in kept]


def _microseconds(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)
