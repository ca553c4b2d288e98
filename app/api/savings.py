"""What changes of class and moves between sites have really saved, by cohort, and where demotions have stopped."""

from __future__ import annotations

from app import clock
from app.api.router import Router
from app.api.schemas import Json
from app.db import savings
from app.db.session import session_scope
from app.domain.roles import Role

router = Router("savings")


@router.get("/savings", Role.VIEWER)
def get_savings() -> Json:
    """Actual cost beside that of having stayed, fees and what is still owed included; by cohort and over all."""
    with session_scope() as session:
        cohorts = savings.cohorts(session)
        stopped = savings.no_demotions(session, clock.now())
    names = ("moves", "demotions", "unknown_days", "waiting", "fee", "actual", "stayed", "owed", "saved")
    return {
        "total": {name: sum(entry[name] for entry in cohorts) for name in names},
        "cohorts": [{**entry, "no_demotions": stopped.get(entry["cohort"])} for entry in cohorts],
        "no_demotions": stopped,
    }
