"""Names of every queue, task and schedule, and the bell: the producer side of Celery, by name.

A message carries a job's id and nothing else; the job row in Postgres is the truth (docs/guarantees.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


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
}
