"""Migrations: each move under way, retried and cancelled; all of them paused and resumed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from flask import Response
from pydantic import AliasChoices, Field
from sqlalchemy.orm import Session

from app import auth
from app.api import policies, submit
from app.api.pages import PageQuery, page
from app.api.router import Router, reply
from app.api.schemas import MAX_ID, In, Json, Out, Page
from app.db import jobs, migration_limits, migrations, objects, sites
from app.db.session import session_scope
from app.db.tables import Migration
from app.domain.roles import Role
from app.domain.states import MigrationState, TeeState

router = Router("migrations")


class MigrationsQuery(PageQuery):
    """Which migrations."""

    state: MigrationState | None = None
    job_id: int | None = Field(None, ge=1, le=MAX_ID)
    plan_id: int | None = Field(None, ge=1, le=MAX_ID)


class PauseIn(In):
    """What is to wait, and why."""

    reason: str = Field(min_length=1, max_length=500, description="Shown wherever something waits for it.")
    job_id: int | None = Field(None, ge=1, le=MAX_ID, description="One job; left out: all moves.")


class ResumeIn(In):
    """What is to go on."""

    job_id: int | None = Field(None, ge=1, le=MAX_ID, description="One job; left out: all not paused by themselves.")


class MigrationOut(Out):
    """One object's move."""

    id: int
    key: str = ""
    kind: str
    state: MigrationState
    reason: str | None
    problem: Json | None = Field(None, validation_alias=AliasChoices("error", "problem"))
    from_site: str | None = None
    to_site: str | None = None
    to_class: str | None
    bytes_total: int
    bytes_done: int
    attempts: int
    retries: int
    sha256: str | None
    tee: TeeState | None = Field(None, description="What came of a reader's writing the copy.")
    restore_usd: float | None = Field(None, description="What restoring the source from an archive costs.")
    restored_at: datetime | None = Field(None, description="When its site was asked to restore it.")
    job_id: int
    plan_id: int | None
    move_id: int | None
    created_at: datetime
    started_at: datetime | None
    verified_at: datetime | None
    switched_at: datetime | None
    not_before: datetime | None = Field(None, description="It is not begun earlier.")
    ready_by: datetime | None = Field(None, description="When the peak begins that it was planned for.")
    next_attempt_at: datetime | None
    finished_at: datetime | None


def show(row: Migration, key: str, names: dict[int, str]) -> MigrationOut:
    """The migration as it is shown; names: sites by id."""
    shown = MigrationOut.model_validate(row)
    shown.key = key
    if row.state == MigrationState.QUEUED and shown.reason is None:
        shown.reason = f"after_migration_{row.after_id}" if row.after_id else _waits_for(row)
    shown.from_site = names.get(row.from_site_id) if row.from_site_id else None
    shown.to_site = names.get(row.to_site_id) if row.to_site_id else None
    return shown


def _waits_for(row: Migration) -> str:
    waits = row.not_before is not None and row.not_before > datetime.now(UTC)
    return "not_before" if waits else "waits_for_worker"


def site_names(session: Session) -> dict[int, str]:
    """Names of sites by id."""
    return {number: site.name for number, site in sites.by_id(session).items()}


@router.get("/migrations", Role.VIEWER, query=MigrationsQuery, answer=Page)
def list_migrations(query: MigrationsQuery) -> dict[str, Any]:
    """Migrations, newest first."""
    filters = query.model_dump(include={"state", "job_id", "plan_id"})
    with session_scope() as session:
        names = site_names(session)
        rows = migrations.listing(session, **filters, before_id=query.after_id(), limit=query.limit + 1)
        return page(rows, query.limit, lambda row: show(row.Migration, row.key, names), lambda row: row.Migration.id)


@router.post("/migrations:pause", Role.OPERATOR, body=PauseIn)
def pause_migrations(body: PauseIn) -> Json:
    """Stops moves before their next step or part; what was copied so far is kept, and cancelling still works."""
    with session_scope() as session:
        waiting = migration_limits.pause(session, body.reason, actor=auth.identity().name, job_id=body.job_id)
    return {"paused": True, "reason": body.reason, "job_id": body.job_id, "waiting": waiting}


@router.post("/migrations:resume", Role.OPERATOR, body=ResumeIn)
def resume_migrations(body: ResumeIn) -> Json:
    """Lets moves go on; errors so far no longer count against their jobs."""
    with session_scope() as session:
        bells = migration_limits.resume(session, actor=auth.identity().name, job_id=body.job_id)
    for bell in bells:
        submit.ring(bell)
    return {"paused": False, "job_id": body.job_id, "jobs": [bell.job_id for bell in bells]}


@router.get("/migrations/limits", Role.VIEWER)
def get_limits() -> Response:
    """Rates and concurrency by site, the first wave and the error rate that stops a job: the policy `limits`."""
    found: Response = policies.get_policy("limits")
    return found


@router.put("/migrations/limits", Role.ADMIN, body=policies.Document)
def put_limits(body: policies.Document) -> Response:
    """Writes the next version of the policy `limits`; workers obey it within two seconds."""
    written: Response = policies.put_policy("limits", body)
    return written


@router.get("/migrations/<id:migration_id>", Role.VIEWER, answer=MigrationOut)
def get_migration(migration_id: int) -> MigrationOut:
    """One migration."""
    with session_scope() as session:
        return _document(session, migrations.get(session, migration_id))


@router.post("/migrations/<id:migration_id>:retry", Role.OPERATOR, answer=MigrationOut, status=202)
def retry_migration(migration_id: int) -> Response:
    """Queues an ended migration again with all its attempts."""
    with session_scope() as session:
        row = migrations.retry(session, migration_id, auth.identity().name)
        shown, bell = _document(session, row), jobs.bell(jobs.get(session, row.job_id))
    submit.ring(bell)
    headers = {"Location": f"/v1/migrations/{migration_id}", "Retry-After": submit.RETRY_AFTER_S}
    return reply(shown, 202, headers)


@router.post("/migrations/<id:migration_id>:cancel", Role.OPERATOR, answer=MigrationOut)
def cancel_migration(migration_id: int) -> MigrationOut:
    """Asks a migration that has not switched to stop: at its next step or part."""
    with session_scope() as session:
        row = migrations.cancel(session, migration_id, auth.identity().name)
        shown, bell = _document(session, row), jobs.bell(jobs.get(session, row.job_id))
    submit.ring(bell)
    return shown


def _document(session: Session, row: Migration) -> MigrationOut:
    return show(row, objects.get(session, row.object_id).key, site_names(session))
