"""Bytes on their way from one site to another: read under the pin, hashed, written under a condition, proven equal.

Each finished part is in the ledger before the next is sent. While a part is sent the next is read, if memory allows.
"""

from __future__ import annotations

import contextvars
import hashlib
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache

from app.domain.pins import Pin
from app.errors import ChecksumMismatch, NotRestored, Permanent
from app.s3 import evidence, multipart, objects
from app.s3.buffers import Buffers
from app.s3.client import Bucket
from app.s3.evidence import Evidence
from app.s3.heads import Carried, Head
from app.s3.multipart import Ledger, SentPart
from app.s3.objects import Target
from app.settings import get_settings

PARTS_IN_MEMORY = 4
"""Of the least size, in one process."""


@dataclass(frozen=True)
class Copied:
    """What the source's bytes hashed to while they were read: the whole, where that was summed up, and each part."""

    sha256: str | None
    parts: tuple[str, ...]
    part_size: int


def sha256_of_parts(parts: Sequence[str]) -> str:
    """What a site that keeps the SHA-256 of parts tells of all of them."""
    together = hashlib.sha256(b"".join(bytes.fromhex(part) for part in parts))
    return f"{together.hexdigest()}-{len(parts)}"


def copy_parts(
    source: Bucket,
    destination: Bucket,
    found: Head,
    target: Target,
    carried: Carried,
    part_size: int,
    upload_id: str | None,
    done: Sequence[SentPart],
    ledger: Ledger,
    at: Callable[[str], None],
) -> Copied:
    """Copies the object that was found at the source in parts, from where an earlier claim left off.

    upload_id, done: the earlier claim's upload and its parts. The upload is not completed: `complete` does that after
    the source was looked at again. Raises SourceChanged, or ChecksumMismatch when what was read is not the source.
    """
    if upload_id is None:
        upload_id = multipart.begin(destination, target, carried)
        at("upload_begun")
        ledger.started(upload_id)
    parts, summed = list(done), _Sums(found, whole=target.checksum) if not done else None
    offsets = range(sum(part.size for part in parts), found.pin.size, part_size)
    if found.pin.size == 0 and not parts:
        offsets = range(1)  # no upload is completed without a part
    with closing(_read_ahead(source, target.key, found.pin, part_size, offsets, summed, ledger.check)) as pieces:
        for piece, sha256 in pieces:
            ledger.check()
            number = len(parts) + 1
            etag = multipart.send_part(
                destination, target.key, upload_id, number, piece, sha256, checksum=target.checksum
            )
            at("part_sent")
            parts.append(SentPart(number, etag, len(piece), sha256))
            ledger.sent(parts[-1])
    digests = tuple(part.sha256 for part in parts)
    agrees = summed.evidence.agrees(summed.sha256) if summed else None
    evidence.confirm(source, target.key, found.pin, agrees, digests, part_size)
    return Copied(summed.sha256 if summed else None, digests, part_size)


class _Sums:
    """What is summed up over a whole object beside its parts."""

    def __init__(self, found: Head, *, whole: bool) -> None:
        self.evidence = Evidence(found)
        self._whole = hashlib.sha256() if whole or found.sha256 else None  # else it is hashed when it is read back

    def add(self, piece: memoryview) -> None:
        self.evidence.add(piece)
        if self._whole:
            self._whole.update(piece)

    @property
    def sha256(self) -> str | None:
        return self._whole.hexdigest() if self._whole else None


@lru_cache(maxsize=1)
def _buffers() -> Buffers:
    return Buffers(PARTS_IN_MEMORY * get_settings().part_size)


