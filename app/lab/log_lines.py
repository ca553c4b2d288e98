"""Reads blocks of an access log: the accesses in columns or as the API takes them, and what other lines are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from app.lab import key_loops, ndjson_loops
from app.lab import log_loops as loops
from app.lab.blocks import Block, Refused
from app.lab.line_ids import DIGEST_BYTES, LineIds
from app.lab.log_loops import Bytes, Ints
from app.lab.logs import FLAT, OK, LogFormat

FIELDS = b"#Fields:"
CUT_TEXT = 500
"""Characters of a refused line that are shown."""
PROBLEMS = {
    loops.FORM_WRONG: ("", "not a line of {name}"),
    loops.CUT: ("", "the file ends within what is needed of its last line"),
    loops.LONG: ("", f"the line is longer than {loops.LONGEST_LINE} bytes"),
    loops.TIME_WRONG: ("/ts", "ts is not a time"),
    loops.NUMBER_WRONG: ("/bytes", f"bytes is not a number from 0 to {loops.MOST_BYTES}"),
    loops.KEY_LONG: ("/key", f"the key is longer than {loops.KEY_BYTES} bytes"),
    loops.KEY_NUL: ("/key", "the key holds a NUL character"),
    loops.KEY_WRONG: ("/key", "the key is not UTF-8"),
}
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Lines:
    """What a block's lines say. Accesses stand in columns, one element each, in their order."""

    line: Ints
    """Numbers within the file, the first 1."""
    ts: Ints
    """Microseconds since 1970 UTC."""
    op: Ints
    """0 GET, 1 HEAD, 2 PUT, 3 DELETE."""
    moved: Ints
    """Bytes read or written; -1 where the line does not say."""
    size: Ints
    """Of the object; -1 where the line does not say."""
    keys: Bytes
    """All keys, one after the other, as UTF-8."""
    key_ends: Ints
    refused: list[Refused]
    passed: int
    """Lines about no object, or of requests that failed; comments and empty lines."""
    total: int
    body: bytes
    """As POST /v1/accesses takes them; empty where they were not asked for."""
    body_ends: Ints
    """Where each line of the body ends."""


class Reader:
    """Reads the blocks of one file in their order, and at will writes them as lines for the API.

    Each has an event_id: the request's id where the format has one, else one made of the line (app/lab/line_ids.py).
    """

    def __init__(self, wanted: LogFormat, *, source: str = "", site: str | None = None, writes: bool = True) -> None:
        """source: tells apart equal lines of different servers; site: where the accesses were made."""
        self._format = wanted
        self._ids = LineIds(source)
        self._site = site
        self._writes = writes

    def read(self, block: Block) -> Iterator[Lines]:
        """The block's lines; in several parts where comments within it name its fields anew."""
        self._ids.next_block()
        for data, first_line in self._parts(block):
            flat = _flat(data, self._format) if self._format.members else data
            yield self._lines(flat, data, first_line, is_unfinished=block.is_unfinished)

    def _parts(self, block: Block) -> Iterator[tuple[bytes, int]]:
        data, begin, line = block.data, 0, block.first_line
        found = data.find(FIELDS) if self._format.header else -1
        while found >= 0:
            if found == 0 or data[found - 1] == 10:
                if found > begin:
                    yield data[begin:found], line
                line += data.count(b"\n", begin, found)
                begin, end = found, data.find(b"\n", found)
                self._format = self._format.of_header(data[found : end if end >= 0 else len(data)])
            found = data.find(FIELDS, found + 1)
        if begin < len(data):
            yield (data[begin:] if begin else data), line

    def _lines(self, data: bytes, original: bytes, first_line: int, *, is_unfinished: bool) -> Lines:
        a = np.frombuffer(data, np.uint8)
        starts, ends = _places(a)
        form, words = _form(self._format), _words(self._format)
        out, columns = np.empty(len(starts), np.uint8), np.empty((loops.COLUMNS, len(starts)), np.int64)
        found = loops.read(a, starts, ends, form, *words, np.array(OK), is_unfinished, out, columns)
        columns = columns[:, :found]
        keys, key_ends = np.empty(len(a), np.uint8), np.empty(found, np.int64)
        left = key_loops.decode(a, columns, form, out, keys, key_ends)
        columns, key_ends = columns[:, :left], key_ends[:left]
        keys = keys[: key_ends[-1] if left else 0]
        kept = _valid(keys, key_ends)
        out[columns[loops.LINE][~kept]] = loops.KEY_WRONG
        body, body_ends = b"", key_ends[:0]
        if self._writes:
            digests = self._digests(data, columns, starts, ends)
            body, body_ends = self._body(a, columns, kept, keys, key_ends, digests)
        if not kept.all():
            keys, key_ends = _only(keys, key_ends, kept)
        rows = columns[:, kept]
        return Lines(
            line=rows[loops.LINE] + first_line,
            ts=rows[loops.TS],
            op=rows[loops.OP] & loops.OPS,
            moved=rows[loops.MOVED],
            size=rows[loops.OBJECT_SIZE],
            keys=keys,
            key_ends=key_ends,
            refused=list(self._refusals(out, original, first_line)),
            passed=int((out == loops.PASSED).sum()),
            total=len(starts),
            body=body,
            body_ends=body_ends,
        )

    def _body(
        self, a: Bytes, columns: Ints, kept: Mask, keys: Bytes, key_ends: Ints, digests: Bytes
    ) -> tuple[bytes, Ints]:
        lead = np.frombuffer(f"{self._format.mark}-".encode(), np.uint8)
        site = b"" if self._site is None else b',"site":' + msgspec.json.encode(self._site)
        tail = np.frombuffer(b'"' + site + b"}\n", np.uint8)
        named = columns[loops.ID_TO] - columns[loops.ID_FROM] + columns[loops.PART_TO] - columns[loops.PART_FROM]
        escaped = ndjson_loops.ESCAPE_BYTES * (len(keys) + int(named.sum()))
        room = columns.shape[1] * (ndjson_loops.LINE_BYTES + len(lead) + len(tail)) + escaped
        written, line_ends = np.empty(room, np.uint8), np.empty(int(kept.sum()), np.int64)
        length = ndjson_loops.write(columns, kept, keys, key_ends, a, lead, digests, tail, written, line_ends)
        return written[:length].tobytes(), line_ends

    def _digests(self, data: bytes, columns: Ints, starts: Ints, ends: Ints) -> Bytes:
        """Of each line that names no request, as hexadecimal digits: (lines × 24)."""
        rows = columns[loops.LINE][columns[loops.ID_TO] <= columns[loops.ID_FROM]]
        places = zip(starts[rows].tolist(), ends[rows].tolist(), strict=True)
        lines = [data[begin:end] for begin, end in places]
        if lines and b"\r" in data:
            lines = [line.removesuffix(b"\r") for line in lines]
        found = self._ids.of(lines)
        return np.frombuffer(found.hex().encode(), np.uint8).reshape(-1, 2 * DIGEST_BYTES)

    def _refusals(self, out: Bytes, data: bytes, first_line: int) -> Iterator[Refused]:
        bad = np.flatnonzero(out > loops.PASSED)
        if not len(bad):
            return
        starts, ends = _places(np.frombuffer(data, np.uint8))
        for row in bad.tolist():
            pointer, detail = PROBLEMS[int(out[row])]
            text = data[starts[row] : min(ends[row], starts[row] + 4 * CUT_TEXT)].decode(errors="backslashreplace")
            yield Refused(first_line + row, pointer, detail.format(name=self._format.name), text[:CUT_TEXT])


