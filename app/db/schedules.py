"""Slots of the periodic passes: each is taken once, however many beats ring."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.db import jobs
from app.db.tables import IdempotencyKey, Job, RouteDecision, ScheduleSlot
from app.domain.states import JOB_FINAL
from app.domain.tasks import Schedule


def actor(name: str) -> str:
    """Who submits the jobs of this schedule."""
    return f"schedule:{name}"


def slot_of(now: datetime, every_s: float) -> datetime:
    """The start of the slot of `every_s` seconds that `now` lies in, counted from the epoch."""
    return datetime.fromtimestamp(now.timestamp() // every_s * every_s, UTC)


def fire(session: Session, name: str, schedule: Schedule, every_s: float, *, catch_up: bool) -> Job | None:
    """Takes the present slot and submits its job; None when it is taken or its predecessor has not ended yet.

    catch_up: a schedule that never fired only notes the slot, so that a first start does not ring everything at once.
    """
    slot = slot_of(session.scalar(select(func.now())) or datetime.now(UTC), every_s)
    is_first = (
        catch_up and session.scalar(select(ScheduleSlot.slot).where(ScheduleSlot.schedule == name).limit(1)) is None
    )
    taken = insert(ScheduleSlot).values(schedule=name, slot=slot).on_conflict_do_nothing().returning(ScheduleSlot.slot)
    if session.scalar(taken) is None or is_first or _is_busy(session, name):
        return None
    job = jobs.submit(session, schedule.kind, dict(schedule.args), priority=5, actor=actor(name))
    session.get_one(ScheduleSlot, (name, slot)).job_id = job.id
    return job


def _is_busy(session: Session, name: str) -> bool:
    unfinished = select(Job.id).where(Job.created_by == actor(name), Job.state.not_in(JOB_FINAL)).limit(1)
    return session.scalar(unfinished) is not None


def prune(session: Session, keep: timedelta) -> dict[str, int]:
    """Deletes what nobody asks for any more: ended jobs of schedules, old slots, stored replies, route decisions."""
    before = func.now() - keep
    old_jobs = delete(Job).where(Job.created_by.startswith("schedule:"), Job.finished_at < before)
    rows = {
        "jobs": old_jobs.where(~Job.id.in_(select(Job.parent_id).where(Job.parent_id.is_not(None)))),
        "slots": delete(ScheduleSlot).where(ScheduleSlot.slot < before),
        "idempotency_keys": delete(IdempotencyKey).where(IdempotencyKey.created_at < func.now() - timedelta(hours=24)),
        "route_decisions": delete(RouteDecision).where(RouteDecision.ts < before),
    }
    return {name: session.execute(statement).rowcount for name, statement in rows.items()}  # type: ignore[attr-defined]
