"""Imports files: one thread reads and parses while the other sends, remembers what was taken and tells the rest."""

from __future__ import annotations

import json
import threading
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, Full, Queue
from typing import IO, Any

from app.blocks import BLOCK_BYTES, BLOCK_LINES
from app.cli.import_state import Identity, Journal, Mark
from app.client import Client
from app.errors import FieldError, Invalid
from app.lab.blocks import STDIN
from app.lab.imports import parts
from app.lab.parts import Part, Place, Source

AHEAD = 2
"""Requests that are ready while one is under way."""
LISTED = 1000
"""Refused lines that are kept to be shown; a file of them holds all."""
TEXT = 500


@dataclass
class Piece:
    """Some lines of a part, and what is known of the file once they are taken."""

    path: Path
    body: bytes
    lines: Sequence[int]
    part: Part | None = None
    """Whose last piece this is."""
    mark: Mark | None = None
    ends_file: bool = False
    skipped: bool = False
    """Nothing of the file is sent: it was imported before."""


@dataclass
class Request:
    """Pieces that are sent as one block."""

    pieces: list[Piece] = field(default_factory=list)
    lines: int = 0
    size: int = 0

    def has_room(self, piece: Piece) -> bool:
        """Whether the API's limits let the piece in."""
        return not self.lines or (
            self.lines + len(piece.lines) <= BLOCK_LINES and self.size + len(piece.body) <= BLOCK_BYTES
        )

    def add(self, piece: Piece) -> None:
        """Adds it behind the others."""
        self.pieces.append(piece)
        self.lines += len(piece.lines)
        self.size += len(piece.body)


@dataclass
class Report:
    """What became of the lines of all files."""

    files: int = 0
    skipped_files: int = 0
    lines: int = 0
    accepted: int = 0
    duplicates: int = 0
    rejected: int = 0
    passed_over: int = 0
    uncounted: int = 0
    errors: list[dict[str, Any]] = field(default_factory=list)
    read: dict[Path, int] = field(default_factory=dict)
    """Bytes of each file, packed if it is, that have been dealt with."""


