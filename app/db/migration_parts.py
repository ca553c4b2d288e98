"""The ledger of an upload's finished parts: a killed worker's successor goes on from here."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import delete, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.db.migration_work import mine
from app.db.migrations import Claim
from app.db.tables import Migration, MigrationPart


@dataclass(frozen=True)
class Part:
    """A finished part of an upload."""

    number: int
    etag: str
    size: int
    sha256: str


def set_upload(session: Session, claim: Claim, upload_id: str, part_size: int) -> None:
    """Keeps an upload's id before any part is sent, so that it can be gone on with or aborted. Raises LeaseLost."""
    row = mine(session, claim)
    clear_copy(session, row)
    row.upload_id, row.part_size = upload_id, part_size


def add_part(session: Session, claim: Claim, part: Part) -> None:
    """Keeps a finished part before the next is sent. An attempt that gets further is none that failed.

    Raises LeaseLost.
    """
    row = mine(session, claim)
    row.bytes_done, row.attempts = row.bytes_done + part.size, 0
    statement = insert(MigrationPart).values(
        migration_id=claim.id, part_number=part.number, etag=part.etag, size=part.size, sha256=part.sha256
    )
    replaced = {"etag": part.etag, "size": part.size, "sha256": part.sha256}
    session.execute(statement.on_conflict_do_update(index_elements=["migration_id", "part_number"], set_=replaced))


def parts(session: Session, migration_id: int) -> list[Part]:
    """The finished parts, in order."""
    rows = select(MigrationPart).where(MigrationPart.migration_id == migration_id).order_by(MigrationPart.part_number)
    return [Part(row.part_number, row.etag, row.size, row.sha256) for row in session.scalars(rows)]


def clear_copy(session: Session, row: Migration) -> None:
    """Forgets what was copied so far. The upload's id stays: it is gone on with from its first part, or aborted."""
    row.sha256, row.result_pin, row.verified_at, row.bytes_done = None, None, None, 0
    session.execute(delete(MigrationPart).where(MigrationPart.migration_id == row.id))


def forget_upload(session: Session, migration_id: int, upload_id: str) -> None:
    """The upload does not exist any more."""
    which = (Migration.id == migration_id, Migration.upload_id == upload_id)
    session.execute(update(Migration).where(*which).values(upload_id=None, part_size=None))
