"""Verification: replicas are read again and compared with what was recorded."""

from __future__ import annotations

from typing import Annotated

from flask import Response
from pydantic import Field
from sqlalchemy.orm import Session

from app.api import submit
from app.api.audit import record
from app.api.router import Router
from app.api.schemas import In, JobOut, Json, Key, Name
from app.api.submit import Started
from app.db import verification
from app.db.verification import Selection
from app.domain.roles import Role
from app.domain.tasks import TaskName

router = Router("verification")
MAX_KEYS = 1000
Keys = Annotated[list[Key], Field(min_length=1, max_length=MAX_KEYS)]


class VerifyMigrationIn(In):
    """How to verify."""

    dry_run: bool = Field(False, description="Only tell what reading costs at most.")


class VerifyIn(VerifyMigrationIn):
    """Which replicas to read again: all that everything given holds for."""

    prefix: str | None = Field(None, max_length=1024)
    keys: Keys | None = None
    site: Name | None = Field(None, description="Only replicas there.")


@router.post(
    "/migrations/<id:migration_id>:verify",
    Role.OPERATOR,
    body=VerifyMigrationIn,
    answer=JobOut,
    status=202,
    starts_work=True,
)
def verify_migration(migration_id: int, body: VerifyMigrationIn) -> Response:
    """Starts to read every replica of the migration's object again."""
    return _start({"migration_id": migration_id, "dry_run": body.dry_run}, f"migration {migration_id}")


@router.post("/objects:verify", Role.OPERATOR, body=VerifyIn, answer=JobOut, status=202, starts_work=True)
def verify_objects(body: VerifyIn) -> Response:
    """Starts to read replicas again; the job's result counts the verdicts and names the first that are wrong."""
    return _start(body.model_dump(exclude_none=True), "objects")


def _start(args: Json, subject: str) -> Response:
    def begin(session: Session) -> Started:
        verification.check(session, Selection(site=args.get("site"), migration_id=args.get("migration_id")))
        job = submit.job(session, TaskName.VERIFY, args)
        if not args["dry_run"]:
            record(session, "verify", subject, {**args, "job_id": job.id})
        return Started(job)

    return submit.start_with(begin)