class Import:
    """One run over some files."""

    def __init__(
        self,
        files: Sequence[Path],
        source: Source,
        client: Client | None,
        journal: Journal | None,
        *,
        strict: bool = False,
        rejected: IO[str] | None = None,
    ) -> None:
        """client: None: nothing is sent; journal: None: nothing is remembered; rejected: gets each refused line."""
        self.report = Report()
        self._files, self._source, self._client, self._journal = files, source, client, journal
        self._strict, self._rejected = strict, rejected
        self._ready: Queue[Request | BaseException | None] = Queue(AHEAD)
        self._over = threading.Event()

    def run(self) -> Iterator[Report]:
        """The report so far, after each request. Raises what ended the import; what was taken before is remembered."""
        thread = threading.Thread(target=self._read, name="import", daemon=True)
        thread.start()
        try:
            while (request := self._ready.get()) is not None:
                if isinstance(request, BaseException):
                    raise request
                self._send(request)
                yield self.report
        finally:
            self._over.set()
            while True:
                try:
                    self._ready.get_nowait()
                except Empty:
                    break
            thread.join()

    # -- The thread that reads

    def _read(self) -> None:
        try:
            request = Request()
            for path in self._files:
                for piece in self._pieces(path):
                    if not request.has_room(piece):
                        self._give(request)
                        request = Request()
                    request.add(piece)
                    if self._over.is_set():
                        return
            self._give(request)
            self._give(None)
        except BaseException as error:  # noqa: BLE001 - it is raised again where the import is run
            self._give(error)

    def _give(self, request: Request | BaseException | None) -> None:
        while not self._over.is_set():
            try:
                self._ready.put(request, timeout=0.2)
            except Full:
                continue
            return

    def _pieces(self, path: Path) -> Iterator[Piece]:
        is_file = str(path) != STDIN
        known = self._journal.known(path) if self._journal and is_file else None
        if known and known.is_whole:
            yield Piece(path, b"", (), ends_file=True, skipped=True)
            return
        identity = Identity.of(path) if is_file and self._journal else None
        start, end, last = (known.place, known.end, known.place) if known else (Place(), 0, Place())
        for part in parts(path, self._source, start, end):
            if self._strict and part.refused:
                first = part.refused[0]
                raise Invalid(f"{path.name} line {first.line}: {first.detail}; nothing of its block was sent")
            if part.end is not None:
                end, last = part.end, part.begin
            mark = identity.mark(last, end, is_whole=False) if identity and part.end is not None else None
            yield from _cut(path, part, mark)
        whole = identity.mark(last, end, is_whole=True) if identity else None
        yield Piece(path, b"", (), mark=whole, ends_file=True)

    # -- The thread that sends

    def _send(self, request: Request) -> None:
        if request.lines and self._client:
            body = b"".join(piece.body for piece in request.pieces)
            try:
                reply = self._client.ingest_block(body, strict=self._strict)
            except Invalid as error:
                raise Invalid(error.detail, errors=tuple(_placed(request, each) for each in error.errors)) from error
            self.report.accepted += reply["accepted"]
            self.report.duplicates += reply["duplicates"]
            texts = body.split(b"\n") if reply["errors"] else []
            for each in reply["errors"]:
                text = texts[each["line"] - 1][:TEXT].decode(errors="backslashreplace")
                self._refuse(*_found(request, each["line"]), each["pointer"], each["detail"], text)
        for piece in request.pieces:
            self._count(piece)
            if piece.mark and self._journal and self._client:
                self._journal.add(piece.mark)

    def _count(self, piece: Piece) -> None:
        self.report.files += piece.ends_file
        self.report.skipped_files += piece.skipped
        part = piece.part
        if part is None:
            return
        self.report.lines += part.total
        self.report.passed_over += part.passed
        self.report.uncounted += part.uncounted
        self.report.read[piece.path] = part.read
        for refused in part.refused:
            self._refuse(piece.path, refused.line, refused.pointer, refused.detail, refused.text)

    def _refuse(self, path: Path, line: int, pointer: str, detail: str, text: str) -> None:
        self.report.rejected += 1
        told = {"file": str(path), "line": line, "pointer": pointer, "detail": detail}
        if len(self.report.errors) < LISTED:
            self.report.errors.append(told)
        if self._rejected:
            self._rejected.write(json.dumps({**told, "text": text}) + "\n")


def _cut(path: Path, part: Part, mark: Mark | None) -> Iterator[Piece]:
    """A part in pieces that the API takes; the last one has the part and the mark, even where nothing is sent."""
    first, begin = 0, 0
    while first < len(part.ends):
        last = min(first + BLOCK_LINES, bisect_right(part.ends, begin + BLOCK_BYTES))
        last = max(last, first + 1)
        is_last = last == len(part.ends)
        end = part.ends[last - 1]
        yield Piece(
            path, part.body[begin:end], part.lines[first:last], part if is_last else None, mark if is_last else None
        )
        first, begin = last, end
    if not part.ends:
        yield Piece(path, b"", (), part, mark)


def _found(request: Request, number: int) -> tuple[Path, int]:
    """Which line of which file the line `number` of a request is, the first 1."""
    for piece in request.pieces:
        if number <= len(piece.lines):
            return piece.path, piece.lines[number - 1]
        number -= len(piece.lines)
    raise IndexError(number)


def _placed(request: Request, error: FieldError) -> FieldError:
    """An error of a request's line with the file and the line that it is of."""
    number, _, rest = error.pointer.removeprefix("/").partition("/")
    if not number.isdecimal():
        return error
    path, line = _found(request, int(number) + 1)
    return FieldError(f"{path.name} line {line} /{rest}", error.detail)
