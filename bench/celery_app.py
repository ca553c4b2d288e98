"""The tasks of bench/celery_items.py: `celery -A bench.celery_app worker` runs them with the project's own settings."""

from __future__ import annotations

import hashlib

from celery import Celery
from kombu import Queue
from redis import Redis

from app.settings import get_settings

QUEUE, DONE = "bench", "bench:done"

app = Celery("bench")
app.config_from_object("celeryconfig")
app.conf.update(imports=(), beat_schedule={}, task_routes={}, task_queues=[Queue(QUEUE)], task_default_queue=QUEUE)


@app.task(name="bench.items")
def items(first: int, count: int) -> None:
    """Does a little work on each of the items, then counts them as done in one step."""
    for number in range(first, first + count):
        hashlib.sha256(number.to_bytes(8, "big")).digest()
    redis().incrby(DONE, count)


def redis() -> Redis:
    """The broker, where done items are counted."""
    return Redis.from_url(get_settings().broker_url)
