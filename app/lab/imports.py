"""Reads files that users already have as parts that the API takes, in bounded memory, from any place on (step: ingest).

Every line has an event_id made of the line alone, so that a part may be sent again: what was taken is a duplicate.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

from app.errors import Invalid
from app.lab.blocks import STDIN, Block, blocks, head
from app.lab.line_ids import DIGEST_BYTES, LineIds
from app.lab.logs import LogFormat, detect_in
from app.lab.parts import Part, Place, Source

TABLES, NDJSON = "parquet", "ndjson"
KINDS = {"apache": "nginx"}
"""Kinds of files that are another's form."""
LOOKED_AT_BYTES = 2**16
OPENED = re.compile(rb"\{\s*\"")
"""How a line begins that is an object with a member."""


def parts(path: Path, source: Source, start: Place, sent: int) -> Iterator[Part]:
    """The parts of a file that end behind `sent`, read from `start` on. Raises Invalid for what is no such file."""
    if source.kind == TABLES:
        from app.lab.trace_rows import table_parts

        yield from table_parts(path, source, start)
        return
    read = _ndjson if source.kind == NDJSON else _logs
    wanted = None if source.kind == NDJSON or not start.offset else form(path, head(path, LOOKED_AT_BYTES), source.kind)
    yield from (part for part in read(path, source, start, wanted) if part.end is None or part.end > sent)


def check(path: Path, kind: str) -> None:
    """Raises Invalid when a file is not of this kind, as far as its beginning shows."""
    if kind == TABLES:
        from app.lab.trace_rows import check_table

        check_table(path)
    elif kind != NDJSON and str(path) != STDIN and path.stat().st_size:
        form(path, head(path, LOOKED_AT_BYTES), kind)


def form(path: Path, data: bytes, kind: str) -> LogFormat:
    """The form of a log that begins with `data`. Raises Invalid when it is none of this kind."""
    kind = KINDS.get(kind, kind)
    found = detect_in(data, kind)
    if found is None:
        other = detect_in(data)
        raise Invalid(f"{path.name} does not begin with a line of {kind}" + (f", but of {other.name}" if other else ""))
    return found


def _logs(path: Path, source: Source, start: Place, wanted: LogFormat | None) -> Iterator[Part]:
    from app.lab.log_lines import Reader

    reader: Reader | None = None
    for block in blocks(path, start.offset, start.line):
        if reader is None:
            wanted = wanted or form(path, block.data[:LOOKED_AT_BYTES], source.kind)
            reader = Reader(wanted, source=source.name, site=source.site)
        found = list(reader.read(block))
        for number, lines in enumerate(found, start=1):
            yield Part(
                lines.body, lines.body_ends.tolist(), lines.line.tolist(), lines.refused, lines.passed, lines.total,
                _again(block), _end(block) if number == len(found) else None, block.read,
            )  # fmt: skip


def _again(block: Block) -> Place:
    return Place(block.offset, block.first_line)


def _end(block: Block) -> int:
    """Where what follows the block begins: a last line without an end is read once more when it may have grown."""
    return block.end - (len(block.data) - block.data.rfind(b"\n") - 1)


def _ndjson(path: Path, source: Source, start: Place, _: LogFormat | None) -> Iterator[Part]:
    ids = LineIds(source.name)
    for block in blocks(path, start.offset, start.line):
        ids.next_block()
        texts = [line.strip() for line in block.data.removesuffix(b"\n").split(b"\n")]
        numbers = [number for number, text in enumerate(texts, start=block.first_line) if text]
        lines = [text for text in texts if text]
        unnamed = [row for row, text in enumerate(lines) if OPENED.match(text) and b'"event_id"' not in text]
        found = ids.of(lines[row] for row in unnamed)
        for place, row in enumerate(unnamed):
            digest = found[place * DIGEST_BYTES : (place + 1) * DIGEST_BYTES].hex().encode()
            lines[row] = b'{"event_id":"nd-' + digest + b'",' + lines[row][1:]
        ends = list(accumulate(len(line) + 1 for line in lines))
        body = b"".join(line + b"\n" for line in lines)
        passed = len(texts) - len(lines)
        yield Part(body, ends, numbers, [], passed, len(texts), _again(block), _end(block), block.read)