def _places(a: Bytes) -> tuple[Ints, Ints]:
    """Where each line begins and ends, without its end of line."""
    ends = np.flatnonzero(a == 10)
    if len(a) and a[-1] != 10:
        ends = np.append(ends, len(a))
    starts = np.zeros_like(ends)
    starts[1:] = ends[:-1] + 1
    return starts, ends


def _form(wanted: LogFormat) -> Ints:
    """The format as the loops take it."""
    form = np.full(len(loops.FORM), -1, np.int64)
    for name, number in wanted.columns.items():
        form[loops.FORM.index(name.upper())] = number
    form[loops.DELIMITER] = ord(wanted.delimiter)
    form[loops.QUOTES] = getattr(loops, wanted.quotes.upper())
    form[loops.CLOCK] = getattr(loops, wanted.clock.upper())
    form[loops.CLOCK_FIRST] = wanted.clock_first
    form[loops.FIELDS] = max(wanted.columns.values()) + 1
    form[loops.KEY_FORM] = sum(getattr(loops, name.upper()) for name in wanted.key)
    return form


def _words(wanted: LogFormat) -> tuple[Bytes, Ints, Ints]:
    """The operations, one after the other, where each ends, and what each means."""
    words = [name.encode() for name in wanted.operations]
    meanings = [sum(getattr(loops, part.upper()) for part in told.split("+")) for told in wanted.operations.values()]
    return np.frombuffer(b"".join(words), np.uint8), np.cumsum([len(word) for word in words]), np.array(meanings)


def _valid(keys: Bytes, key_ends: Ints) -> Mask:
    """Which keys are UTF-8."""
    valid = np.ones(len(key_ends), bool)
    wide = np.flatnonzero(keys >= 128)
    if len(wide):
        data = keys.tobytes()
        for row in np.unique(np.searchsorted(key_ends, wide, side="right")).tolist():
            try:
                data[key_ends[row - 1] if row else 0 : key_ends[row]].decode()
            except UnicodeDecodeError:
                valid[row] = False
    return valid


def _only(keys: Bytes, key_ends: Ints, kept: Mask) -> tuple[Bytes, Ints]:
    """Those keys that are kept."""
    lengths = np.diff(key_ends, prepend=0)
    return keys[np.repeat(kept, lengths)], np.cumsum(lengths[kept])


def _flat(data: bytes, wanted: LogFormat) -> bytes:
    """Lines of JSON as lines of the members that are wanted, one between two delimiters."""
    paths = [
        (wanted.members or {})[what].split(".")
        for what in sorted(wanted.columns, key=lambda what: wanted.columns[what])
    ]
    decode = msgspec.json.Decoder().decode
    lines = data.split(b"\n")
    end = b"" if lines[-1] else lines.pop() + b"\n"
    return b"\n".join([_members(line, paths, decode) for line in lines]) + end


def _members(line: bytes, paths: list[list[str]], decode: Any) -> bytes:
    """A line's members; empty where the line is; one byte, of which no format is, where it is no such object."""
    if not line.strip():
        return b""
    try:
        found = decode(line)
        return FLAT.join([_member(found, path) for path in paths]).encode()
    except (ValueError, RecursionError):
        return b"\x02"


def _member(found: Any, path: list[str]) -> str:
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    told = "" if found is None else str(found)
    if "\n" in told or FLAT in told or "\r" in told:
        return told.replace("\n", "%0A").replace("\r", "%0D").replace(FLAT, "%01")
    return told
