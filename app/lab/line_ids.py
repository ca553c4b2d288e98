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
        key, equal, before = self._key, self._equal, self._before
        found = bytearray()
        for line in lines:
            digest = blake2b(line, digest_size=DIGEST_BYTES, key=key).digest()
            number = equal.get(digest, 0)
            equal[digest] = number + 1
            number += before.get(digest, 0)
            if number:
                digest = blake2b(digest + number.to_bytes(8, "big"), digest_size=DIGEST_BYTES).digest()
            found += digest
        return bytes(found)
