"""Tidying: leftover copies and uploads at a site, and what is left of objects that their owner has deleted."""

from __future__ import annotations

from flask import Response
from pydantic import Field
from sqlalchemy.orm import Session

from app.api import submit
from app.api.audit import record
from app.api.router import Router
from app.api.schemas import In, JobOut
from app.api.submit import Started
from app.api.verification import Keys
from app.db import removal, sites
from app.domain.roles import Role
from app.domain.tasks import TaskName

router = Router("tidying")


class TidyIn(In):
    """What to tidy."""

    prefix: str | None = Field(None, max_length=1024, description="Only keys that begin so.")
    dry_run: bool = Field(False, description="Only tell what would be removed.")


class RemoveCopiesIn(In):
    """Whose copies to remove."""

    keys: Keys
    dry_run: bool = Field(False, description="Only tell what would be removed.")


@router.post("/sites/<name:name>:tidy", Role.OPERATOR, body=TidyIn, answer=JobOut, status=202, starts_work=True)
def tidy_site(name: str, body: TidyIn) -> Response:
    """Starts to remove copies that nothing reads any more and uploads that nobody will finish."""

    def begin(session: Session) -> Started:
        sites.get(session, name)
        job = submit.job(session, TaskName.TIDY, {**body.model_dump(exclude_none=True), "site": name})
        if not body.dry_run:
            record(session, "site.tidy", name, {"job_id": job.id, "prefix": body.prefix})
        return Started(job)

    return submit.start_with(begin)


@router.post("/objects:remove-copies", Role.OPERATOR, body=RemoveCopiesIn, answer=JobOut, status=202, starts_work=True)
def remove_copies(body: RemoveCopiesIn) -> Response:
    """Starts to remove what is left of objects that their owner has deleted; 409 for any that is not gone."""

    def begin(session: Session) -> Started:
        removal.check_gone(session, body.keys)
        job = submit.job(session, TaskName.REMOVE_COPIES, body.model_dump())
        if not body.dry_run:
            record(session, "objects.remove_copies", "objects", {"job_id": job.id, "keys": body.keys})
        return Started(job)

    return submit.start_with(begin)
