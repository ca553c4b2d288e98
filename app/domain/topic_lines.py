"""Reads a batch of events: each a JSON object, as NDJSON or an array; what is wrong is named (step: publish)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from app.domain.topics import MAX_EVENT
from app.errors import TooLarge

_event = msgspec.json.Decoder(dict[str, Any])
_elements = msgspec.json.Decoder(list[msgspec.Raw])


@dataclass
class Events:
    """Events that are right, as they were sent and each on one line, and what is wrong with the others."""

    lines: list[bytes] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    """Which of the sent each is, the first 1."""
    errors: list[dict[str, Any]] = field(default_factory=list)

    def refuse(self, number: int, pointer: str, detail: str) -> None:
        """Adds what is wrong with an event."""
        self.errors.append({"line": number, "pointer": pointer, "detail": detail})


def split(data: bytes, max_lines: int) -> Events:
    """The events of an NDJSON text or a JSON array, of which none was looked at. Raises TooLarge above `max_lines`."""
    found = Events()
    if data.lstrip()[:1] != b"[":
        return _numbered(found, data.split(b"\n"), max_lines)
    try:
        elements = _elements.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        found.refuse(1, "", f"the array is not JSON: {error}")
        return found
    return _numbered(found, (bytes(each) for each in elements), max_lines)


def _numbered(found: Events, texts: Iterable[bytes], max_lines: int) -> Events:
    for number, text in enumerate(texts, 1):
        if line := text.strip():
            found.lines.append(line)
            found.numbers.append(number)
    if len(found.lines) > max_lines:
        raise TooLarge(f"the request has {len(found.lines)} events; at most {max_lines} are taken, so send batches")
    return found


def read(data: bytes, max_lines: int) -> Events:
    """The same, of which each is a JSON object of at most MAX_EVENT bytes; no other rule holds for it."""
    given = split(data, max_lines)
    found = Events(errors=given.errors)
    for number, line in zip(given.numbers, given.lines, strict=True):
        if wrong := problem(line):
            found.refuse(number, "", wrong)
        else:
            found.lines.append(on_one_line(line))
            found.numbers.append(number)
    return found


def problem(line: bytes) -> str | None:
    """Why this is no event; None where it is one."""
    if len(line) > MAX_EVENT:
        return f"the event has more than {MAX_EVENT} bytes"
    try:
        _event.decode(line)
    except UnicodeDecodeError:
        return "the event is not UTF-8"
    except RecursionError:
        return "the event is nested too deep"
    except msgspec.DecodeError as error:
        return f"the event is no JSON object: {error}".replace("`", "")
    return None


def on_one_line(line: bytes) -> bytes:
    """An event that may span lines; newlines stand between its tokens only, since text has them escaped."""
    if b"\n" not in line:
        return line
    return b" ".join(part.strip() for part in line.split(b"\n"))
