"""Chooses free ports on loopback for the embedded parts: first step of starting a stack."""

from __future__ import annotations

import random
import socket
import weakref
from collections.abc import Iterable, Iterator
from contextlib import ExitStack

HOST = "127.0.0.1"
# Below the usual range of ephemeral ports, so that no outgoing connection takes a port between its choice and its use.
LOWEST, HIGHEST = 12_000, 22_000
OFFSET = 10_000


def is_free(port: int, host: str = HOST) -> bool:
    """Whether a server could listen on this port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


class Ports:
    """Hands out ports, none of them twice, and none that another process holds but does not listen on yet.

    What is handed out is held until `release` or the end of this object, by names of sockets that no server needs:
    the kernel frees them when the process ends, however it ends.
    """

    def __init__(self, taken: Iterable[int] = ()) -> None:
        """taken: ports that are spoken for, although nothing listens there yet."""
        self._taken = set(taken)
        self._held = ExitStack()
        weakref.finalize(self, self._held.close)
        self._random = random.SystemRandom()

    def choose(self, wished: int | None = None, *, host: str = HOST) -> int:
        """The wished port when it is free, else another. The port 0 wishes for any."""
        if wished and self._take(wished, host=host):
            return wished
        return next(port for port in self._candidates() if self._take(port, host=host))

    def choose_pair(self, wished: int | None = None) -> int:
        """A port p such that p and p + OFFSET are both free: SeaweedFS looks for its gRPC servers there."""
        if wished and self._take(wished, wished + OFFSET):
            return wished
        return next(port for port in self._candidates() if self._take(port, port + OFFSET))

    def release(self) -> None:
        """Let others have the ports on which nothing listens."""
        self._held.close()

    def _candidates(self) -> Iterator[int]:
        while True:
            yield self._random.randrange(LOWEST, HIGHEST)

    def _take(self, *ports: int, host: str = HOST) -> bool:
        with ExitStack() as held:
            for port in ports:
                if port in self._taken or not _hold(port, held) or not is_free(port, host):
                    return False
            self._held.push(held.pop_all())
        self._taken.update(ports)
        return True


def _hold(port: int, held: ExitStack) -> bool:
    """Whether no other holds this port; it is held by us then until `held` is closed."""
    mark = held.enter_context(socket.socket(socket.AF_UNIX))
    try:
        mark.bind(f"\0foretide-port-{port}")  # the leading zero keeps it out of the file system
    except OSError:
        return False
    return True
