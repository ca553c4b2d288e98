"""`foretide serve`: runs the API and the dashboard in one process of several threads."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys
import typing
from collections.abc import Callable
from threading import Thread
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from flask import Flask

THREADS = 8
BACKLOG = 1024
STOP_S = 20
"""Time for requests under way after SIGTERM; those that wait for a job are answered at once."""
LEAN = {
    "PYTHONOPTIMIZE": "2",  # libraries' docstrings are 8 MiB; our own are read from the source (app.errors.docstrings)
    "PYTHONNODEBUGRANGES": "1",
    "OPENBLAS_NUM_THREADS": "1",  # each of its threads has a buffer
    "MALLOC_ARENA_MAX": "2",  # else each thread keeps memory of its own
    "MALLOC_MMAP_THRESHOLD_": "131072",  # a large body goes back to the system with its request
    "MALLOC_TRIM_THRESHOLD_": "131072",
    "_RJEM_MALLOC_CONF": "narenas:1,dirty_decay_ms:0,muzzy_decay_ms:0",  # the same for granian's own memory
}
"""What keeps the process within its 110 MiB; Python and the C library read it when they start."""
PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


@click.command()
@click.option("--host", help="Address to listen on.  [default: FORETIDE_HOST]")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on.  [default: FORETIDE_PORT]")
def serve(host: str | None, port: int | None) -> None:
    """Run the API and the dashboard until SIGTERM or Ctrl-C."""
    if LEAN.items() - os.environ.items():
        os.execve(sys.executable, sys.orig_argv, os.environ | LEAN)  # noqa: S606 - no shell is wanted
    from granian import Granian
    from granian.constants import Interfaces

    from app.settings import get_settings

    settings = get_settings()
    Granian(
        f"{__name__}:application",
        address=host or settings.host,
        port=settings.port if port is None else port,
        interface=Interfaces.WSGI,
        factory=True,
        blocking_threads=THREADS,
        backlog=BACKLOG,
        backpressure=THREADS * 4,
        workers_kill_timeout=STOP_S,
        websockets=False,
        log_enabled=settings.log_level == "DEBUG",
    ).serve()


def application() -> Flask:
    """The application in the process that serves it, which ends with its parent."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    _import_redis_first()
    from app import logs
    from app.api import waiting
    from app.server import create_app
    from app.settings import get_settings

    logs.configure(get_settings().log_level)
    _on_shutdown(waiting.stopping.set)
    made = create_app()
    gc.collect()
    _libc.malloc_trim(0)  # what imports needed for a moment
    return made


def _import_redis_first() -> None:
    """What redis-py leaves of its import is used again by the imports that follow."""
    for unused in ("rich", "yaml"):  # structlog would load them for logs in colour, kombu for messages in YAML
        sys.modules.setdefault(unused, None)  # type: ignore[arg-type]
    import redis  # noqa: F401

    typing.clear_overloads()  # redis-py's alone are 12 MiB, and nothing asks for them
    gc.collect()


def _on_shutdown(tell: Callable[[], None]) -> None:
    """Calls `tell` when SIGTERM or Ctrl-C comes: the server's own handlers, set after this, say nothing to the app."""
    ours, handlers = os.pipe()
    os.set_blocking(handlers, False)
    signal.set_wakeup_fd(handlers, warn_on_full_buffer=False)

    def wait() -> None:
        while os.read(ours, 1)[0] not in (signal.SIGTERM, signal.SIGINT):
            pass
        tell()

    Thread(target=wait, daemon=True, name="shutdown").start()
