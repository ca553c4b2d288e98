"""Sums of accesses counted anew: what features, voters and demand go by, made again from what was ingested."""

from __future__ import annotations

from datetime import date, timedelta

from flask import Response
from pydantic import Field, model_validator
from sqlalchemy.orm import Session

from app.api import submit
from app.api.router import Router
from app.api.schemas import In, JobOut
from app.api.submit import Started
from app.db import accesses
from app.domain.roles import Role
from app.domain.tasks import TaskName
from app.errors import Conflict

router = Router("rebuilds")
MOST_DAYS = 1000


class RebuildIn(In):
    """Whole UTC days, both included."""

    since: date = Field(description="The first day.")
    until: date = Field(description="The last day.")

    @model_validator(mode="after")
    def _in_order(self) -> RebuildIn:
        if not 0 <= (self.until - self.since).days < MOST_DAYS:
            raise ValueError(f"until must be since or later, by less than {MOST_DAYS} days")
        return self


@router.post("/accesses:rebuild", Role.OPERATOR, body=RebuildIn, answer=JobOut, status=202, starts_work=True)
def rebuild_sums(body: RebuildIn) -> Response:
    """Starts to count the hourly sums of some days anew, exactly, while accesses come in."""
    days = [body.since + timedelta(days=number) for number in range((body.until - body.since).days + 1)]

    def begin(session: Session) -> Started:
        if lost := accesses.unknown(session, days):
            raise Conflict(f"the accesses of {lost[0]} are no longer kept, so its sums cannot be counted anew")
        args = {"since": body.since.isoformat(), "until": body.until.isoformat()}
        return Started(submit.job(session, TaskName.REBUILD, args))

    return submit.start_with(begin)
