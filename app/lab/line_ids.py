"""Names lines of a log that name no request: the same line has the same id wherever reading began (step: ingest)."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

DIGEST_BYTES = 12


class LineIds:
    """A hash of each line's bytes and of how many equal ones stand before it in its block and in the block before.

    Equal lines of one file are requests of their own; a line that another file holds too is taken to be the same one.
    """

    def __init__(self, source: str = "") -> None:
        """source: tells apart equal lines of several servers."""
        self._key = blake2b(source.encode(), digest_size=32).digest() if source else b""
        self._equal: dict[bytes, int] = {}
        self._before: dict[bytes, int] = {}

    def next_block(self) -> None:
        """What is named from now on belongs to the block that follows (app/lab/blocks.py)."""
        self._before, self._equal = self._equal, {}

    def of(self, lines: Iterable[bytes]) -> bytes:
        """The ids of lines, one after the other, each of DIGEST_BYTES."""
        key, before = self._key, self._before
        found = [blake2b(line, digest_size=DIGEST_BYTES, key=key).digest() for line in lines]
        if self._equal or not before.keys().isdisjoint(found) or len(set(found)) < len(found):
            return b"".join([self._numbered(digest) for digest in found])
        self._equal = dict.fromkeys(found, 1)  # no line is equal to another: they need not be looked at one by one
        return b"".join(found)

    def _numbered(self, digest: bytes) -> bytes:
        number = self._equal.get(digest, 0)
        self._equal[digest] = number + 1
        number += self._before.get(digest, 0)
        return blake2b(digest + number.to_bytes(8, "big"), digest_size=DIGEST_BYTES).digest() if number else digest
