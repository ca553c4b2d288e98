"""A worker that dies inside the test's own process: from one moment on nothing of it reaches the database any more."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from sqlalchemy import event

from app.db import session as database


class Crash(BaseException):
    """The worker ends here; no handler of it may do anything more."""


class Mortal:
    """Counts the points and the statements of a worker and lets it die at one of them.

    points: at which call of `at` it dies, from 1 on; named: at the first of this name; statements: before which
    statement or commit. None: not so.
    """

    def __init__(self, points: int | None = None, statements: int | None = None, named: str | None = None) -> None:
        self.dead = False
        self._points, self._statements, self._named = points, statements, named
        self._passed = self._sent = 0
        self._is_spared = False

    def at(self, name: str) -> None:
        """To be handed to the worker as its `at`."""
        self._passed += 1
        self._die_if(self._passed == self._points or name == self._named)

    def run(self, work: Callable[[], object]) -> bool:
        """Runs the worker to its end; returns whether that was its death."""
        with self._listening(), suppress(Crash):
            work()
        return self.dead

    @contextmanager
    def _listening(self) -> Iterator[None]:
        engine = database.engine()
        handlers: dict[str, Any] = {"before_cursor_execute": self._statement, "commit": self._statement}
        for name, handler in handlers.items():
            event.listen(engine, name, handler)
        try:
            yield
        finally:
            for name, handler in handlers.items():
                event.remove(engine, name, handler)

    @contextmanager
    def spared(self) -> Iterator[None]:
        """What is said to the database meanwhile is somebody else's, while the worker waits for an answer."""
        self._is_spared = True
        try:
            yield
        finally:
            self._is_spared = False

    def _statement(self, *_: object) -> None:
        if self._is_spared:
            return
        self._sent += 1
        self._die_if(self._sent == self._statements)

    def _die_if(self, now: bool) -> None:
        self.dead = self.dead or now
        if self.dead:
            raise Crash
