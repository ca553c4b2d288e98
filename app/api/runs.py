"""Runs: the whole cycle, or a part of it, and its steps as a graph."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from flask import Response
from pydantic import AwareDatetime, Field
from sqlalchemy.orm import Session

from app.api import jobs as job_views
from app.api import submit
from app.api.pages import PageQuery, page
from app.api.placement import Scope
from app.api.router import Router
from app.api.schemas import JobOut, Json, Page
from app.db import jobs
from app.db.session import session_scope
from app.db.tables import Job
from app.domain.roles import Role
from app.domain.runs import Step, steps_between
from app.domain.tasks import TaskName
from app.errors import NotFound

router = Router("runs")


class RunIn(Scope):
    """Which steps to run, and what the plan is made of."""

    first: Step | None = Field(None, alias="from")
    last: Step | None = Field(None, alias="to")
    as_of: AwareDatetime | None = Field(None, description="The time to look from; now if it is left out.")


@router.get("/runs", Role.VIEWER, query=PageQuery, answer=Page)
def list_runs(query: PageQuery) -> dict[str, Any]:
    """Runs, newest first."""
    with session_scope() as session:
        rows = jobs.listing(session, kind=TaskName.RUN, before_id=query.after_id(), limit=query.limit + 1)
        return page(rows, query.limit, lambda job: job_views.show(session, job), lambda job: job.id)


@router.post("/runs", Role.OPERATOR, body=RunIn, answer=JobOut, status=202, starts_work=True)
def start_run(body: RunIn) -> Response:
    """Starts the whole cycle, or the steps from `from` to `to`."""
    steps_between(body.first, body.last)
    return submit.start(TaskName.RUN, body.model_dump(mode="json", by_alias=True, exclude_none=True))


@router.get("/runs/<id:run_id>", Role.VIEWER)
def get_run(run_id: int) -> Json:
    """A run with its steps: each one's job, state, time and counts, and the steps that it follows."""
    with session_scope() as session:
        run = jobs.get(session, run_id)
        if run.kind != TaskName.RUN:
            raise NotFound(f"there is no run {run_id}")
        return job_views.show(session, run).model_dump() | {"steps": _steps(session, run)}


def _steps(session: Session, run: Job) -> list[Json]:
    started = {child.args["step"]: child for child in jobs.children(session, run.id)}
    steps = steps_between(run.args.get("from"), run.args.get("to"))
    return [_step(step, started.get(step), before) for step, before in zip(steps, [None, *steps[:-1]], strict=True)]


def _step(step: Step, job: Job | None, before: Step | None) -> Json:
    shown: Json = {"name": step, "after": [before] if before else [], "state": "pending", "job_id": None}
    if job is None:
        return shown | {"reason": None, "seconds": None, "started_at": None, "finished_at": None, "counts": {}}
    end = job.finished_at or datetime.now(UTC)
    return shown | {
        "state": job.state,
        "job_id": job.id,
        "reason": job.reason,
        "seconds": (end - job.started_at).total_seconds() if job.started_at else None,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
        "progress": job.progress,
        "counts": _counts(job.result),
    }


def _counts(result: Json | None) -> Json:
    return {
        name: value for name, value in (result or {}).items() if isinstance(value, int | float) and value is not True
    }
