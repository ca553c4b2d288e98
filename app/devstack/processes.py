"""Starts, awaits and stops child processes so that none outlives its starter: used by every embedded part.

The kernel sends a child its death signal when the *thread* that started it ends, so children are started by threads
that last: the main one and the supervisor's. They boot side by side all the same: only their readiness is awaited.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from app.errors import Permanent

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
POLL_S = 0.02
LOG_TAIL = 12

_libc = ctypes.CDLL(None, use_errno=True)


class PartFailed(Permanent):
    """A part of the stack did not start."""

    slug = "part-failed"


@dataclass(frozen=True)
class Command:
    """What to run and how to end it. `log` receives its output; `death_signal` is sent when the starter dies."""

    name: str
    argv: tuple[str, ...]
    cwd: Path
    log: Path
    env: Mapping[str, str]
    stop_signal: signal.Signals = signal.SIGTERM
    stop_s: float = 10.0
    death_signal: signal.Signals = signal.SIGKILL
    prepare: Callable[[], None] | None = field(default=None, compare=False)
    """Runs in the child before the program: changes who it is."""


def prctl(option: int, value: int) -> None:
    """Set an attribute of this process (prctl(2)). Raises OSError."""
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def die_with_parent(parent: int, death_signal: signal.Signals) -> None:
    """Have the kernel signal this process when its parent ends; leave at once if that has happened already."""
    prctl(PR_SET_PDEATHSIG, death_signal)
    if os.getppid() != parent:
        os._exit(1)


class Child:
    """A running child in a process group of its own, so that a terminal's Ctrl-C reaches its starter alone."""

    def __init__(self, command: Command) -> None:
        """Start it. Raises PartFailed when the program cannot be run."""
        self.command = command
        starter = os.getpid()

        def before_exec() -> None:
            if command.prepare:
                command.prepare()
            die_with_parent(starter, command.death_signal)  # last: the kernel forgets it when the user changes

        with command.log.open("ab") as log:
            os.fchmod(log.fileno(), 0o600)
            try:
                self._process = subprocess.Popen(
                    command.argv,
                    cwd=command.cwd,
                    env=dict(command.env),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    preexec_fn=before_exec,  # noqa: PLW1509 - it takes no lock
                )
            except (OSError, subprocess.SubprocessError) as error:
                raise PartFailed(f"{command.name} cannot be run: {error}") from error

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the child still runs."""
        return self._process.poll() is None

    @property
    def status(self) -> int | None:
        """How it ended: its exit code, or less than 0 for the signal; None while it runs."""
        return self._process.poll()

    def check_alive(self) -> None:
        """Raises PartFailed, with the end of the log, when the child has ended."""
        if not self.alive:
            raise PartFailed(self._story(f"ended with status {self.status}"))

    def await_ready(self, ready: Callable[[], bool], timeout_s: float = 120.0) -> None:
        """Wait until `ready` says yes. Raises PartFailed with the end of the log when the child ends or time is up."""
        deadline = time.monotonic() + timeout_s
        while not ready():
            self.check_alive()
            if time.monotonic() > deadline:
                raise PartFailed(self._story(f"was not ready after {timeout_s:.0f} s"))
            time.sleep(POLL_S)

    def await_end(self, timeout_s: float = 60.0) -> None:
        """Wait for a child that ends by itself. Raises PartFailed unless its status is 0."""
        try:
            status = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise PartFailed(self._story(f"did not end within {timeout_s:.0f} s")) from None
        if status != 0:
            raise PartFailed(self._story(f"ended with status {status}"))

    def ask_to_stop(self) -> None:
        """Send the signal that ends it in order."""
        if self.alive:
            self._process.send_signal(self.command.stop_signal)

    def stop(self) -> None:
        """Ask, wait for `stop_s`, then kill; whatever is left of its process group goes with it."""
        self.ask_to_stop()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(self.command.stop_s)
        self.kill()

    def kill(self) -> None:
        """End it and its process group at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()

    def _story(self, what: str) -> str:
        lines = self.command.log.read_text(errors="replace").splitlines()[-LOG_TAIL:]
        tail = "".join(f"\n  | {line}" for line in lines)
        return f"{self.command.name} {what}; the end of {self.command.log}:{tail}"
