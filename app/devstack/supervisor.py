"""Starts again what dies while a stack runs, as an operator's init system would."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from threading import Event, Thread
from typing import Protocol

from app.devstack.processes import Child

PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0


class Runnable(Protocol):
    """Something with a process that can be started again."""

    child: Child | None

    @property
    def name(self) -> str:
        """What it is called."""
        ...

    def start(self) -> None:
        """Start its process."""
        ...


class Supervisor:
    """A thread that looks after processes until `pause`, and ends after `release`.

    The kernel takes a thread's end for its children's parent's death, so the thread outlives what it has started.
    """

    def __init__(self, runnables: Sequence[Runnable], say: Callable[[str], None]) -> None:
        """say: told of each new start."""
        self._runnables, self._say = runnables, say
        self._paused, self._released = Event(), Event()
        self._idle = Event()
        self._not_before: dict[str, float] = {}
        self._pauses: dict[str, float] = {}
        self._thread = Thread(target=self._run, name="supervisor", daemon=True)
        self._thread.start()

    def pause(self) -> None:
        """Start nothing again from now on: what is being started is waited for."""
        self._paused.set()
        self._idle.wait()

    def release(self) -> None:
        """Let the thread end: everything has been stopped."""
        self.pause()
        self._released.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._paused.wait(0.2):
            for runnable in self._runnables:
                if runnable.child and not runnable.child.alive:
                    self._restart(runnable, runnable.child)
        self._idle.set()
        self._released.wait()

    def _restart(self, runnable: Runnable, dead: Child) -> None:
        now = time.monotonic()
        if now < self._not_before.get(runnable.name, 0.0):
            return
        pause = min(2 * self._pauses.get(runnable.name, PAUSE_S / 2), LONGEST_PAUSE_S)
        self._pauses[runnable.name], self._not_before[runnable.name] = pause, now + pause
        self._say(f"{runnable.name} ended with status {dead.status}; it is started again")
        dead.kill()  # what is left of its process group
        runnable.start()
