"""Whether the bytes that were read are those that the source holds: by its own word, else by reading them twice.

A byte that turns on its way from the source would otherwise be copied and proven with all the others.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from app.domain.pins import Pin
from app.errors import ChecksumMismatch
from app.s3 import objects
from app.s3.client import Bucket
from app.s3.heads import Head
from app.s3.wire import Buffer

if TYPE_CHECKING:
    from hashlib import _Hash

MD5_DIGITS = 32


class Evidence:
    """Sums up a whole object, read in its order, by the cheapest checksum that its server named."""

    def __init__(self, found: Head) -> None:
        self._found = found
        self._crc32 = 0
        self._md5: _Hash | None = None
        self._uses_crc32 = found.sha256 is None and found.crc32 is not None
        if found.sha256 is None and found.crc32 is None and len(found.pin.etag) == MD5_DIGITS:
            self._md5 = hashlib.md5(usedforsecurity=False)

    def add(self, piece: Buffer) -> None:
        """The next bytes."""
        if self._uses_crc32:
            self._crc32 = zlib.crc32(piece, self._crc32)
        elif self._md5:
            self._md5.update(piece)

    def agrees(self, sha256: str | None) -> bool | None:
        """Whether all that was added is the object; None when the server's word does not tell.

        sha256: of all that was added, where it is known. An ETag that is the MD5 shows that it is; one that is
        something else shows nothing.
        """
        if self._found.sha256 and sha256:
            return sha256 == self._found.sha256
        if self._uses_crc32:
            return self._crc32 == self._found.crc32
        return True if self._md5 and self._md5.hexdigest() == self._found.pin.etag else None


def sha256_of(source: Bucket, key: str, found: Head, body: Buffer) -> str:
    """The SHA-256, in hexadecimal, of a body that was read whole. Raises ChecksumMismatch when it was misread."""
    evidence, sha256 = Evidence(found), hashlib.sha256(body).hexdigest()
    evidence.add(body)
    confirm(source, key, found.pin, evidence.agrees(sha256), [sha256], max(1, found.pin.size))
    return sha256


def confirm(source: Bucket, key: str, pin: Pin, agrees: bool | None, parts: Sequence[str], part_size: int) -> None:
    """Raises ChecksumMismatch unless the parts read, by their SHA-256, are what the source holds.

    agrees: what Evidence says. Where that is nothing and no TLS has watched over the bytes, they are read again.
    """
    if agrees is None and not source.is_tls:
        agrees = objects.hashes(source, key, pin, part_size)[1] == list(parts)
    if agrees is False:
        raise ChecksumMismatch(f"{source.name}: the bytes read are not those that it holds", reason="source_misread")
