"""Reads the events that users send to train on or to score: a JSON list, or NDJSON that is never held at once.

What was read goes to the database page by page; the request holds one, however much is sent.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from uuid import uuid4

import msgspec
from flask import request
from sqlalchemy.orm import Session

from app.db import event_pages
from app.domain.general_models import MAX_EVENTS
from app.errors import BadRequest, DatabaseUnavailable, TooLarge, UnsupportedMedia

NDJSON = "application/x-ndjson"
PAGE, PAGE_BYTES = 10_000, 2**22
"""Events of a page at most, and bytes after which it is full."""
CHUNK = 2**16
MAX_SENT, MAX_UNPACKED, MAX_LINE = 128 * 2**20, 1024 * 2**20, 2**16
"""Bytes of an upload as it is sent, of the same unpacked, and of one event."""


class Upload:
    """What is sent, with its number of events and the SHA-256 of its bytes; holds the page that is being filled."""

    def __init__(self) -> None:
        self.count = 0
        self._id = uuid4()
        self._kept = self._size = 0
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
        if len(self._lines) == PAGE or self._size >= PAGE_BYTES:
            event_pages.keep(self._id, self._kept, self._lines)
            self._kept += 1
            self._lines, self._size = [], 0
        self.count += 1
        self._sha256.update(line + b"\n")
        self._lines.append(line)
        self._size += len(line)

    def give(self, session: Session, job_id: int) -> None:
        """Makes all that was sent the job's. Raises Conflict where it was sent too slowly."""
        event_pages.take(session, job_id, self._id, self._kept, self._lines)

    def end(self) -> None:
        """Deletes what no job has taken; where that cannot be now, it is pruned."""
        if self._kept:
            with suppress(DatabaseUnavailable):
                event_pages.drop(self._id)


@contextmanager
def of_list(events: list[Any]) -> Iterator[Upload]:
    """Events of a JSON body. Raises TooLarge."""
    upload = Upload()
    try:
        for event in events:
            upload.add(msgspec.json.encode(event))
        yield upload
    finally:
        upload.end()


@contextmanager
def of_lines() -> Iterator[Upload]:
    """Events of the request's NDJSON, plain or gzip; empty lines are none. Raises TooLarge, BadRequest."""
    request.max_content_length = MAX_SENT
    upload = Upload()
    try:
        _read(upload)
        yield upload
    finally:
        upload.end()


def _read(upload: Upload) -> None:
    rest = b""
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


def is_lines() -> bool:
    """Whether the request says that it holds NDJSON."""
    return request.mimetype in (NDJSON, "application/ndjson", "application/jsonl")


def _unpacked() -> Iterator[bytes]:
    encoding = (request.content_encoding or "identity").lower()
    if encoding not in ("identity", "gzip"):
        raise UnsupportedMedia("Content-Encoding may be gzip or nothing")
    total = 0
    for part in _members() if encoding == "gzip" else _sent():
        total += len(part)
        if total > MAX_UNPACKED:
            raise TooLarge(f"the body is larger than {MAX_UNPACKED} bytes when unpacked")
        yield part


def _members() -> Iterator[bytes]:
    """What is in the gzip members of the body, which follow each other."""
    unpacker = None
    for chunk in _sent():
        while chunk:
            unpacker = unpacker or zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
            try:
                yield unpacker.decompress(chunk, CHUNK * 4)
            except zlib.error as error:
                raise BadRequest(f"the body is not gzip: {error}") from error
            chunk = unpacker.unused_data or unpacker.unconsumed_tail
            unpacker = None if unpacker.eof else unpacker
    if unpacker:
        raise BadRequest("the gzip body is cut off")


def _sent() -> Iterator[bytes]:
    """The body as it is sent. The server ends it where a connection breaks, so that its length or gzip must tell."""
    length = request.content_length
    if length is None and not request.content_encoding:
        raise BadRequest("say the Content-Length, or send gzip: nothing else tells whether all has come")
    read = 0
    while chunk := request.stream.read(CHUNK):
        read += len(chunk)
        yield chunk
    if length is not None and read < length:
        raise BadRequest(f"the body is cut off: {read} bytes of {length} came")
