"""Plans: made, shown with their changes, approved, applied exactly as they were read, cancelled."""

from __future__ import annotations

from datetime import datetime
from typing import Any, TypedDict

from flask import Response
from pydantic import Field
from sqlalchemy.orm import Session

from app import auth
from app.api import security, submit
from app.api.etags import etag, expected_version
from app.api.pages import PageQuery, page
from app.api.placement import Scope, arguments
from app.api.router import Router, reply
from app.api.schemas import In, JobOut, Json, Out, Page
from app.api.submit import Started
from app.db import migration_plans, plans, rollback
from app.db.plans import Change
from app.db.session import session_scope
from app.db.tables import Plan
from app.domain.roles import Role
from app.domain.states import MoveKind, PlanState
from app.domain.tasks import TaskName
from app.errors import FieldError, Invalid

router = Router("plans")


class Who(TypedDict):
    """Arguments of functions that write the audit."""

    actor: str
    request_id: str


class PlansQuery(PageQuery):
    """Which plans."""

    state: PlanState | None = None


class PlanIn(Scope):
    """What to plan."""

    peaks: bool = Field(
        False,
        description="Only copies and classes for recurring peaks of reads, gone after each; applied in mode auto.",
    )


class RollbackIn(In):
    """How to roll back."""

    dry_run: bool = Field(False, description="Only say what would be done.")
    apply: bool = Field(False, description="Also carry out the plan that moves back what was deleted.")


class PlanOut(Out):
    """A plan: what it would cost, in dollars a month, beside its baselines."""

    id: int
    state: PlanState
    version: int
    scope: Json
    as_of: datetime
    cost_before: float
    cost_after: float
    all_hot: float | None = Field(None, description="Dollars a month if everything stayed hot.")
    one_off: float
    payback_days: float | None = Field(None, description="Days after which the savings have paid for the moves.")
    objects: int
    moves: int
    baselines: Json
    solver: Json
    inputs: Json
    infeasible: list[Json] | None
    job_id: int | None
    apply_job_id: int | None
    approved_by: str | None
    created_at: datetime
    finished_at: datetime | None


def show(plan: Plan) -> PlanOut:
    """The plan as it is shown."""
    shown = PlanOut.model_validate(plan)
    shown.all_hot = plan.baselines.get("all_hot")
    saved = shown.cost_before - shown.cost_after
    shown.payback_days = shown.one_off / saved * 30 if saved > 0 else None
    return shown


@router.get("/plans", Role.VIEWER, query=PlansQuery, answer=Page)
def list_plans(query: PlansQuery) -> dict[str, Any]:
    """Plans, newest first."""
    with session_scope() as session:
        rows = plans.listing(session, state=query.state, before_id=query.after_id(), limit=query.limit + 1)
        return page(rows, query.limit, show, lambda row: row.id)


@router.post("/plans", Role.OPERATOR, body=PlanIn, answer=JobOut, status=202, starts_work=True)
def make_plan(body: PlanIn) -> Response:
    """Starts a plan; the job's result names it. Nothing is moved, but for peaks in mode auto."""
    asked = arguments(body)
    peaks = asked.pop("peaks")
    if peaks and body.horizon_days is not None:
        raise Invalid("a peak is its own horizon", errors=(FieldError("/horizon_days", "not with peaks"),))
    return submit.start(TaskName.PREWARM if peaks else TaskName.PLAN, asked)


@router.get("/plans/<id:plan_id>", Role.VIEWER, answer=PlanOut)
def get_plan(plan_id: int) -> Response:
    """One plan; its ETag is what `:apply` takes."""
    with session_scope() as session:
        return _document(plans.get(session, plan_id))


@router.get("/plans/<id:plan_id>/changes", Role.VIEWER, query=PageQuery, answer=Page)
def list_changes(plan_id: int, query: PageQuery) -> dict[str, Any]:
    """The plan's moves, each with its money and its reason."""
    with session_scope() as session:
        rows = plans.changes(session, plan_id, after_id=query.after_id() or 0, limit=query.limit + 1)
        return page(rows, query.limit, _change, lambda row: row.move.id)


@router.post("/plans/<id:plan_id>:approve", Role.OPERATOR, answer=PlanOut)
def approve_plan(plan_id: int) -> Response:
    """Approves the plan; a run that waits for it goes on."""
    with session_scope() as session:
        return _document(plans.approve(session, plan_id, version=expected_version(), **who()))


@router.post("/plans/<id:plan_id>:cancel", Role.OPERATOR, answer=PlanOut)
def cancel_plan(plan_id: int) -> Response:
    """Ends a plan that was not applied."""
    with session_scope() as session:
        return _document(plans.cancel(session, plan_id, version=expected_version(), **who()))


@router.post("/plans/<id:plan_id>:apply", Role.OPERATOR, answer=JobOut, status=202, starts_work=True)
def apply_plan(plan_id: int) -> Response:
    """Starts the plan's migrations, if the plan is as it was read (If-Match) and the world as it was planned for."""
    expected = expected_version(required=True)

    def begin(session: Session) -> Started:
        plan = plans.get(session, plan_id, lock=True)
        plans.check_version(plan, expected)
        if plan.state in (PlanState.READY, PlanState.APPROVED):
            plans.check_fresh(session, plan)
        return Started(migration_plans.apply(session, plan_id, **who()))

    return submit.start_with(begin)


@router.post(
    "/plans/<id:plan_id>:rollback", Role.OPERATOR, body=RollbackIn, answer=JobOut, status=202, starts_work=True
)
def roll_back_plan(plan_id: int, body: RollbackIn) -> Response:
    """Starts to undo an applied plan; the job's result says what was undone, what a new plan moves back, what stays.

    Where the source still stands it is read again at once; what was deleted already is brought back by a new plan.
    """
    expected = expected_version()

    def begin(session: Session) -> Started:
        plans.check_version(plans.get(session, plan_id, lock=True), expected)
        return Started(rollback.submit(session, plan_id, **who(), args=body.model_dump()))

    return submit.start_with(begin)


def who() -> Who:
    """Who changes something, for the audit."""
    return {"actor": auth.identity().name, "request_id": security.request_id()}


def _document(plan: Plan) -> Response:
    return reply(show(plan), headers=etag(plan.version))


def _change(change: Change) -> Json:
    move = change.move
    return {
        "id": move.id,
        "key": change.key,
        "kind": MoveKind(move.kind),
        "from_site": change.from_site,
        "from_class": move.from_class,
        "to_site": change.to_site,
        "to_class": move.to_class,
        "bytes": move.bytes,
        "one_off": float(move.one_off),
        "monthly_delta": float(move.monthly_delta),
        "payback_days": move.payback_days,
        "reason": move.reason,
        "explanation": move.explanation,
        "not_before": move.not_before,
        "ready_by": move.ready_by,
    }
