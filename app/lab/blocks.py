"""Reads a log as blocks of whole lines, plain or packed, however large it is (step: ingest).

Blocks end at the first end of a line behind each multiple of their size, so that the same bytes make the same blocks
wherever reading begins, under whatever name, packed or not.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from app.errors import Invalid

BLOCK_BYTES = 8 * 2**20
"""So few that what is allocated for a block is used again for the next one, and mostly stays in the shared cache."""
LONGEST_LINE = 2**20
"""Bytes that are read on at once to find the end of a block's last line."""
BOM = b"\xef\xbb\xbf"
STDIN = "-"
ZSTD = b"\x28\xb5\x2f\xfd"
MAGIC = {b"\x1f\x8b": "gzip", ZSTD: "zstd", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz"}
BROKEN = (EOFError, OSError, zlib.error, lzma.LZMAError)


@dataclass(frozen=True)
class Block:
    """Some lines of a log, each with its end but perhaps the last one's of the log. Offsets are of unpacked bytes."""

    data: bytes
    offset: int
    end: int
    first_line: int
    """Of the block's first line; a log's first is 1."""
    last_line: int
    read: int = 0
    """Bytes of the file, packed if it is, that have been read so far."""

    @property
    def is_unfinished(self) -> bool:
        """Whether the last line has no end: the file is cut off, or was written that way."""
        return not self.data.endswith(b"\n")


@dataclass(frozen=True)
class Refused:
    """A line that is no access and should be one; lines count from 1."""

    line: int
    pointer: str
    """Into the access that it would be; empty: the line as a whole."""
    detail: str
    text: str


def blocks(path: Path, offset: int = 0, first_line: int = 1, size: int = BLOCK_BYTES) -> Iterator[Block]:
    """The blocks from `offset` on, where the line `first_line` begins. Raises Invalid for what cannot be unpacked."""
    with opened(path) as (stream, raw):
        try:
            _skip(stream, offset)
            while True:
                data, end = _next(stream, offset, size)
                if end == offset:
                    return
                last_line = first_line + _newlines(data) - data.endswith(b"\n")
                lines = data.removeprefix(BOM) if offset == 0 else data
                yield Block(lines, offset, end, first_line, last_line, _told(raw))
                offset, first_line = end, last_line + 1
        except BROKEN as error:
            raise Invalid(f"{path.name} cannot be read: {error}") from error


def head(path: Path, size: int = 2**16) -> bytes:
    """The first bytes, unpacked; all but whole files may end within a line. Raises Invalid."""
    with opened(path) as (stream, _):
        try:
            return stream.read(size).removeprefix(BOM)
        except BROKEN as error:
            raise Invalid(f"{path.name} cannot be read: {error}") from error


@contextmanager
def opened(path: Path) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """The unpacked bytes of a file, or of stdin for `-`, and the stream that they come from. Raises Invalid."""
    try:
        raw = sys.stdin.buffer if str(path) == STDIN else path.open("rb")
    except OSError as error:
        raise Invalid(f"{path} cannot be read: {error.strerror}") from error
    buffered = raw if isinstance(raw, io.BufferedReader) else io.BufferedReader(cast("io.RawIOBase", raw))
    try:
        yield _unpacked(buffered), buffered
    finally:
        if str(path) != STDIN:
            raw.close()


def _unpacked(raw: io.BufferedReader[Any]) -> IO[bytes]:
    start = raw.peek(6)[:6]
    packing = next((name for magic, name in MAGIC.items() if start.startswith(magic)), None)
    if packing == "gzip":
        return cast("IO[bytes]", gzip.GzipFile(fileobj=raw))
    if packing == "bzip2":
        return cast("IO[bytes]", bz2.BZ2File(raw))
    if packing == "xz":
        return cast("IO[bytes]", lzma.LZMAFile(raw))
    if packing == "zstd":
        import pyarrow as pa

        stream = pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), "zstd")
        return io.BufferedReader(stream, 2**20)
    return raw


def _skip(stream: IO[bytes], offset: int) -> None:
    if offset and isinstance(stream, io.BufferedReader) and stream.seekable():
        stream.seek(offset)
        return
    while offset > 0:
        passed = len(stream.read(min(offset, BLOCK_BYTES)))
        if not passed:
            return
        offset -= passed


def _next(stream: IO[bytes], offset: int, size: int) -> tuple[bytes, int]:
    """The lines from here to behind the next multiple of `size`, and where the next ones begin."""
    wanted = size - offset % size
    data = _read(stream, wanted)
    end = offset + len(data)
    if len(data) < wanted or data.endswith(b"\n"):
        return data, end
    rest = stream.readline(LONGEST_LINE)
    end += len(rest)
    data += rest
    while len(rest) == LONGEST_LINE and not rest.endswith(b"\n"):  # so long that nobody reads it: only its end counts
        rest = stream.readline(LONGEST_LINE)
        end += len(rest)
        data += rest[-1:] if rest.endswith(b"\n") else b""
    return data, end


def _read(stream: IO[bytes], wanted: int) -> bytes:
    """So many bytes, or all there are: a packed stream gives fewer at a time."""
    parts, missing = [], wanted
    while missing and (part := stream.read(missing)):
        parts.append(part)
        missing -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _newlines(data: bytes) -> int:
    """How many there are: where lines are short, four times as fast as `count`."""
    return int(np.count_nonzero(np.frombuffer(data, np.uint8) == 10))


def _told(raw: IO[bytes]) -> int:
    try:
        return raw.tell()
    except OSError:
        return 0
