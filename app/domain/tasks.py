"""Names every queue, every kind of job and every schedule: what the bell rings, workers register and beat fires."""

from __future__ import annotations

from dataclasses import dataclass, field
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
    REBUILD = "rebuild"
    METRICS = "metrics"
    TRAIN = "train"
    PREDICT = "predict"
    PREDICT_BATCH = "predict-batch"
    BATCH = "batch"
    EXPORT = "export"
    DRIFT = "drift"
    ACCRUE = "accrue"
    PLAN = "plan"
    PREWARM = "prewarm"
    WHAT_IF = "what-if"
    ROLLBACK = "rollback"
    MIGRATE = "migrate"
    VERIFY = "verify"
    SCRUB = "scrub"
    REPAIR = "repair"
    TIDY = "tidy"
    REMOVE_COPIES = "remove-copies"
    EVACUATE = "evacuate"
    EXPIRE = "expire"
    PROBE = "probe"
    ROUTE = "route"
    RUN = "run"
    SWEEP = "sweep"
    TICK = "tick"
    FIRE = "fire"
    PRUNE = "prune"
    CONSUME = "consume"


@dataclass(frozen=True)
class TaskSpec:
    """Where a task runs and how long it may take, in seconds (soft, then hard limit)."""

    queue: QueueName
    soft_limit_s: int
    hard_limit_s: int


TASKS: dict[TaskName, TaskSpec] = {
    TaskName.SCAN: TaskSpec(QueueName.INGEST, 3600, 3660),
    TaskName.ROLLUP: TaskSpec(QueueName.FEATURES, 600, 660),
    TaskName.REBUILD: TaskSpec(QueueName.FEATURES, 3600, 3660),
    TaskName.METRICS: TaskSpec(QueueName.FEATURES, 300, 360),
    TaskName.TRAIN: TaskSpec(QueueName.LEARN, 3600, 3660),
    TaskName.PREDICT: TaskSpec(QueueName.LEARN, 600, 660),
    TaskName.PREDICT_BATCH: TaskSpec(QueueName.LEARN, 3600, 3660),
    TaskName.BATCH: TaskSpec(QueueName.LEARN, 3600, 3660),
    TaskName.EXPORT: TaskSpec(QueueName.INGEST, 3600, 3660),
    TaskName.DRIFT: TaskSpec(QueueName.LEARN, 600, 660),
    TaskName.ACCRUE: TaskSpec(QueueName.OPTIMIZE, 3600, 3660),
    TaskName.PLAN: TaskSpec(QueueName.OPTIMIZE, 900, 960),
    TaskName.PREWARM: TaskSpec(QueueName.OPTIMIZE, 900, 960),
    TaskName.WHAT_IF: TaskSpec(QueueName.OPTIMIZE, 3600, 3660),
    TaskName.ROLLBACK: TaskSpec(QueueName.OPTIMIZE, 3600, 3660),
    TaskName.REPAIR: TaskSpec(QueueName.OPTIMIZE, 3600, 3660),
    TaskName.EVACUATE: TaskSpec(QueueName.OPTIMIZE, 3600, 3660),
    TaskName.MIGRATE: TaskSpec(QueueName.MIGRATE, 3600, 3660),
    TaskName.VERIFY: TaskSpec(QueueName.INGEST, 3600, 3660),
    TaskName.SCRUB: TaskSpec(QueueName.INGEST, 3600, 3660),
    TaskName.TIDY: TaskSpec(QueueName.MIGRATE, 3600, 3660),
    TaskName.REMOVE_COPIES: TaskSpec(QueueName.MIGRATE, 3600, 3660),
    TaskName.EXPIRE: TaskSpec(QueueName.INGEST, 3600, 3660),
    TaskName.PROBE: TaskSpec(QueueName.WATCH, 120, 150),
    TaskName.ROUTE: TaskSpec(QueueName.WATCH, 120, 150),
    TaskName.RUN: TaskSpec(QueueName.CONTROL, 60, 90),
    TaskName.SWEEP: TaskSpec(QueueName.CONTROL, 30, 60),
    TaskName.TICK: TaskSpec(QueueName.CONTROL, 10, 20),
    TaskName.FIRE: TaskSpec(QueueName.CONTROL, 30, 60),
    TaskName.PRUNE: TaskSpec(QueueName.CONTROL, 600, 660),
    TaskName.CONSUME: TaskSpec(QueueName.INGEST, 600, 660),
}


@dataclass(frozen=True)
class Schedule:
    """A periodic pass: the job that each of its slots submits, and the setting that holds its interval in seconds."""

    kind: TaskName
    every: str
    args: dict[str, str] = field(default_factory=dict)


SCHEDULES: dict[str, Schedule] = {
    "roll-up": Schedule(TaskName.ROLLUP, "rollup_every_s"),
    "metrics": Schedule(TaskName.METRICS, "metrics_every_s"),
    "predict": Schedule(TaskName.PREDICT, "predict_every_s"),
    "optimize": Schedule(TaskName.RUN, "optimize_every_s", {"from": "plan", "to": "migrate"}),
    "prewarm": Schedule(TaskName.PREWARM, "prewarm_every_s"),
    "train": Schedule(TaskName.TRAIN, "train_every_s"),
    "train-demand": Schedule(TaskName.TRAIN, "train_every_s", {"model": "demand"}),
    "drift": Schedule(TaskName.DRIFT, "drift_every_s"),
    "probe-sites": Schedule(TaskName.PROBE, "probe_every_s"),
    "tidy": Schedule(TaskName.TIDY, "tidy_every_s"),
    "expire": Schedule(TaskName.EXPIRE, "expire_every_s"),
    "accrue": Schedule(TaskName.ACCRUE, "accrue_every_s"),
    "export": Schedule(TaskName.EXPORT, "export_every_s"),
    "prune": Schedule(TaskName.PRUNE, "prune_every_s"),
}
