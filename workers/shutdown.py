"""Whether this worker is ending: the parent process hears SIGTERM, its children have to know.

One byte of shared memory and no lock, since a child that is killed while it holds one would hang all the others.
"""

from __future__ import annotations

import mmap

from celery import signals

_ending = mmap.mmap(-1, 1)


@signals.worker_shutting_down.connect
def _begin(**_: object) -> None:
    _ending[0] = 1


def requested() -> bool:
    """Whether what can be given back should be given back now."""
    return _ending[0] == 1
