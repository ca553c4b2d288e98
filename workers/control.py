"""Keeps the rest going: fires schedules, rings what was not rung, gives back what was lost, ticks, prunes."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy.orm import Session

from app import kafka, queue
from app.db import (
    batch_pages,
    dead_letters,
    event_pages,
    migration_kept,
    migrations,
    schedules,
    sweep,
    topic_groups,
    topics,
)
from app.db.jobs import Bell
from app.db.session import session_scope
from app.db.tables import Json
from app.domain.topics import INTAKE, WORKERS, TopicName
from app.errors import BrokerUnavailable
from app.queue import SCHEDULES, QueueName, TaskName
from app.settings import get_settings
from workers.base import JobContext, job_task, raw_task, ring_all, worker_name

KEEP = timedelta(days=7)


@raw_task(TaskName.FIRE)
def fire(name: str, catch_up: bool = False) -> None:
    """Submits the job of a schedule's present slot, once."""
    schedule = SCHEDULES[name]
    with session_scope() as session:
        job = schedules.fire(session, name, schedule, getattr(get_settings(), schedule.every), catch_up=catch_up)
        bell = Bell(schedule.kind, job.id, job.priority) if job else None
    ring_all([bell])


@raw_task(TaskName.SWEEP)
def sweep_up() -> None:
    """Gives back lapsed claims and rings ready rows, never more than a queue's workers can soon take."""
    settings = get_settings()
    with session_scope() as session:
        migration_kept.take_up(session)
        bells: list[Bell | None] = list(sweep.release_lapsed(session, settings.max_attempts))
    try:
        lengths = queue.lengths(QueueName)
    except BrokerUnavailable:
        return  # nothing can be rung now; the rows stand
    with session_scope() as session:
        for name, length in lengths.items():
            bells += _due(session, name, 4 * settings.worker_slots - length)
        groups = topic_groups.ring(session, WORKERS, again_s=settings.ring_again_s)
    ring_all(bells)
    for group in groups + ([INTAKE] if kafka.enabled() else []):  # Kafka does not ring: it is asked
        queue.ring(TaskName.CONSUME, group)


def _due(session: Session, name: QueueName, room: int) -> list[Bell]:
    settings = get_settings()
    due = sweep.to_ring(session, name, room, settings.ring_again_s, settings.ring_again_cap_s)
    if name is QueueName.MIGRATE:
        due += migrations.to_ring(session, room - len(due), settings.ring_again_s, settings.ring_again_cap_s)
    return due


@raw_task(TaskName.TICK)
def tick(name: str) -> None:
    """Shows that the workers of a queue are alive and consume."""
    with session_scope() as session:
        sweep.tick(session, QueueName(name), worker_name())


@job_task(TaskName.PRUNE)
def prune(job: JobContext) -> Json:
    """Deletes rows past their retention."""
    settings = get_settings()
    events = 0
    for topic in TopicName:  # each in a transaction of its own: publishers to a topic wait for it
        with job.saving() as session:
            events += topics.prune(session, topic, timedelta(days=settings.events_days), settings.events_bytes)
    result: Json = {"events": events}
    with job.finishing(result) as session:
        result["dead_letters"] = dead_letters.prune(session, settings.events_days)
        pages = {"batch_pages": batch_pages.prune(session), "upload_pages": event_pages.prune(session)}
        result.update(schedules.prune(session, KEEP), **pages)
    return result
