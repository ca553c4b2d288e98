"""What a message costs: one message a batch of items against one task an item, on a real broker and worker."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from app.settings import PROJECT_ROOT
from bench.result import Result, more
from bench.rig import Rig

BAR = 100.0
BATCHES, BATCH = 200, 2000
SINGLE = 400
GIVE_UP_S = 60.0


def measure(rig: Rig) -> Iterator[Result]:
    """Items a second, from the first message sent to the last item done."""
    _ = rig.stack  # first: the Celery application reads the broker's URL when it is made
    with _worker():
        _rate(1, 1)  # the worker's first message opens its connections
        ours = _rate(BATCHES, BATCH)
        peer = _rate(SINGLE, 1)
    rig.tell(f"celery-items: {BATCHES} messages of {BATCH} items, {SINGLE} messages of one")
    yield more("celery-items", ours, peer, "items/s", BAR)


def _rate(messages: int, count: int) -> float:
    from bench.celery_app import DONE, app, items, redis

    counter = redis()
    counter.delete(DONE)
    started = time.perf_counter()
    with app.producer_or_acquire() as producer:
        for number in range(messages):
            items.apply_async((number * count, count), producer=producer)
    while int(counter.get(DONE) or 0) < messages * count:
        if time.perf_counter() - started > GIVE_UP_S:
            raise RuntimeError("the bench worker did not finish")
        time.sleep(0.001)
    return messages * count / (time.perf_counter() - started)


@contextmanager
def _worker() -> Iterator[None]:
    from bench.celery_app import QUEUE

    command = [sys.executable, "-m", "celery", "-A", "bench.celery_app", "worker", "--loglevel=ERROR", "-Q", QUEUE]
    command.append("--concurrency=2")
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, cwd=PROJECT_ROOT, stdout=quiet, stderr=quiet) as process:
        try:
            yield
        finally:
            process.terminate()
