"""Pages of lines that stand with a job: what was sent, and what came of it (step: predict)."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import delete, func
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.db.tables import BatchPage
from app.errors import NotFound

SENT = 0
"""The page of what was sent; results begin at 1."""
KEEP = timedelta(hours=24)


def put(session: Session, job_id: int, number: int, lines: Sequence[bytes]) -> None:
    """Keeps a page; one that an earlier attempt wrote is replaced."""
    body = gzip.compress(b"".join(line + b"\n" for line in lines), compresslevel=3)
    row = {"job_id": job_id, "number": number, "lines": len(lines), "body": body}
    statement = insert(BatchPage).values(row)
    session.execute(statement.on_conflict_do_update(index_elements=["job_id", "number"], set_=row))


def get(session: Session, job_id: int, number: int) -> bytes:
    """A page as gzipped NDJSON. Raises NotFound."""
    found = session.get(BatchPage, (job_id, number))
    if found is None:
        hours = KEEP // timedelta(hours=1)
        raise NotFound(f"job {job_id} has no page {number}; pages are kept for {hours} hours")
    return found.body


def sent(session: Session, job_id: int) -> list[bytes]:
    """The lines that were sent. Raises NotFound."""
    return gzip.decompress(get(session, job_id, SENT)).splitlines()


def prune(session: Session) -> int:
    """Deletes pages past their time; returns how many."""
    old = delete(BatchPage).where(BatchPage.created_at < func.now() - KEEP).returning(BatchPage.number)
    return len(session.scalars(old).all())
