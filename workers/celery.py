"""The Celery application: `celery -A workers worker|beat|flower` and `foretide worker|beat|flower` find it here."""

from __future__ import annotations

import importlib
import os

# Prefork children share two cores: a library's own threads would only fight. Set before numpy is loaded anywhere.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from celery import signals

from app import logs
from app.db import session
from app.queue import SCHEDULES, TaskName, producer, send
from app.settings import get_settings

app = producer()
TASK_MODULES = (
    "workers.access_exports",
    "workers.accesses",
    "workers.batch",
    "workers.control",
    "workers.drift",
    "workers.evacuation",
    "workers.metrics",
    "workers.migrations",
    "workers.models",
    "workers.objects",
    "workers.old_versions",
    "workers.placement",
    "workers.prediction_batches",
    "workers.predictions",
    "workers.rebuilds",
    "workers.repair",
    "workers.rollback",
    "workers.routing",
    "workers.runs",
    "workers.savings",
    "workers.scrub",
    "workers.sites",
    "workers.tidying",
    "workers.topics",
    "workers.verification",
    "workers.prewarming",
    "workers.what_if",
)


@signals.celeryd_init.connect
def load_tasks(**_: object) -> None:
    """Registers every task: in workers alone, since beat and Flower know tasks by name and start faster without.

    A worker that lacks one would take its messages and drop them, and Celery only logs a handler's error: so it ends.
    """
    for name in TASK_MODULES:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise SystemExit(f"the worker does not start, since {name} cannot be loaded: {error}") from error


@signals.setup_logging.connect
def _configure_logs(**_: object) -> None:
    logs.configure(get_settings().log_level)


@signals.worker_process_init.connect
def _after_fork(**_: object) -> None:
    session.dispose()


@signals.beat_init.connect
def _catch_up(**_: object) -> None:
    """A slot that passed while no beat ran is fired now: a daily pass must not starve under frequent restarts."""
    for name in SCHEDULES:
        send(TaskName.FIRE, name, True)
