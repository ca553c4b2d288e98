"""The producer's spool: a folder in which events that are not delivered yet outlive the process, a file a batch."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from app.errors import Conflict, Overloaded, Permanent, SettingsError

SUFFIX = ".ndjson"


class Spool:
    """Files of one producer, named by the keys of their batches. They outlive a kill, not a loss of power."""

    def __init__(self, folder: Path, topic: str) -> None:
        """Raises Conflict when another process has the folder, or another topic's events are in it.

        Raises SettingsError when it cannot be written to.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = (folder / "lock").open("a+b")
        except OSError as error:
            raise SettingsError(f"{folder} cannot hold a spool: {error}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise Conflict(f"another producer has the spool {folder}") from None
        self._folder = folder
        self._belong_to(topic)
        self._open: tuple[str, BinaryIO] | None = None

    def _belong_to(self, topic: str) -> None:
        """The lock's file says whose the events are: they must not go to another topic."""
        self._lock.seek(0)
        before = self._lock.read().decode(errors="replace")
        if before not in ("", topic) and any(self._folder.glob(f"*{SUFFIX}")):
            self._lock.close()
            raise Conflict(f"the spool {self._folder} has events of topic {before}")
        self._lock.truncate(0)
        self._lock.write(topic.encode())
        self._lock.flush()

    def left(self) -> list[tuple[str, int, int]]:
        """Key, bytes and events of each batch that a producer before has left, oldest first."""
        found = []
        for path in sorted(self._folder.glob(f"*{SUFFIX}"), key=_age):
            data = path.read_bytes()
            whole = data[: data.rfind(b"\n") + 1]  # the last line was cut off in the midst of a write
            if whole:
                if len(whole) < len(data):
                    os.truncate(path, len(whole))  # in place: whoever is killed here has lost nothing
                found.append((path.stem, len(whole), whole.count(b"\n")))
            else:
                path.unlink()
        return found

    def append(self, key: str, line: bytes) -> None:
        """Adds an event to a batch, wholly or not at all. Raises Overloaded where the disk does not take it."""
        try:
            self._append(key, line + b"\n")
        except OSError as error:
            raise Overloaded(f"the spool {self._folder} takes no more: {error}") from error

    def _append(self, key: str, data: bytes) -> None:
        if self._open is None or self._open[0] != key:
            if self._open:
                self._open[1].close()
            self._open = key, (self._folder / f"{key}{SUFFIX}").open("ab", buffering=0)
        file = self._open[1]
        begin = file.seek(0, os.SEEK_END)
        try:
            while data:  # a disk that is nearly full takes a part, and refuses the rest
                data = data[file.write(data) :]
        except OSError:
            file.truncate(begin)
            raise

    def read(self, key: str) -> bytes:
        """A batch as NDJSON. Raises Permanent when its file was taken away or cannot be read."""
        path = self._folder / f"{key}{SUFFIX}"
        try:
            return path.read_bytes().rstrip(b"\n")
        except OSError as error:
            raise Permanent(f"{path} cannot be read: {error}") from error

    def remove(self, key: str, keep_as: str | None = None) -> None:
        """A batch is over; keep_as: the ending under which it stays for a person to look at."""
        path = self._folder / f"{key}{SUFFIX}"
        with suppress(FileNotFoundError):
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
