"""The bell: the producer side of Celery, by name. The names themselves stand in app/domain/tasks.py.

A message carries a job's id and nothing else; the job row in Postgres is the truth (docs/guarantees.md).
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING

from app.domain.tasks import SCHEDULES, TASKS, QueueName, TaskName
from app.errors import BrokerUnavailable
from app.settings import get_settings

if TYPE_CHECKING:
    from celery import Celery
    from redis import Redis

__all__ = [
    "KEY_PREFIX",
    "PRIORITY_STEPS",
    "SCHEDULES",
    "TASKS",
    "Breaker",
    "QueueName",
    "TaskName",
    "broker",
    "lengths",
    "producer",
    "ring",
    "room",
    "send",
]

KEY_PREFIX = "foretide:"


PRIORITY_STEPS = tuple(range(8))
_PRIORITY_SEPARATOR = "\x06\x16"  # how kombu's Redis transport names the list of a priority above 0


class Breaker:
    """Keeps a dead broker from slowing the API: after a failure nobody tries for `pause_s` seconds."""

    def __init__(self, pause_s: float) -> None:
        self._pause_s = pause_s
        self._closed_until = 0.0

    def is_open(self) -> bool:
        """Whether the last try failed less than the pause ago."""
        return time.monotonic() < self._closed_until

    def reset(self) -> None:
        """Forgets past failures."""
        self._closed_until = 0.0

    def failed(self) -> None:
        """Notes a failure."""
        self._closed_until = time.monotonic() + self._pause_s


_breaker = Breaker(pause_s=5.0)
_making = Lock()


def producer() -> Celery:
    """The Celery application of this process, of which only the producing side is used here."""
    with _making:
        return _producer()


@lru_cache(maxsize=1)
def _producer() -> Celery:
    from celery import Celery  # replaces its own module while it is imported: of two threads at once one would fail

    app = Celery("foretide")
    app.config_from_object("celeryconfig")
    return app


@lru_cache(maxsize=1)
def broker() -> Redis:
    """A client of the broker that gives up after the ring time-out."""
    from redis import Redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    settings = get_settings()
    timeout = settings.ring_timeout_s
    return Redis.from_url(
        settings.broker_url, socket_connect_timeout=timeout, socket_timeout=timeout, retry=Retry(NoBackoff(), 0)
    )


def forget() -> None:
    """Drops this process's connections to the broker: its URL has changed."""
    _producer.cache_clear()
    broker.cache_clear()
    _breaker.reset()


def lengths(queues: Iterable[QueueName]) -> dict[QueueName, int]:
    """Messages that wait in the broker, a queue. Raises BrokerUnavailable."""
    from redis.exceptions import RedisError

    names = list(queues)
    try:
        with broker().pipeline(transaction=False) as pipe:
            for name in names:
                for step in PRIORITY_STEPS:
                    pipe.llen(KEY_PREFIX + (f"{name}{_PRIORITY_SEPARATOR}{step}" if step else name))
            counts = pipe.execute()
    except RedisError as error:
        raise BrokerUnavailable from error
    steps = len(PRIORITY_STEPS)
    return {name: sum(counts[i * steps : (i + 1) * steps]) for i, name in enumerate(names)}


def room(queue: QueueName) -> int:
    """How many more messages the queue may hold: 4 × worker slots less its length. Raises BrokerUnavailable."""
    return 4 * get_settings().worker_slots - lengths([queue])[queue]


def ring(kind: TaskName, subject: int | str, priority: int = 4) -> bool:
    """Rings for a committed job, or for the row that a task without one works on; returns whether a message was sent.

    False means that the queue has messages enough or that the broker is away: the row stands, and the sweep rings it.
    """
    from kombu.exceptions import OperationalError
    from redis.exceptions import RedisError

    if _breaker.is_open():
        return False
    try:
        if room(TASKS[kind].queue) <= 0:
            return False
        send(kind, subject, priority=priority)
    except (BrokerUnavailable, OperationalError, RedisError):
        _breaker.failed()
        return False
    return True


def send(kind: TaskName, *args: object, queue: QueueName | None = None, priority: int = 4) -> None:
    """Sends one message. Raises kombu's OperationalError when the broker is away."""
    producer().send_task(kind, args=args, queue=queue or TASKS[kind].queue, priority=priority, retry=False)
