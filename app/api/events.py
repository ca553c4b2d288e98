"""Reads the events that users send to train on or to score: a JSON list, or NDJSON that is never held at once."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator
from typing import Any

import msgspec
from flask import request

from app.db.event_pages import Page, pack
from app.domain.general_models import MAX_EVENTS
from app.errors import BadRequest, TooLarge, UnsupportedMedia

NDJSON = "application/x-ndjson"
PAGE = 10_000
CHUNK = 2**16
MAX_SENT, MAX_UNPACKED, MAX_LINE = 128 * 2**20, 1024 * 2**20, 2**16
"""Bytes of an upload as it is sent, of the same unpacked, and of one event."""


class Upload:
    """What was sent, in pages, with its number of events and the SHA-256 of its bytes."""

    def __init__(self) -> None:
        self.pages: list[Page] = []
        self.count = 0
        self._lines: list[bytes] = []
        self._sha256 = hashlib.sha256()

    @property
    def sha256(self) -> str:
        """Of all events, however they were packed."""
        return self._sha256.hexdigest()

    def add(self, line: bytes) -> None:
        """Takes an event. Raises TooLarge."""
        if len(line) > MAX_LINE:
            raise TooLarge(f"event {self.count} has more than {MAX_LINE} bytes")
        if self.count == MAX_EVENTS:
            raise TooLarge(f"at most {MAX_EVENTS} events are taken at once")
        self.count += 1
        self._sha256.update(line + b"\n")
        self._lines.append(line)
        if len(self._lines) == PAGE:
            self._close()

    def done(self) -> Upload:
        """The upload itself, its last page closed."""
        if self._lines:
            self._close()
        return self

    def _close(self) -> None:
        self.pages.append(pack(self._lines))
        self._lines.clear()


def of_list(events: list[Any]) -> Upload:
    """Events of a JSON body."""
    upload = Upload()
    for event in events:
        upload.add(msgspec.json.encode(event))
    return upload.done()


def of_lines() -> Upload:
    """Events of the request's NDJSON, plain or gzip; empty lines are none. Raises TooLarge, BadRequest."""
    request.max_content_length = MAX_SENT
    upload, rest = Upload(), b""
    for chunk in _unpacked():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line.strip():
                upload.add(line.strip())
        if len(rest) > MAX_LINE:
            raise TooLarge(f"event {upload.count} has more than {MAX_LINE} bytes")
    if rest.strip():
        upload.add(rest.strip())
    if not upload.count:
        raise BadRequest("the request holds no events")
    return upload.done()


def is_lines() -> bool:
    """Whether the request says that it holds NDJSON."""
    return request.mimetype in (NDJSON, "application/ndjson", "application/jsonl")


def _unpacked() -> Iterator[bytes]:
    encoding = (request.content_encoding or "identity").lower()
    if encoding not in ("identity", "gzip"):
        raise UnsupportedMedia("Content-Encoding may be gzip or nothing")
    unpacker = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS) if encoding == "gzip" else None
    total = 0
    while chunk := request.stream.read(CHUNK):
        while chunk:
            try:
                part = unpacker.decompress(chunk, CHUNK * 4) if unpacker else chunk
            except zlib.error as error:
                raise BadRequest(f"the body is not gzip: {error}") from error
            chunk = unpacker.unconsumed_tail if unpacker else b""
            total += len(part)
            if total > MAX_UNPACKED:
                raise TooLarge(f"the body is larger than {MAX_UNPACKED} bytes when unpacked")
            yield part
    if unpacker and not unpacker.eof:
        raise BadRequest("the gzip body is cut off")
