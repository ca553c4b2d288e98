"""Runs a program so that whatever kills it, or the one who started it, no process is left behind.

Two processes watch over each other. The outer one, which the user sees, passes signals on and waits. The inner one
works and starts the parts. If the inner one dies, its children are killed by their death signal, and grandchildren
fall to the outer one, a "subreaper", which kills them. If the outer one dies, the kernel tells the inner one.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType

from app.devstack.processes import PR_SET_CHILD_SUBREAPER, die_with_parent, prctl

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class Terminated(SystemExit):
    """A signal other than Ctrl-C ends this process, with the exit code that says so."""


class Orphaned(Terminated):
    """The outer process has died: nobody waits for an orderly end."""


def guarded(work: Callable[[], int]) -> int:
    """Run `work` in an inner process; both processes return its exit code, the inner one as soon as it has it.

    To be called before any thread is started. In `work`, SIGINT raises KeyboardInterrupt; the other signals that end
    a process raise Terminated.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    outer = os.getpid()
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)  # none is lost before both sides have their handlers
    inner = os.fork()
    return _work(work, outer) if inner == 0 else _watch(inner)


def kill_descendants() -> None:
    """Kill every process below this one, until none is left."""
    import psutil

    me = psutil.Process()
    while children := me.children(recursive=True):
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(-1, 0)


def _watch(inner: int) -> int:
    """The outer process: passes signals on until the inner one has ended, then sweeps."""

    def pass_on(number: int, _frame: FrameType | None) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(inner, number)

    _handle(pass_on)
    status = os.waitstatus_to_exitcode(os.waitpid(inner, 0)[1])
    kill_descendants()
    return status if status >= 0 else 128 - status


def _work(work: Callable[[], int], outer: int) -> int:
    """The inner process: in a process group of its own, so that a terminal's Ctrl-C reaches it once, passed on."""

    def end(number: int, _frame: FrameType | None) -> None:
        if os.getppid() != outer:
            raise Orphaned(128 + number)
        raise KeyboardInterrupt if number == signal.SIGINT else Terminated(128 + number)

    os.setpgid(0, 0)
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # it may write to the terminal, though in the background
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    _handle(end)
    die_with_parent(outer, signal.SIGTERM)
    try:
        return work()
    finally:
        kill_descendants()


def _handle(handler: Callable[[int, FrameType | None], None]) -> None:
    for number in ENDING:
        signal.signal(number, handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
