"""The producer's spool: a folder in which events that are not delivered yet outlive the process, a file a batch."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import BinaryIO

from app.errors import Conflict, SettingsError

SUFFIX = ".ndjson"


class Spool:
    """Files of one producer, named by the keys of their batches. They outlive a kill, not a loss of power."""

    def __init__(self, folder: Path) -> None:
        """Raises Conflict when another process has the folder, SettingsError when it cannot be written to."""
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = (folder / "lock").open("wb")
        except OSError as error:
            raise SettingsError(f"{folder} cannot hold a spool: {error}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise Conflict(f"another producer has the spool {folder}") from None
        self._folder = folder
        self._open: tuple[str, BinaryIO] | None = None

    def left(self) -> list[tuple[str, int, int]]:
        """Key, bytes and events of each batch that a producer before has left, oldest first."""
        found = []
        for path in sorted(self._folder.glob(f"*{SUFFIX}"), key=_age):
            whole = path.read_bytes()
            whole = whole[: whole.rfind(b"\n") + 1]  # the last line was cut off in the midst of a write
            if whole:
                path.write_bytes(whole)
                found.append((path.stem, len(whole), whole.count(b"\n")))
            else:
                path.unlink()
        return found

    def append(self, key: str, line: bytes) -> None:
        """Adds an event to a batch."""
        if self._open is None or self._open[0] != key:
            if self._open:
                self._open[1].close()
            self._open = key, (self._folder / f"{key}{SUFFIX}").open("ab", buffering=0)
        self._open[1].write(line + b"\n")

    def read(self, key: str) -> bytes:
        """A batch as NDJSON."""
        return (self._folder / f"{key}{SUFFIX}").read_bytes().rstrip(b"\n")

    def remove(self, key: str, keep_as: str | None = None) -> None:
        """A batch is over; keep_as: the ending under which it stays for a person to look at."""
        path = self._folder / f"{key}{SUFFIX}"
        if keep_as:
            path.rename(path.with_suffix(f".{keep_as}"))
        else:
            path.unlink()

    def close(self) -> None:
        """Lets another producer have the folder."""
        if self._open:
            self._open[1].close()
        self._lock.close()


def _age(path: Path) -> tuple[float, int]:
    """By time, those of one producer by their number."""
    number = path.stem.rpartition("-")[2]
    return path.stat().st_mtime, int(number) if number.isdigit() else 0
