"""Pages of events and rows that users send, kept with a job until a worker has read them (steps: learn, batch).

They stand beside a batch's results, numbered downwards from 0: results begin at 1. Pruned with them.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db.session import session_scope
from app.db.tables import BatchPage
from app.errors import NotFound


@dataclass(frozen=True)
class Page:
    """Lines of NDJSON, gzipped."""

    lines: int
    body: bytes


def pack(lines: Sequence[bytes]) -> Page:
    """Lines without their ends."""
    return Page(len(lines), gzip.compress(b"\n".join(lines), compresslevel=1))


def put(session: Session, job_id: int, pages: Sequence[Page]) -> None:
    """Keeps what was sent with a job."""
    session.add_all(
        BatchPage(job_id=job_id, number=-number, lines=page.lines, body=page.body) for number, page in enumerate(pages)
    )


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
