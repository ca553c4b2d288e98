"""A worker in a process of its own, forked from the test's, so that it can be killed at any moment by SIGKILL."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress

from app.db import session as database
from app.s3.client import connect
from tests.world import World


class Forked:
    """Works on jobs in child processes, one at a time; `kill` may be called from any thread."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._pid: int | None = None

    def work(self, job_id: int, at: Callable[[str], None] = lambda _: None) -> bool:
        """One worker's turn at the job; returns whether it was killed. at: called in the child at each point."""
        self._pid = os.fork()
        if not self._pid:
            self._pid = os.getpid()
            database.dispose()
            connect.cache_clear()
            try:
                self._world.work(job_id, at=at)
            finally:
                os._exit(0)
        _, status = os.waitpid(self._pid, 0)
        self._pid = None
        return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL

    def kill(self) -> None:
        """The worker ends here, whatever it is doing."""
        if (pid := self._pid) is not None:
            with suppress(ProcessLookupError):  # it ends by itself this very moment
                os.kill(pid, signal.SIGKILL)
