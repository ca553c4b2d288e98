"""Requests that wait for a change: few at a time, with no connection held meanwhile, answered when the process ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from threading import BoundedSemaphore, Event
from typing import TypeVar

from app.errors import Throttled

T = TypeVar("T")
POLL_S = 0.1
MAX_WAITING = 4
"""So many requests may wait at a time, which leaves threads to answer the others."""
stopping = Event()
"""Set when the process was asked to end: whoever waits is answered at once."""
_waiting = BoundedSemaphore(MAX_WAITING)


def reads(read: Callable[[], T], wait_s: float) -> Iterator[T]:
    """What is read again and again for `wait_s` seconds. Raises Throttled while too many others wait."""
    if not _waiting.acquire(blocking=False):
        raise Throttled("too many requests wait at the moment; ask without wait", retry_after_s=1)
    try:
        deadline = time.monotonic() + wait_s
        while time.monotonic() < deadline and not stopping.wait(POLL_S):
            yield read()
    finally:
        _waiting.release()
