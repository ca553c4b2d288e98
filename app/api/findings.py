"""Scrubs of a site and their findings: what it holds besides or instead of what the catalogue says."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from flask import Response
from pydantic import Field
from sqlalchemy.orm import Session

from app.api import submit
from app.api.audit import record
from app.api.pages import PageQuery, page
from app.api.router import Router
from app.api.schemas import In, JobOut, Json, Out, Page
from app.api.submit import Started
from app.db import findings, sites
from app.db.session import session_scope
from app.domain.roles import Role
from app.domain.scrub import FindingKind, Why
from app.domain.tasks import TaskName

router = Router("findings")


class ScrubIn(In):
    """What to scrub, and how."""

    prefix: str | None = Field(None, max_length=1024, description="Only keys that begin so.")
    deep: bool = Field(False, description="Read every replica again, which costs what :verify says.")
    dry_run: bool = Field(False, description="Only count: nothing is kept, marked or read again.")


class FindingsQuery(PageQuery):
    """Which findings."""

    kind: FindingKind | None = None
    resolved: bool = Field(False, description="Those that are over instead of those that are open.")


class FindingOut(Out):
    """One difference between the site and the catalogue."""

    id: int
    key: str
    kind: FindingKind
    why: Why
    size: int | None
    intent: str | None
    pin: Json
    first_seen_at: datetime
    last_seen_at: datetime
    resolved_at: datetime | None


@router.post("/sites/<name:name>:scrub", Role.OPERATOR, body=ScrubIn, answer=JobOut, status=202, starts_work=True)
def scrub_site(name: str, body: ScrubIn) -> Response:
    """Starts to compare a site with the catalogue."""

    def begin(session: Session) -> Started:
        sites.get(session, name)
        args = body.model_dump(exclude_none=True)
        job = submit.job(session, TaskName.SCRUB, {**args, "site": name})
        if not body.dry_run:
            record(session, "site.scrub", name, {**args, "job_id": job.id})
        return Started(job)

    return submit.start_with(begin)


@router.get("/sites/<name:name>/findings", Role.VIEWER, query=FindingsQuery, answer=Page)
def list_findings(name: str, query: FindingsQuery) -> dict[str, Any]:
    """What the site's scrubs have found, the newest first."""
    filters = query.model_dump(include={"kind", "resolved"})
    with session_scope() as session:
        site_id = sites.get(session, name).id
        rows = findings.listing(session, site_id, **filters, before_id=query.after_id(), limit=query.limit + 1)
        return page(rows, query.limit, FindingOut.model_validate, lambda row: row.id)
