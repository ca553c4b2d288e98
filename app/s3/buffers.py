"""Memory for parts on their way: so many bytes overall in a process, used again and again."""

from __future__ import annotations

import threading
from collections.abc import Callable

LOOK_S = 0.25
"""How often a wait looks whether it is to end."""


class Buffers:
    """Hands out buffers; nobody who holds one waits for another, so that all come back."""

    def __init__(self, most: int) -> None:
        """most: bytes that are out at the same time; a larger buffer is handed out alone."""
        self._most, self._out = most, 0
        self._free: list[bytearray] = []
        self._returned = threading.Condition()

    def take(self, size: int, check: Callable[[], None] = lambda: None) -> bytearray:
        """A buffer of this size, as soon as there is room. check: raises when nobody waits for it any more."""
        with self._returned:
            while not self._has_room(size):
                self._returned.wait(LOOK_S)
                check()
            return self._taken(size)

    def take_now(self, size: int) -> bytearray | None:
        """A buffer of this size, if there is room for it now."""
        with self._returned:
            return self._taken(size) if self._has_room(size) else None

    def give(self, buffer: bytearray) -> None:
        """Takes a buffer back."""
        with self._returned:
            self._out -= len(buffer)
            self._free.append(buffer)
            self._returned.notify_all()

    def _has_room(self, size: int) -> bool:
        return self._out == 0 or self._out + size <= self._most

    def _taken(self, size: int) -> bytearray:
        self._out += size
        for index, buffer in enumerate(self._free):
            if len(buffer) == size:
                return self._free.pop(index)
        self._free.clear()  # of sizes that are not asked for now
        return bytearray(size)
