"""Blocks of lines: the same wherever reading begins and however the file is packed; equal lines are told apart."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pytest

from app.errors import Invalid
from app.lab.blocks import LONGEST_LINE, blocks
from app.lab.imports import parts
from app.lab.line_ids import LineIds
from app.lab.parts import Place, Source

TEXT = b"".join(b"%d" % number * (number % 7) + b"\n" for number in range(500))
LINE = '1.2.3.4 - - [17/May/2015:10:05:03 +0000] "GET /{} HTTP/1.1" 200 7\n'


def file(folder: Path, data: bytes, name: str = "log") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("size", [1, 10, 64, 1000, 10**6])
def test_blocks_hold_every_line_once_and_begin_anywhere_alike(tmp_path: Path, size: int):
    path = file(tmp_path, TEXT)
    found = list(blocks(path, size=size))
    assert b"".join(block.data for block in found) == TEXT
    assert all(block.data.endswith(b"\n") for block in found)
    for before, after in pairwise(found):
        assert (before.end, before.last_line + 1) == (after.offset, after.first_line)
    some = found[len(found) // 2]
    assert next(blocks(path, some.offset, some.first_line, size)) == some


@pytest.mark.parametrize(
    "pack",
    [gzip.compress, bz2.compress, lzma.compress, lambda data: pa.compress(data, codec="zstd", asbytes=True)],
)
def test_packed_files_have_the_same_blocks(tmp_path: Path, pack: Callable[[bytes], bytes]):
    plain = [block.data for block in blocks(file(tmp_path, TEXT), size=100)]
    packed = file(tmp_path, pack(TEXT[:999]) + pack(TEXT[999:]), "packed")
    assert [block.data for block in blocks(packed, size=100)] == plain
    third = list(blocks(packed, size=100))[3]
    assert next(blocks(packed, third.offset, third.first_line, 100)).data == third.data
    packed.write_bytes(pack(TEXT)[:-9])
    with pytest.raises(Invalid, match="packed cannot be read"):
        list(blocks(packed, size=100))


def test_a_line_without_end_takes_no_memory(tmp_path: Path):
    path = file(tmp_path, b"a\n" + b"x" * (3 * LONGEST_LINE) + b"\nb\n")
    first, last = blocks(path, size=100)
    assert (len(first.data), first.data[-1:], last.data, last.first_line) == (100 + LONGEST_LINE + 1, b"\n", b"b\n", 3)


def test_equal_lines_have_ids_of_their_own_and_the_same_ones_again():
    ids, twice = LineIds(), LineIds()
    found = ids.of([b"a", b"b", b"a", b"a"])
    assert len({found[place : place + 12] for place in range(0, len(found), 12)}) == 4
    twice.of([b"a", b"b"])
    twice.next_block()
    assert twice.of([b"a", b"a"]) == found[24:]
    assert LineIds("server-1").of([b"a"]) != LineIds("server-2").of([b"a"]) != found[:12]


def sent(path: Path, start: Place, taken: int) -> list[str]:
    found = parts(path, Source("nginx"), start, taken)
    return [json.loads(line)["event_id"] for part in found for line in part.body.splitlines()]


def test_a_copy_has_the_ids_of_the_file_and_so_has_what_is_read_again(tmp_path: Path):
    lines = [LINE.format(number % 3) for number in range(400)]
    path = file(tmp_path, "".join(lines).encode())
    everything = sent(path, Place(), 0)
    assert len(set(everything)) == len(lines)
    half = gzip.compress("".join(lines[:200]).encode())
    assert sent(file(tmp_path, half, "half.gz"), Place(), 0) == everything[:200]
    assert sent(path, Place(), 200 * len(lines[0])) == everything
    assert sent(path, Place(), 400 * len(lines[0])) == []


def test_lines_that_name_no_event_are_given_one(tmp_path: Path):
    texts = ['{"key": "a"}', '{"key": "a"}', ' {"event_id": "mine", "key": "a"} ', "", "{", "no json", "{}"]
    (part,) = parts(file(tmp_path, "\n".join(texts).encode()), Source("ndjson"), Place(), 0)
    given = part.body.splitlines()
    assert part.lines == [1, 2, 3, 5, 6, 7]
    assert given[2:] == [b'{"event_id": "mine", "key": "a"}', b"{", b"no json", b"{}"]
    first, second = (json.loads(line) for line in given[:2])
    assert first["key"] == second["key"] == "a"
    assert first["event_id"] != second["event_id"]
    assert first["event_id"].startswith("nd-")
