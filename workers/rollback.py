"""Rolls a plan back: stops what is open, puts sources in service again, plans the way back of what was deleted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy.orm import Session

from app import clock
from app.db import migration_plans, placement, remedies
from app.db import rollback as store
from app.db.jobs import bell
from app.db.rollback import Rollback, Undoable
from app.db.session import session_scope
from app.db.tables import Json
from app.domain.pins import Pin
from app.domain.policies import Readers
from app.domain.remedies import WantedMove
from app.domain.rollback import Now, Undo, UndoAction, undo
from app.domain.states import MoveKind
from app.errors import Permanent, SiteFaulty, SiteUnavailable, Throttled
from app.queue import TaskName
from app.s3 import objects
from app.s3.client import connect
from app.settings import get_settings
from workers.base import JobContext, job_task, ring_all
from workers.faults import obey_faults

BATCH = 500
STOPPING_S = 1.0
"""How long to wait before looking again whether a move has stopped, or a delete has ended."""
SITE_S = 15.0
TRIES = 3


@dataclass
class Outcome:
    """What has come of the plan's moves so far."""

    kept: Counter[str] = field(default_factory=Counter)
    waiting: Counter[str] = field(default_factory=Counter)
    done: Counter[UndoAction] = field(default_factory=Counter)
    back: list[WantedMove] = field(default_factory=list)


@job_task(TaskName.ROLLBACK)
def rollback(job: JobContext) -> Json | None:
    """Rolls the plan of args.plan_id back; with args.dry_run it only says what would be done."""
    obey_faults()
    plan_id, dry_run = int(job.args["plan_id"]), bool(job.args.get("dry_run"))
    if not dry_run:
        with job.saving() as session:
            left, bells = store.stop_open(session, plan_id)
        ring_all([*bells])
        if left:
            with job.postponing(f"waiting for moves to stop: {left} left", STOPPING_S):
                pass
            return None
    outcome = _all_objects(job, plan_id, dry_run=dry_run)
    if outcome.waiting and not dry_run:
        told = ", ".join(f"{count} {reason}" for reason, count in sorted(outcome.waiting.items()))
        with job.postponing(f"waiting: {told}", SITE_S if "site_unavailable" in outcome.waiting else STOPPING_S):
            pass
        return None
    return _forecast(outcome) if dry_run else _finish(job, plan_id, outcome)


def _all_objects(job: JobContext, plan_id: int, *, dry_run: bool) -> Outcome:
    outcome, after, done = Outcome(), 0, 0
    while True:
        with session_scope() as session:
            ids = store.objects_of(session, plan_id, after, BATCH)
            known = Rollback.of(session, plan_id)
        for object_id in ids:
            job.check()
            _object(known, object_id, outcome, dry_run=dry_run)
            done, after = done + 1, object_id
        job.progress(done, 0, "objects")
        if len(ids) < BATCH:
            return outcome


@dataclass(frozen=True)
class Step:
    """What is to be done about one move of an object; written: what its owner wrote at the source since."""

    move: Undoable
    now: Now
    decided: Undo
    written: Pin | None = None


def _object(known: Rollback, object_id: int, outcome: Outcome, *, dry_run: bool) -> None:
    """Undoes the plan's moves of one object, the last first; each is decided on the object as it is then."""
    number, tries = 0, 0
    while (step := _step(known, object_id, number)) is not None:
        done = dry_run or _save(step)
        if done and (dry_run or step.written is None):
            number, tries = number + 1, 0
            _count(outcome, step.move, step.decided, step.now)
        elif tries + 1 < TRIES:  # the object has changed: it is decided on anew
            tries += 1
        else:
            number, tries = number + 1, 0
            _count(outcome, step.move, Undo(UndoAction.WAIT, "object_is_changing"), step.now)


def _step(known: Rollback, object_id: int, number: int) -> Step | None:
    """The object's move of that number, counted from the last, and what to do about it; None after the first."""
    with session_scope() as session:
        now, moves = known.load(session, object_id)
        if number >= len(moves):
            return None
        move = moves[number]
        decided = undo(move.done, now)
        if decided.action is not UndoAction.REVERSE:
            return Step(move, now, decided)
    try:
        found = objects.find(connect(known.address(move.source_id)), move.key)
    except (SiteUnavailable, SiteFaulty, Throttled):
        return Step(move, now, Undo(UndoAction.WAIT, "site_unavailable"))
    except Permanent as refused:  # what cannot be looked at is not put in service; the others are not held up
        return Step(move, now, Undo(UndoAction.KEEP, refused.reason))
    if found is None:
        return Step(move, now, Undo(UndoAction.KEEP, "source_missing"))
    changed = move.source_pin is not None and not found.pin.same_object(move.source_pin)
    return Step(move, now, decided, found.pin if changed else None)


def _save(step: Step) -> bool:
    """Does it; returns whether the object was still as it was decided on."""
    grace_s, move = get_settings().grace_s, step.move
    with session_scope() as session:
        if step.written is not None:
            return store.owner_wrote(session, move, step.written)
        if step.decided.action is UndoAction.REVERSE:
            return store.reverse(session, move, grace_s, keep_copy=step.now.rules.readers is Readers.DIRECT)
        if step.decided.action is UndoAction.RETIRE:
            return store.retire(session, move, grace_s)
    return True


def _count(outcome: Outcome, move: Undoable, decided: Undo, now: Now) -> None:
    outcome.done[decided.action] += 1
    if decided.action is UndoAction.KEEP:
        outcome.kept[decided.reason] += 1
    elif decided.action is UndoAction.WAIT:
        outcome.waiting[decided.reason] += 1
    elif decided.kind and decided.source and decided.target and decided.to_class:
        outcome.back.append(_wanted(move, decided.kind, decided.source, decided.target, decided.to_class, now))


def _wanted(move: Undoable, kind: MoveKind, source: str, target: str, to_class: str, now: Now) -> WantedMove:
    return WantedMove(
        object_id=move.object_id,
        object_version=move.version,
        kind=kind,
        from_site=source,
        from_class=now.replicas[source].storage_class,
        to_site=target,
        to_class=to_class,
        size=move.size,
        reason=f"undoes {move.done.kind} of migration {move.migration_id}",
    )


def _forecast(outcome: Outcome) -> Json:
    """What a rollback would do."""
    return {
        "dry_run": True,
        "rolled_back": outcome.done[UndoAction.REVERSE] + outcome.done[UndoAction.RETIRE],
        "moves_back": len(outcome.back),
        "moved_back_by_plan": None,
        "waiting": dict(outcome.waiting),
        "kept": dict(outcome.kept),
    }


def _finish(job: JobContext, plan_id: int, outcome: Outcome) -> Json | None:
    result: Json = {"moves_back": len(outcome.back), "moved_back_by_plan": None, "apply_job_id": None}
    bells = []
    with job.finishing(result) as session:
        store.finish(session, plan_id)
        result |= store.counts(session, plan_id) | {"kept": dict(outcome.kept)}
        if outcome.back:
            plan = _plan_back(job, session, plan_id, outcome.back)
            result["moved_back_by_plan"] = plan
            if job.args.get("apply"):
                applied = migration_plans.apply(session, plan, actor=job.actor, request_id=job.request_id)
                result["apply_job_id"] = applied.id
                bells.append(bell(applied))
    ring_all([*bells])
    return None


def _plan_back(job: JobContext, session: Session, plan_id: int, moves: Sequence[WantedMove]) -> int:
    world = placement.world(session, clock.now())
    return remedies.save(session, world, moves, job_id=job.id, scope={"rollback_of": plan_id}).id
