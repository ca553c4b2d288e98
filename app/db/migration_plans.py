"""Migrations made of a plan's moves, each object's one after the other, and the job that executes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import case, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.db import audit, jobs, migration_counts
from app.db.locks import NO_KEY
from app.db.migrations import ACTIVE
from app.db.tables import Job, Json, Migration, Move, Plan
from app.db.tables_work import MIGRATION_ACTIVE
from app.domain.states import MigrationState, MoveKind, PlanState
from app.domain.tasks import TaskName
from app.errors import Conflict, NotFound

ORDER = case({MoveKind.COPY: 0, MoveKind.CLASS: 1, MoveKind.MOVE: 2, MoveKind.REMOVE: 3}, value=Move.kind)
"""Moves of one object follow one another in this order: what waits for a grace comes last."""


@dataclass(frozen=True)
class Created:
    """How many of a plan's moves became migrations; `skipped`: another migration has the object already."""

    created: int
    skipped: int


def apply(
    session: Session,
    plan_id: int,
    *,
    actor: str,
    request_id: str | None = None,
    parent_id: int | None = None,
    args: Json | None = None,
) -> Job:
    """Makes the job that executes a plan, with a migration for each move; ring its bell after the transaction.

    Raises NotFound, or Conflict when the plan is in a state that cannot be applied.
    """
    plan = session.get(Plan, plan_id, with_for_update=NO_KEY)
    if plan is None:
        raise NotFound(f"there is no plan {plan_id}")
    if plan.state not in (PlanState.READY, PlanState.APPROVED):
        raise Conflict(f"plan {plan_id} cannot be applied: it is {plan.state}")
    given = {**(args or {}), "plan_id": plan_id}
    job = jobs.submit(session, TaskName.MIGRATE, given, actor=actor, request_id=request_id, parent_id=parent_id)
    made = create_from_plan(session, plan_id, job.id)
    plan.state, plan.apply_job_id = PlanState.APPLYING, job.id
    job.progress = {"done": 0, "total": made.created, "unit": "moves"}
    migration_counts.watch_backlog(session)
    audit.append(session, actor, "plan.apply", f"plan {plan_id}", {"job_id": job.id, **vars(made)}, request_id)
    return job


def create_from_plan(session: Session, plan_id: int, job_id: int) -> Created:
    """Adds the plan's moves as migrations of the job, in bulk.

    Several moves of one object follow one another. A move whose object another migration has already is kept as
    skipped: object_is_moving, so that it is seen.
    """
    moves = session.execute(select(Move).where(Move.plan_id == plan_id).order_by(ORDER, Move.id)).scalars().all()
    busy = set(
        session.scalars(
            select(Migration.object_id).where(ACTIVE, Migration.object_id.in_({move.object_id for move in moves}))
        )
    )
    skipped = [move for move in moves if move.object_id in busy]
    waiting = [move for move in moves if move.object_id not in busy]
    previous: dict[int, int] = {}
    while waiting:
        turn = list(_first_of_each(waiting))
        made = _insert(session, job_id, turn, previous)
        lost = {move.object_id for move in turn} - made.keys()  # taken by another plan in this very moment
        done = {move.id for move in turn}
        skipped += [move for move in waiting if move.object_id in lost]
        waiting = [move for move in waiting if move.id not in done and move.object_id not in lost]
        previous = made
    _insert(session, job_id, skipped, {}, state=MigrationState.SKIPPED, reason="object_is_moving")
    return Created(len(moves) - len(skipped), len(skipped))


def _first_of_each(moves: Iterable[Move]) -> Iterable[Move]:
    """The first move of each object, in order."""
    first: dict[int, Move] = {}
    for move in moves:
        first.setdefault(move.object_id, move)
    return first.values()


def _insert(
    session: Session, job_id: int, moves: Sequence[Move], after: Mapping[int, int], **values: object
) -> dict[int, int]:
    """Adds migrations; returns the new ids by object."""
    rows = [_row(job_id, move) | {"after_id": after.get(move.object_id)} | values for move in moves]
    if not rows:
        return {}
    statement = insert(Migration).on_conflict_do_nothing(
        index_elements=["object_id"], index_where=text(MIGRATION_ACTIVE)
    )
    return dict(session.execute(statement.returning(Migration.object_id, Migration.id), rows).all())


def _row(job_id: int, move: Move) -> Json:
    return {
        "job_id": job_id,
        "plan_id": move.plan_id,
        "move_id": move.id,
        "object_id": move.object_id,
        "object_version": move.object_version,
        "kind": move.kind,
        "from_site_id": move.from_site_id,
        "to_site_id": move.to_site_id,
        "to_class": move.to_class,
        "bytes_total": move.bytes,
        "one_off": move.one_off,
        "not_before": move.not_before,
        "ready_by": move.ready_by,
        "useful_until": move.useful_until,
    }
