"""The break-even card of an object, or of a sample of those under a prefix."""

from __future__ import annotations

from pydantic import Field
from sqlalchemy.orm import Session

from app import clock
from app.api import computed
from app.api.placement import MAX_HORIZON_DAYS, problem_of
from app.api.router import Router
from app.api.schemas import In, Json, Key
from app.db import placement
from app.db.placement import Selection
from app.db.session import session_scope
from app.domain.placement_problem import DEFAULT_HORIZON_DAYS, Problem
from app.domain.roles import Role
from app.errors import FieldError, Invalid, NotFound

router = Router("break_even")
SAMPLE = 500
"""Objects of a prefix that are looked at, evenly taken by id."""


class BreakEvenQuery(In):
    """One object or a prefix."""

    key: Key | None = None
    prefix: str | None = Field(None, max_length=1024, description="Up to 500 of its objects are looked at.")
    horizon_days: float = Field(DEFAULT_HORIZON_DAYS, gt=0, le=MAX_HORIZON_DAYS)


@router.get("/break-even", Role.VIEWER, query=BreakEvenQuery)
def get_break_even(query: BreakEvenQuery) -> Json:
    """For each pair of classes: reads a month at which it flips, days to pay a move back, smallest size, fee owed."""
    if (query.key is None) == (query.prefix is None):
        raise Invalid(errors=(FieldError("/key", "give either key or prefix"),))
    with session_scope() as session:
        if query.key is not None:
            problem, total = problem_of(session, query.key, horizon_days=query.horizon_days), 1
        else:
            problem, total = _sample(session, query.prefix or "", query.horizon_days)
    return {"key": query.key, "prefix": query.prefix, "objects_in_all": total, **computed.break_even(problem)}


def _sample(session: Session, prefix: str, horizon_days: float) -> tuple[Problem, int]:
    keys, total = placement.sample(session, prefix, SAMPLE)
    world = placement.world(session, clock.now())
    items = placement.block(session, world, Selection(keys=keys, moving=True), 0, SAMPLE).items if keys else ()
    if not items:
        raise NotFound(f"no object that can be placed has a key that begins with {prefix!r}")
    return Problem(world.options, items, horizon_days), total
