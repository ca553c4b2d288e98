"""Reads lines of an inventory: what each tells of an object at a site, and what is wrong with others (step: ingest)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from app.domain.access_lines import MAX_BYTES, explained
from app.domain.accesses import MAX_KEY_BYTES
from app.domain.keys import is_own
from app.domain.pins import Pin
from app.errors import TooLarge


class Line(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """One object as an inventory tells of it."""

    key: Annotated[str, Meta(min_length=1)]
    size: Annotated[int, Meta(ge=0, le=MAX_BYTES)]
    etag: Annotated[str, Meta(min_length=1, max_length=256)]
    last_modified: Annotated[datetime, Meta(tz=True)]
    storage_class: Annotated[str, Meta(max_length=64)] | None = None


@dataclass
class Lines:
    """Objects by key, the last of a key's lines counting, and what is wrong with the other lines."""

    pins: dict[str, Pin] = field(default_factory=dict)
    right: int = 0
    """Lines that are right, of one key or another."""
    errors: list[dict[str, Any]] = field(default_factory=list)

    def refuse(self, number: int, pointer: str, detail: str) -> None:
        """Adds what is wrong with a line, the first of a block 1."""
        self.errors.append({"line": number, "pointer": pointer, "detail": detail})


_line = msgspec.json.Decoder(Line)


def read(data: bytes, max_lines: int, classes: Mapping[str, str]) -> Lines:
    """The lines of an NDJSON text. Raises TooLarge above `max_lines`.

    classes: of the site, by the name that its server gives them; a line without a class has STANDARD.
    """
    texts = data.split(b"\n")
    if len(texts) - (not texts[-1].strip()) > max_lines:
        raise TooLarge(f"the request has {len(texts)} lines; at most {max_lines} are taken, so send blocks")
    found = Lines()
    for number, text in enumerate(texts, 1):
        if not text.strip():
            continue
        try:
            line = _line.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            found.refuse(number, *explained(error))
            continue
        if problem := _problem(line, classes):
            found.refuse(number, *problem)
        elif not is_own(line.key):
            found.right += 1
            found.pins[line.key] = _pin(line, classes)
    return found


def _problem(line: Line, classes: Mapping[str, str]) -> tuple[str, str] | None:
    if len(line.key.encode()) > MAX_KEY_BYTES:
        return "/key", f"the key has more than {MAX_KEY_BYTES} bytes"
    if "\x00" in line.key + line.etag:
        return ("/key" if "\x00" in line.key else "/etag"), "the text holds a NUL character"
    named = line.storage_class or "STANDARD"
    if named not in classes:
        return "/storage_class", f"the site has no class {named}; it has {', '.join(classes)}"
    return None


def _pin(line: Line, classes: Mapping[str, str]) -> Pin:
    """As a listing would have told it."""
    modified = line.last_modified.astimezone(UTC).replace(microsecond=0)
    return Pin(line.etag.strip('"'), line.size, modified, None, classes[line.storage_class or "STANDARD"])
