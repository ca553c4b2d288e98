"""Reads a block of access lines: every line that is right in columns, every other with what is wrong (step: ingest)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from app.domain.accesses import MAX_KEY_BYTES, Block
from app.errors import TooLarge

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
MAX_BYTES = 2**46  # 64 TiB: no object is larger, and sums of as many stay numbers that Postgres keeps
SURELY_SHORT = MAX_KEY_BYTES // 4  # a character has at most four bytes
_AT = re.compile(r" - at `\$([^`]*)`$")
_FIELD = re.compile(r"(?:missing required|contains unknown) field `([^`]*)`")

Text = Annotated[str, Meta(max_length=256)]
Size = Annotated[int, Meta(ge=0, le=MAX_BYTES)]


class Line(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """One access, as it is sent."""

    ts: Annotated[datetime, Meta(tz=True)]
    key: Annotated[str, Meta(min_length=1)]
    op: Literal["GET", "HEAD", "PUT", "DELETE"]
    site: Text | None = None
    bytes: Size | None = None
    status: Annotated[int, Meta(ge=100, le=599)] | None = None
    event_id: Text | None = None
    region: Text | None = None
    client: Text | None = None
    partial_upload: bool | None = None


@dataclass(frozen=True)
class Bounds:
    """What a line's time may be, and the sites that it may name, by name."""

    oldest: datetime
    newest: datetime
    site_ids: Mapping[str, int]


@dataclass
class Lines:
    """The lines that are right with their numbers, the first of a block 1, and what is wrong with the others."""

    lines: list[Line] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    errors: list[dict[str, Any]] = field(default_factory=list)

    def refuse(self, number: int, pointer: str, detail: str) -> None:
        """Adds what is wrong with a line."""
        self.errors.append({"line": number, "pointer": pointer, "detail": detail})

    def block(self, site_ids: Mapping[str, int]) -> Block:
        """The lines as columns."""
        lines = self.lines
        return Block(
            ts=[(line.ts - EPOCH) // MICROSECOND for line in lines],
            key=[line.key for line in lines],
            op=[line.op for line in lines],
            site_id=[site_ids[line.site] if line.site is not None else None for line in lines],
            bytes_read=[line.bytes or 0 for line in lines],
            status=[line.status for line in lines],
            event_id=[line.event_id for line in lines],
            region=[line.region for line in lines],
            client=[line.client for line in lines],
            partial_upload=[bool(line.partial_upload) for line in lines],
        )


_line = msgspec.json.Decoder(Line)
_lines = msgspec.json.Decoder(list[Line])
_raw = msgspec.json.Decoder(list[msgspec.Raw])


def read(data: bytes, max_lines: int, bounds: Bounds) -> Lines:
    """The lines of an NDJSON text or a JSON array. Raises TooLarge above `max_lines`."""
    found = _decode_array(data, max_lines) if data.lstrip()[:1] == b"[" else _decode_ndjson(data, max_lines)
    _check(found, data, bounds)
    found.errors.sort(key=lambda error: error["line"])
    return found


def _decode_ndjson(data: bytes, max_lines: int) -> Lines:
    count = data.count(b"\n") + (not data.endswith(b"\n") and bool(data))
    _check_count(count, max_lines)
    try:
        lines = _line.decode_lines(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        lines = []
    if len(lines) == count:
        return Lines(lines, list(range(1, count + 1)))
    return _decode_each(data.split(b"\n"))  # some line is wrong or empty: find it


def _decode_array(data: bytes, max_lines: int) -> Lines:
    try:
        lines = _lines.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _decode_elements(data, max_lines)
    _check_count(len(lines), max_lines)
    return Lines(lines, list(range(1, len(lines) + 1)))


def _decode_elements(data: bytes, max_lines: int) -> Lines:
    try:
        elements = _raw.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        found = Lines()
        found.refuse(1, "", f"the array is not JSON: {error}")
        return found
    _check_count(len(elements), max_lines)
    return _decode_each([bytes(element) for element in elements])


def _decode_each(texts: list[bytes]) -> Lines:
    found = Lines()
    for number, text in enumerate(texts, 1):
        if not text.strip():
            continue
        try:
            found.lines.append(_line.decode(text))
            found.numbers.append(number)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            found.refuse(number, *explained(error))
    return found


def _check_count(count: int, max_lines: int) -> None:
    if count > max_lines:
        raise TooLarge(f"the request has {count} lines; at most {max_lines} are taken, so send blocks")


def explained(error: Exception) -> tuple[str, str]:
    """Where and what is wrong with a line that was not decoded: a pointer into it and a sentence."""
    if isinstance(error, UnicodeDecodeError):
        return "", "the line is not UTF-8"
    if isinstance(error, RecursionError):
        return "", "the line is nested too deep"
    text = str(error)
    named, at = _FIELD.search(text), _AT.search(text)
    path = at.group(1) if at else ""
    pointer = (f".{named.group(1)}" if named else path).replace(".", "/")
    if pointer == "/ts" and "timezone" in text:
        return pointer, "the time has no zone; end it with Z or an offset"
    return pointer, _AT.sub("", text).replace("`", "")


def _check(found: Lines, data: bytes, bounds: Bounds) -> None:
    """Moves the lines that break a bound to the errors; lines that cannot are not looked at one by one."""
    lines = found.lines
    if not lines:
        return
    times = [line.ts for line in lines]
    sites = {line.site for line in lines} - {None}
    checks: list[Callable[[Line], tuple[str, str] | None]] = []
    if min(times) < bounds.oldest or max(times) > bounds.newest:
        checks.append(lambda line: _time_problem(line.ts, bounds))
    if max(map(len, [line.key for line in lines])) > SURELY_SHORT:
        checks.append(_key_problem)
    if not sites <= bounds.site_ids.keys():
        checks.append(lambda line: _site_problem(line.site, bounds))
    if b"\\u0000" in data:
        checks.append(_nul_problem)
    if checks:
        _apply(found, checks)


def _apply(found: Lines, checks: list[Callable[[Line], tuple[str, str] | None]]) -> None:
    kept: list[tuple[Line, int]] = []
    for line, number in zip(found.lines, found.numbers, strict=True):
        problem = next((problem for check in checks if (problem := check(line))), None)
        if problem:
            found.refuse(number, *problem)
        else:
            kept.append((line, number))
    found.lines = [line for line, _ in kept]
    found.numbers = [number for _, number in kept]


def _time_problem(ts: datetime, bounds: Bounds) -> tuple[str, str] | None:
    if ts > bounds.newest:
        return "/ts", "the time is in the future"
    return ("/ts", "too_old: the time is before the retention") if ts < bounds.oldest else None


def _key_problem(line: Line) -> tuple[str, str] | None:
    return ("/key", f"the key has more than {MAX_KEY_BYTES} bytes") if len(line.key.encode()) > MAX_KEY_BYTES else None


def _site_problem(site: str | None, bounds: Bounds) -> tuple[str, str] | None:
    return ("/site", f"there is no site {site}") if site is not None and site not in bounds.site_ids else None


def _nul_problem(line: Line) -> tuple[str, str] | None:
    for name in ("key", "event_id", "region", "client"):
        if "\x00" in (getattr(line, name) or ""):
            return f"/{name}", "the text holds a NUL character"
    return None
