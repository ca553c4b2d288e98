"""Names of every queue, task and schedule, and the bell: the producer side of Celery, by name.

A message carries a job's id and nothing else; the job row in Postgres is the truth (docs/guarantees.md).
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING

from app.errors import BrokerUnavailable
from app.settings import get_settings

if TYPE_CHECKING:
    from celery import Celery
    from redis import Redis

KEY_PREFIX = "foretide:"


class QueueName(StrEnum):
    """The queues that workers consume."""

    INGEST = "ingest"
    FEATURES = "features"
    LEARN = "learn"
    OPTIMIZE = "optimize"
    MIGRATE = "migrate"
    WATCH = "watch"
    CONTROL = "control"


class TaskName(StrEnum):
    """The kinds of job; the same string names the Celery task and stands in job.kind."""

    SCAN = "scan"
    ROLLUP = "rollup"
    TRAIN = "train"
    PREDICT = "predict"
    PLAN = "plan"
    MIGRATE = "migrate"
    PROBE = "probe"
    ROUTE = "route"
    RUN = "run"
    SWEEP = "sweep"
    TICK = "tick"
    FIRE = "fire"
    PRUNE = "prune"


@dataclass(frozen=True)
class TaskSpec:
    """Where a task runs and how long it may take, in seconds (soft, then hard limit)."""

    queue: QueueName
    soft_limit_s: int
    hard_limit_s: int


TASKS: dict[TaskName, TaskSpec] = {
    TaskName.SCAN: TaskSpec(QueueName.INGEST, 3600, 3660),
    TaskName.ROLLUP: TaskSpec(QueueName.FEATURES, 600, 660),
    TaskName.TRAIN: TaskSpec(QueueName.LEARN, 3600, 3660),
    TaskName.PREDICT: TaskSpec(QueueName.LEARN, 600, 660),
    TaskName.PLAN: TaskSpec(QueueName.OPTIMIZE, 900, 960),
    TaskName.MIGRATE: TaskSpec(QueueName.MIGRATE, 3600, 3660),
    TaskName.PROBE: TaskSpec(QueueName.WATCH, 120, 150),
    TaskName.ROUTE: TaskSpec(QueueName.WATCH, 120, 150),
    TaskName.RUN: TaskSpec(QueueName.CONTROL, 60, 90),
    TaskName.SWEEP: TaskSpec(QueueName.CONTROL, 30, 60),
    TaskName.TICK: TaskSpec(QueueName.CONTROL, 10, 20),
    TaskName.FIRE: TaskSpec(QueueName.CONTROL, 30, 60),
    TaskName.PRUNE: TaskSpec(QueueName.CONTROL, 600, 660),
}


@dataclass(frozen=True)
class Schedule:
    """A periodic pass: the job that each of its slots submits, and the setting that holds its interval in seconds."""

    kind: TaskName
    every: str
    args: dict[str, str] = field(default_factory=dict)


SCHEDULES: dict[str, Schedule] = {
    "roll-up": Schedule(TaskName.ROLLUP, "rollup_every_s"),
    "predict": Schedule(TaskName.PREDICT, "predict_every_s"),
    "optimize": Schedule(TaskName.RUN, "optimize_every_s", {"from": "plan", "to": "migrate"}),
    "train": Schedule(TaskName.TRAIN, "train_every_s"),
    "probe-sites": Schedule(TaskName.PROBE, "probe_every_s"),
    "prune": Schedule(TaskName.PRUNE, "prune_every_s"),
}

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

    def failed(self) -> None:
        """Notes a failure."""
        self._closed_until = time.monotonic() + self._pause_s


_breaker = Breaker(pause_s=5.0)


@lru_cache(maxsize=1)
def producer() -> Celery:
    """The Celery application of this process, of which only the producing side is used here."""
    from celery import Celery

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


def ring(kind: TaskName, job_id: int, priority: int = 4) -> bool:
    """Rings for a committed job; returns whether a message was sent.

    False means that the queue has messages enough or that the broker is away: the row stands, and the sweep rings it.
    """
    from kombu.exceptions import OperationalError
    from redis.exceptions import RedisError

    if _breaker.is_open():
        return False
    try:
        if room(TASKS[kind].queue) <= 0:
            return False
        send(kind, job_id, priority=priority)
    except (BrokerUnavailable, OperationalError, RedisError):
        _breaker.failed()
        return False
    return True


def send(kind: TaskName, *args: object, queue: QueueName | None = None, priority: int = 4) -> None:
    """Sends one message. Raises kombu's OperationalError when the broker is away."""
    producer().send_task(kind, args=args, queue=queue or TASKS[kind].queue, priority=priority, retry=False)
