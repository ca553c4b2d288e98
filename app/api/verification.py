"""Verification and repair: replicas are read again; copies that are lost, corrupt or lacking are planned anew."""

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


class RepairIn(In):
    """Which objects to repair; all if nothing is given."""

    prefix: str | None = Field(None, max_length=1024)
    keys: Keys | None = None
    apply: bool = Field(False, description="Also carry out the plan of copies.")
    dry_run: bool = Field(False, description="Only tell what is broken.")


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


@router.post("/objects:repair", Role.OPERATOR, body=RepairIn, answer=JobOut, status=202, starts_work=True)
def repair_objects(body: RepairIn) -> Response:
    """Starts to plan the copies that objects lack; the job's result names the plan and what cannot be mended."""
    args = body.model_dump(exclude_none=True)

    def begin(session: Session) -> Started:
        job = submit.job(session, TaskName.REPAIR, args)
        if not body.dry_run:
            record(session, "objects.repair", "objects", {**args, "job_id": job.id})
        return Started(job)

    return submit.start_with(begin)


def _start(args: Json, subject: str) -> Response:
    def begin(session: Session) -> Started:
        verification.check(session, Selection(site=args.get("site"), migration_id=args.get("migration_id")))
        job = submit.job(session, TaskName.VERIFY, args)
        if not args["dry_run"]:
            record(session, "verify", subject, {**args, "job_id": job.id})
        return Started(job)

    return submit.start_with(begin)
