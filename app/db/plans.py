"""Plans and their moves: saved at once, listed, approved, cancelled, compared with the world they were made from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import select
from sqlalchemy.orm import Session, aliased

from app.db import audit
from app.db.locks import NO_KEY
from app.db.placement import World, world
from app.db.plan_sheets import Sheet
from app.db.tables import Move, Object, Plan, Site
from app.domain.states import PLAN_TRANSITIONS, ObjectState, PlanState, check_transition
from app.errors import FieldError, NotFound, PlanStale, PreconditionFailed

if TYPE_CHECKING:
    from app.domain.placement_decisions import Decision

DRIFT_SHOWN = 20


@dataclass(frozen=True)
class Change:
    """A move with the names that a reader knows: key and sites."""

    move: Move
    key: str
    from_site: str | None
    to_site: str | None


def save(session: Session, plan: Plan, decisions: Iterable[Decision], world: World) -> Plan:
    """Adds a plan and the moves of its decisions, in bulk. plan.moves must already say how many."""
    with Sheet(world) as sheet:
        sheet.write(decisions)
        return save_sheet(session, plan, sheet)


def save_sheet(session: Session, plan: Plan, sheet: Sheet) -> Plan:
    """Adds a plan and the moves of a sheet."""
    session.add(plan)
    session.flush()
    sheet.save(session, plan.id)
    return plan


def get(session: Session, plan_id: int, *, lock: bool = False) -> Plan:
    """The plan. Raises NotFound."""
    plan = session.get(Plan, plan_id, with_for_update=NO_KEY if lock else None)
    if plan is None:
        raise NotFound(f"there is no plan {plan_id}")
    return plan


def listing(
    session: Session, *, state: PlanState | None = None, before_id: int | None = None, limit: int = 50
) -> Sequence[Plan]:
    """Plans, the newest first, older than `before_id`."""
    statement = select(Plan).order_by(Plan.id.desc()).limit(limit)
    if state is not None:
        statement = statement.where(Plan.state == state)
    if before_id is not None:
        statement = statement.where(Plan.id < before_id)
    return session.scalars(statement).all()


def changes(session: Session, plan_id: int, *, after_id: int = 0, limit: int = 100) -> Sequence[Change]:
    """A plan's moves in their order, after the move `after_id`. Raises NotFound for the plan."""
    get(session, plan_id)
    source, target = aliased(Site), aliased(Site)
    statement = (
        select(Move, Object.key, source.name, target.name)
        .join(Object, Object.id == Move.object_id)
        .outerjoin(source, source.id == Move.from_site_id)
        .outerjoin(target, target.id == Move.to_site_id)
        .where(Move.plan_id == plan_id, Move.id > after_id)
        .order_by(Move.id)
        .limit(limit)
    )
    return [Change(*row) for row in session.execute(statement)]


def approve(
    session: Session, plan_id: int, *, actor: str, version: int | None = None, request_id: str | None = None
) -> Plan:
    """Marks a plan as approved by `actor`. Raises NotFound, PreconditionFailed for another version, Conflict."""
    plan = _change(session, plan_id, PlanState.APPROVED, version)
    plan.approved_by = actor
    audit.append(session, actor, "plan.approve", f"plan {plan_id}", None, request_id)
    return plan


def cancel(
    session: Session, plan_id: int, *, actor: str, version: int | None = None, request_id: str | None = None
) -> Plan:
    """Ends a plan that was not applied. Raises NotFound, PreconditionFailed for another version, Conflict."""
    plan = _change(session, plan_id, PlanState.CANCELLED, version)
    audit.append(session, actor, "plan.cancel", f"plan {plan_id}", None, request_id)
    return plan


def _change(session: Session, plan_id: int, state: PlanState, version: int | None) -> Plan:
    plan = get(session, plan_id, lock=True)
    check_version(plan, version)
    check_transition(PLAN_TRANSITIONS, PlanState(plan.state), state)
    plan.state, plan.version = state, plan.version + 1
    return plan


def check_version(plan: Plan, version: int | None) -> None:
    """Raises PreconditionFailed unless the plan is at that version; None: whichever."""
    if version is not None and version != plan.version:
        raise PreconditionFailed(f"plan {plan.id} is at version {plan.version}, not {version}")


def check_fresh(session: Session, plan: Plan) -> None:
    """Raises PlanStale, naming each thing that drifted, unless the world is the one that the plan was made from."""
    found = drift(session, plan)
    if found:
        raise PlanStale(f"{len(found)} things changed since plan {plan.id} was made; make a new plan", errors=found)


def drift(session: Session, plan: Plan) -> tuple[FieldError, ...]:
    """What changed since a plan was made: policies, sites, prices, and up to twenty of its objects."""
    now = world(session, plan.as_of).fingerprint()
    return (*_differences(plan.inputs, now), *_moved_objects(session, plan.id))


def _differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[FieldError]:
    found: list[FieldError] = []
    for part, words in (("policies", "policy"), ("sites", "site"), ("prices", "price book of site")):
        before, after = then.get(part, {}), now[part]
        names = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
        found += [FieldError(f"/inputs/{part}/{name}", f"{words} {name} changed") for name in names]
    if then.get("encryption") != now["encryption"] and "security" not in now["policies"]:
        found.append(FieldError("/inputs/encryption", "the encryption setting changed"))
    return found


def _moved_objects(session: Session, plan_id: int) -> list[FieldError]:
    statement = (
        select(Object.key, Object.state, Object.version, Move.object_version)
        .join(Move, Move.object_id == Object.id)
        .where(
            Move.plan_id == plan_id,
            (Object.version != Move.object_version) | (Object.state != ObjectState.PRESENT),
        )
        .distinct()
        .order_by(Object.key)
        .limit(DRIFT_SHOWN)
    )
    return [
        FieldError("/objects", f"{key} is {state}, at version {version}; planned at version {planned}")
        for key, state, version, planned in session.execute(statement)
    ]
