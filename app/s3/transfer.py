"""Bytes on their way from one site to another: read under the pin, hashed, written under a condition, proven equal.

At most one part of an object is in memory; each finished part is in the ledger before the next is sent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from app.domain.pins import Pin
from app.errors import ChecksumMismatch, Permanent, SourceChanged
from app.s3 import multipart, objects
from app.s3.client import Bucket
from app.s3.exchange import Stream
from app.s3.heads import Carried, Head
from app.s3.objects import Target


@dataclass(frozen=True)
class SentPart:
    """A part that the destination has."""

    number: int
    etag: str
    size: int
    sha256: str


class Ledger(Protocol):
    """Where an upload's progress is kept, so that a successor goes on with it."""

    def check(self) -> None:
        """Raises when the work must stop."""

    def started(self, upload_id: str) -> None:
        """Keeps the upload's id."""

    def sent(self, part: SentPart) -> None:
        """Keeps a finished part."""


@dataclass(frozen=True)
class Copied:
    """What the source's bytes hashed to while they were read: the whole (None: read in several goes) and each part."""

    sha256: str | None
    parts: tuple[str, ...]
    part_size: int


def read_whole(source: Bucket, key: str, pin: Pin) -> tuple[bytearray, Copied]:
    """A pinned object of at most one part, and its hash. Raises SourceChanged."""
    with objects.reading(source, key, pin) as stream:
        body = _exactly(stream, pin.size)
        _at_end(stream)
    digest = hashlib.sha256(body).hexdigest()
    return body, Copied(digest, (digest,), max(1, pin.size))


def copy_parts(
    source: Bucket,
    destination: Bucket,
    pin: Pin,
    target: Target,
    carried: Carried,
    part_size: int,
    upload_id: str | None,
    done: Sequence[SentPart],
    ledger: Ledger,
    at: Callable[[str], None],
) -> Copied:
    """Copies a pinned object in parts, from where an earlier claim left off.

    upload_id, done: the earlier claim's upload and its parts. The upload is not completed: `complete` does that after
    the source was looked at again. Raises SourceChanged.
    """
    if upload_id is None:
        upload_id = multipart.begin(destination, target, carried)
        at("upload_begun")
        ledger.started(upload_id)
    parts = list(done)
    whole = hashlib.sha256() if not parts else None
    sent = sum(part.size for part in parts)
    if sent < pin.size:
        with objects.reading(source, target.key, pin, start=sent) as stream:
            for body in _pieces(stream, part_size, pin.size - sent):
                ledger.check()
                if whole:
                    whole.update(body)
                number = len(parts) + 1
                etag = multipart.send_part(destination, target.key, upload_id, number, body)
                at("part_sent")
                parts.append(SentPart(number, etag, len(body), hashlib.sha256(body).hexdigest()))
                ledger.sent(parts[-1])
    return Copied(whole.hexdigest() if whole else None, tuple(part.sha256 for part in parts), part_size)


def _pieces(stream: Stream, part_size: int, left: int) -> Iterator[bytearray]:
    while left:
        body = _exactly(stream, min(part_size, left))
        left -= len(body)
        yield body
    _at_end(stream)


def _exactly(stream: Stream, size: int) -> bytearray:
    body = bytearray(size)
    if (read := objects.fill(stream, body)) < size:
        raise SourceChanged(f"the source ended {size - read} bytes early")
    return body


def _at_end(stream: Stream) -> None:
    if objects.fill(stream, bytearray(1)):
        raise SourceChanged("the source is longer than it was")


def prove(
    destination: Bucket, key: str, copied: Copied, pin: Pin, wanted: Carried, *, by_checksum: bool
) -> tuple[Head, str]:
    """Shows that the destination holds the source's bytes and all that travels with them; returns it and its SHA-256.

    by_checksum: the site was probed to check and keep SHA-256 of whole objects, so that its own word is enough; else
    all is read back. Raises ChecksumMismatch, or Permanent when something that travels with the bytes was not kept.
    """
    found = objects.head(destination, key)
    if found.pin.size != pin.size:
        raise ChecksumMismatch(f"{destination.name} holds {found.pin.size} of {pin.size} bytes")
    if by_checksum and found.sha256 and copied.sha256:
        whole, parts = found.sha256, copied.parts
    else:
        whole, hashes = objects.hashes(destination, key, found.pin, copied.part_size)
        parts = tuple(hashes)
    if parts != copied.parts or (copied.sha256 and whole != copied.sha256):
        raise ChecksumMismatch(f"{destination.name}: the copy's SHA-256 differs from the source's")
    kept_as_sent(destination, key, found, wanted)
    return found, whole


def kept_as_sent(bucket: Bucket, key: str, found: Head, wanted: Carried) -> None:
    """Raises Permanent unless headers, user metadata and tags are as they were sent."""
    lost = {name for name, value in wanted.headers.items() if found.carried.headers.get(name) != value}
    if found.carried.metadata != wanted.metadata:
        lost.add("metadata")
    if (objects.tags(bucket, key, found.pin.version_id) if found.tag_count else {}) != wanted.tags:
        lost.add("tags")
    if lost:
        raise Permanent(f"{bucket.name} did not keep {', '.join(sorted(lost))}", reason="not_kept_as_sent")


def upload_is_there(destination: Bucket, key: str, upload_id: str, done: Sequence[SentPart]) -> bool:
    """Whether an earlier claim's upload still has all the parts that the ledger says."""
    held = multipart.sent_parts(destination, key, upload_id)
    return held is not None and all(held.get(part.number) == part.etag for part in done)
