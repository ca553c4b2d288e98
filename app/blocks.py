"""Sends lines to the API in blocks, each committed before the next is sent. Used by app.client."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from app.transport import Json, Transport

BLOCK_LINES = 50_000
BLOCK_BYTES = 12 * 2**20
Lines = Iterable[str | bytes | Mapping[str, Any]]


@dataclass
class IngestReport:
    """What became of the lines; `errors` carry the line numbers of the whole input, the first of them 1."""

    accepted: int = 0
    duplicates: int = 0
    rejected: int = 0
    errors: list[Json] = field(default_factory=list)

    @property
    def lines(self) -> int:
        """How many lines have been sent."""
        return self.accepted + self.duplicates + self.rejected

    def add(self, reply: Json, first_line: int) -> None:
        """Counts the reply to a block whose first line has this number."""
        self.accepted += reply["accepted"]
        self.duplicates += reply.get("duplicates", 0)
        self.rejected += reply["rejected"]
        self.errors += [{**error, "line": error["line"] + first_line - 1} for error in reply["errors"]]


def send_blocks(
    api: Transport,
    path: str,
    lines: Lines,
    *,
    key: str | None = None,
    strict: bool,
    on_block: Callable[[IngestReport], None] | None,
) -> IngestReport:
    """Sends lines (NDJSON text or mappings). key: begins the Idempotency-Key of each block, which then counts once."""
    report, first_line = IngestReport(), 1
    query = {"strict": "true"} if strict else {}
    for block in _blocks(lines):
        headers = {"Content-Type": "application/x-ndjson", "Content-Encoding": "gzip"}
        if key:
            headers["Idempotency-Key"] = f"{key}-{first_line}"
        body = gzip.compress(b"\n".join(block), compresslevel=1)
        report.add(api.send("POST", path, content=body, headers=headers, params=query).json(), first_line)
        first_line += len(block)
        if on_block:
            on_block(report)
    return report


def _blocks(lines: Lines) -> Iterator[list[bytes]]:
    """Lines as bytes, so many at a time that no request passes the API's limits."""
    block: list[bytes] = []
    size = 0
    for line in lines:
        data = line if isinstance(line, bytes) else (line if isinstance(line, str) else json.dumps(line)).encode()
        data = data.rstrip(b"\r\n")
        if block and (len(block) == BLOCK_LINES or size + len(data) > BLOCK_BYTES):
            yield block
            block, size = [], 0
        block.append(data)
        size += len(data) + 1
    if block:
        yield block
