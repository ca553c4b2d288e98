"""Pages of events and rows that users send, kept with a job until a worker has read them (steps: learn, batch).

While an upload is under way each full page is committed apart, so that nobody holds them all; the job takes them over.
With it they stand beside a batch's results, numbered downwards from 0: results begin at 1. Pruned with them.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import CursorResult, delete, func, insert, literal, select
from sqlalchemy.orm import Session

from app.db.batch_pages import KEEP
from app.db.session import session_scope
from app.db.tables import BatchPage, UploadPage
from app.errors import Conflict, NotFound


def keep(upload_id: UUID, number: int, lines: Sequence[bytes]) -> None:
    """Commits a page, numbered from 0, of an upload that is under way. lines: without their ends."""
    with session_scope() as session:
        session.add(UploadPage(upload_id=upload_id, number=number, lines=len(lines), body=_packed(lines)))


def take(session: Session, job_id: int, upload_id: UUID, pages: int, last: Sequence[bytes]) -> None:
    """Gives the job the pages that were kept, so many, and the last one. Raises Conflict where some are gone."""
    if pages:
        kept = select(literal(job_id), -UploadPage.number, UploadPage.lines, UploadPage.body)
        mine = UploadPage.upload_id == upload_id
        columns = ["job_id", "number", "lines", "body"]
        moved = session.execute(insert(BatchPage).from_select(columns, kept.where(mine)))
        assert isinstance(moved, CursorResult)  # noqa: S101 - an insert's
        if moved.rowcount != pages:
            raise Conflict("some of what was sent is gone, since sending it took too long; send it again")
        session.execute(delete(UploadPage).where(mine))
    if last:
        session.add(BatchPage(job_id=job_id, number=-pages, lines=len(last), body=_packed(last)))


def drop(upload_id: UUID) -> None:
    """Deletes what was kept of an upload that no job has taken."""
    with session_scope() as session:
        session.execute(delete(UploadPage).where(UploadPage.upload_id == upload_id))


def prune(session: Session) -> int:
    """Deletes pages past their time that no job has taken; returns how many."""
    old = delete(UploadPage).where(UploadPage.created_at < func.now() - KEEP).returning(UploadPage.number)
    return len(session.scalars(old).all())


def read(job_id: int) -> Iterator[list[bytes]]:
    """The lines of each page, in a transaction of its own each. Raises NotFound where the pages were pruned."""
    number = 0
    while True:
        with session_scope() as session:
            query = select(BatchPage.body).where(BatchPage.job_id == job_id, BatchPage.number == number)
            body = session.scalar(query)
        if body is None:
            if number == 0:
                raise NotFound(f"what was sent with job {job_id} is gone; send it again")
            return
        yield gzip.decompress(body).split(b"\n")
        number -= 1


def decoded(lines: list[bytes]) -> list[Any]:
    """What each line holds; None where it is not JSON."""
    found: list[Any] = []
    for line in lines:
        try:
            found.append(msgspec.json.decode(line))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            found.append(None)
    return found


def _packed(lines: Sequence[bytes]) -> bytes:
    return gzip.compress(b"\n".join(lines), compresslevel=1)