def _read_ahead(
    source: Bucket, key: str, pin: Pin, part_size: int, offsets: range, summed: _Sums | None, check: Callable[[], None]
) -> Generator[tuple[memoryview, str]]:
    """The pinned object's parts at these offsets with their SHA-256, each to be used before the next is asked for."""
    buffers = _buffers()
    held: deque[bytearray] = deque()

    def read(offset: int) -> tuple[memoryview, str]:
        part = memoryview(held[-1])[: pin.size - offset]
        if part:
            objects.read_part(source, key, pin, offset, part)
        if summed:
            summed.add(part)
        return part, hashlib.sha256(part).hexdigest()

    try:
        with ThreadPoolExecutor(1) as reader:
            coming: Future[tuple[memoryview, str]] | None = None
            for offset in offsets:
                if coming:
                    part = coming.result()
                else:
                    held.append(buffers.take(part_size, check))
                    part = read(offset)
                coming, following = None, offset + part_size
                if following < pin.size and (spare := buffers.take_now(part_size)):
                    held.append(spare)
                    coming = reader.submit(contextvars.copy_context().run, read, following)
                yield part
                buffers.give(held.popleft())
    finally:
        while held:
            buffers.give(held.popleft())


@dataclass(frozen=True)
class Proof:
    """The destination holds the bytes that were read. sha256: the whole's, unless nobody could sum it up."""

    sha256: str | None


def prove(
    destination: Bucket, key: str, copied: Copied, pin: Pin, wanted: Carried, *, by_checksum: bool
) -> tuple[Head, str | None]:
    """Shows that the destination holds the source's bytes and all that travels with them; returns it and its SHA-256.

    by_checksum: the site was probed to check and keep SHA-256 of what it is sent, so that its own word is enough; else
    all is read back. Raises ChecksumMismatch, or Permanent when something that travels with the bytes was not kept.
    """
    found = objects.head(destination, key)
    if found.pin.size != pin.size:
        raise ChecksumMismatch(f"{destination.name} holds {found.pin.size} of {pin.size} bytes")
    proof = proof_at(destination, key, found, copied, by_checksum=by_checksum)
    if proof is None:
        raise ChecksumMismatch(f"{destination.name}: the copy's SHA-256 differs from the source's")
    kept_as_sent(destination, key, found, wanted)
    return found, proof.sha256


def proof_at(destination: Bucket, key: str, found: Head, copied: Copied, *, by_checksum: bool) -> Proof | None:
    """That what was found are the bytes that were read; None when they are others.

    by_checksum: as in `prove`. A successor, which has not read all of them, reads them back; where they lie in an
    archive by then, the site's word over its parts is enough.
    """
    of_parts = by_checksum and found.sha256_of_parts
    if by_checksum and copied.sha256 and found.sha256:
        return Proof(copied.sha256) if found.sha256 == copied.sha256 else None
    if of_parts and copied.sha256:
        return Proof(copied.sha256) if of_parts == sha256_of_parts(copied.parts) else None
    try:
        whole, parts = objects.hashes(destination, key, found.pin, copied.part_size)
    except NotRestored:
        if not of_parts:
            raise
        return Proof(None) if of_parts == sha256_of_parts(copied.parts) else None
    return Proof(whole) if tuple(parts) == copied.parts and copied.sha256 in (None, whole) else None


def kept_as_sent(bucket: Bucket, key: str, found: Head, wanted: Carried) -> None:
    """Raises Permanent unless headers, user metadata and tags are as they were sent."""
    lost = not_kept(found, wanted)
    if (objects.tags(bucket, key, found.pin.version_id) if found.tag_count else {}) != wanted.tags:
        lost.add("tags")
    if lost:
        raise Permanent(f"{bucket.name} did not keep {', '.join(sorted(lost))}", reason="not_kept_as_sent")


def not_kept(found: Head, wanted: Carried) -> set[str]:
    """What of the headers and the user metadata is not as it was sent; tags are not looked at."""
    lost = {name for name, value in wanted.headers.items() if found.carried.headers.get(name) != value}
    return lost if found.carried.metadata == wanted.metadata else {*lost, "metadata"}


def upload_is_there(destination: Bucket, key: str, upload_id: str, done: Sequence[SentPart]) -> bool:
    """Whether an earlier claim's upload still has all the parts that the ledger says."""
    held = multipart.sent_parts(destination, key, upload_id)
    return held is not None and all(held.get(part.number, "").strip('"') == part.etag.strip('"') for part in done)
