"""Remembers which parts of which files the API has taken, so that an import goes on where it was interrupted."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path

from app.lab.parts import Place, Source

HEAD_BYTES = 2**16


@dataclass(frozen=True)
class Mark:
    """A file as it was, and what of it has been taken. Offsets are of unpacked bytes, of a table the row's number."""

    path: str
    size: int
    mtime_ns: int
    head: str
    """A hash of so many of the file's first bytes as `head_bytes` says."""
    head_bytes: int
    offset: int
    line: int
    """Where reading begins to go on, and the number of the line there."""
    end: int
    """Up to where everything was taken."""
    is_whole: bool

    @property
    def place(self) -> Place:
        """Where reading begins to go on."""
        return Place(self.offset, self.line)


class Journal:
    """A file of marks, the newest of a path below the others; a line that was cut off while it was written is none."""

    def __init__(self, path: Path) -> None:
        """path: need not be there yet."""
        self._path = path
        self._marks: dict[str, Mark] = {}
        for line in path.read_text(errors="replace").splitlines() if path.is_file() else ():
            try:
                mark = Mark(**json.loads(line))
            except (ValueError, TypeError):
                continue
            self._marks[mark.path] = mark

    def known(self, path: Path) -> Mark | None:
        """What was taken of the file, if it is still the same, or the same with more behind it."""
        mark = self._marks.get(str(path.resolve()))
        if mark is None:
            return None
        now = path.stat()
        grown = now.st_size > mark.size
        same = now.st_size == mark.size and now.st_mtime_ns == mark.mtime_ns
        if not (same or grown) or _head(path, mark.head_bytes) != mark.head:
            return None
        return mark if same or not mark.is_whole else _open(mark)

    def add(self, mark: Mark) -> None:
        """Remembers a mark: it is on disk when this returns."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a") as file:
            file.write(json.dumps(asdict(mark)) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self._marks[mark.path] = mark


def journal_path(state_dir: Path, url: str, source: Source) -> Path:
    """Where the marks of an API and a kind of files are kept."""
    told = json.dumps([url, source.kind, source.name, source.site]).encode()
    return state_dir / "imports" / f"{blake2b(told, digest_size=8).hexdigest()}.ndjson"


@dataclass(frozen=True)
class Identity:
    """A file as it is when its import begins."""

    path: str
    size: int
    mtime_ns: int
    head: str
    head_bytes: int

    @classmethod
    def of(cls, path: Path) -> Identity:
        """Reads its first bytes."""
        now = path.stat()
        known = min(HEAD_BYTES, now.st_size)
        return cls(str(path.resolve()), now.st_size, now.st_mtime_ns, _head(path, known), known)

    def mark(self, place: Place, end: int, *, is_whole: bool) -> Mark:
        """What has been taken of it."""
        return Mark(**asdict(self), offset=place.offset, line=place.line, end=end, is_whole=is_whole)


def _open(mark: Mark) -> Mark:
    return Mark(**{**asdict(mark), "is_whole": False})


def _head(path: Path, size: int) -> str:
    with path.open("rb") as file:
        return blake2b(file.read(size), digest_size=16).hexdigest()
