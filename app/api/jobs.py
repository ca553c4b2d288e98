"""Jobs: what was submitted, polled until it ends, cancelled and retried."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from flask import Response
from pydantic import Field
from sqlalchemy.orm import Session

from app.api import submit, waiting
from app.api.audit import record
from app.api.etags import etag
from app.api.pages import PageQuery, page
from app.api.router import Router, reply
from app.api.schemas import MAX_ID, In, JobOut, Page
from app.api.submit import Started
from app.db import jobs
from app.db.session import session_scope
from app.db.tables import Job
from app.domain.roles import Role
from app.domain.states import JOB_FINAL, JobState

router = Router("jobs")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class JobsQuery(PageQuery):
    """Which jobs."""

    kind: str | None = None
    state: JobState | None = None


class WaitQuery(In):
    """How long to wait."""

    wait: int = Field(0, ge=0, le=30, description="Seconds to wait for a change of a job that has not ended.")


class EventsQuery(In):
    """Which events."""

    after: int = Field(0, ge=0, le=MAX_ID, description="The `id` of the last event that was seen.")


def show(session: Session, job: Job) -> JobOut:
    """The job as it is shown; one that waits for its queue says how many are ahead."""
    shown = JobOut.model_validate(job)
    if job.state == JobState.QUEUED:
        ahead = jobs.ahead(session, job)
        counted = f"{ahead} or more" if ahead == jobs.AHEAD_COUNTED else f"{ahead}"
        shown.reason = f"waiting for queue {job.queue}, {counted} ahead"
    return shown


@router.get("/jobs", Role.VIEWER, query=JobsQuery, answer=Page)
def list_jobs(query: JobsQuery) -> dict[str, Any]:
    """Jobs, newest first."""
    with session_scope() as session:
        rows = jobs.listing(
            session, kind=query.kind, state=query.state, before_id=query.after_id(), limit=query.limit + 1
        )
        return page(rows, query.limit, lambda job: show(session, job), lambda job: job.id)


@router.get("/jobs/<id:job_id>", Role.VIEWER, query=WaitQuery, answer=JobOut)
def get_job(job_id: int, query: WaitQuery) -> Response:
    """The job; with `wait`, as soon as its state, reason or progress has changed."""
    shown = _read(job_id)
    if query.wait and shown.state not in JOB_FINAL:
        for now in waiting.reads(lambda: _read(job_id), query.wait):
            if _version(now) != _version(shown):
                shown = now
                break
    return reply(shown, headers=etag(_version(shown)))


@router.post("/jobs/<id:job_id>:cancel", Role.OPERATOR, answer=JobOut)
def cancel_job(job_id: int) -> JobOut:
    """Asks the job to stop: at once when nobody works on it, else at its next step."""
    with session_scope() as session:
        job = jobs.cancel(session, job_id)
        record(session, "job.cancel", f"job {job_id}")
        return show(session, job)


@router.post("/jobs/<id:job_id>:retry", Role.OPERATOR, answer=JobOut, status=202, starts_work=True)
def retry_job(job_id: int) -> Response:
    """Makes a failed, dead or cancelled job ready again with all its attempts."""

    def begin(session: Session) -> Started:
        job = jobs.retry(session, job_id)
        record(session, "job.retry", f"job {job_id}")
        return Started(job)

    return submit.start_with(begin)


@router.get("/jobs/<id:job_id>/events", Role.VIEWER, query=EventsQuery, answer=Page)
def list_events(job_id: int, query: EventsQuery) -> dict[str, Any]:
    """What happened to the job and to those it started, in order; an event's id is its time in microseconds."""
    with session_scope() as session:
        rows = [jobs.get(session, job_id), *jobs.children(session, job_id)]
    events = sorted((event for row in rows for event in _events(row)), key=lambda event: event["id"])
    return {"items": [event for event in events if event["id"] > query.after], "next_cursor": None}


def _events(job: Job) -> Iterator[dict[str, Any]]:
    times = {"submitted": job.created_at, "started": job.started_at, str(job.state): job.finished_at}
    for name, at in times.items():
        if at is not None:
            reason = job.reason if at == job.finished_at else None
            told = {"job_id": job.id, "kind": job.kind, "event": name, "reason": reason}
            yield {"id": (at - EPOCH) // timedelta(microseconds=1), "at": at, **told}


def _read(job_id: int) -> JobOut:
    with session_scope() as session:
        return show(session, jobs.get(session, job_id))


def _version(job: JobOut) -> str:
    seen = (job.state, job.attempts, job.reason, sorted(job.progress.items()))
    return hashlib.sha256(repr(seen).encode()).hexdigest()[:16]
