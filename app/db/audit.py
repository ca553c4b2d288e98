"""The audit log: who changed what; rows are only ever appended."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from app.db.tables import Audit, Json


def append(
    session: Session, actor: str, action: str, subject: str, data: Json | None = None, request_id: str | None = None
) -> None:
    """Adds a row, in the same transaction as the change that it tells of. data: never a secret."""
    session.add(Audit(actor=actor, action=action, subject=subject, data=data or {}, request_id=request_id))


def append_all(session: Session, rows: Sequence[Json]) -> None:
    """Adds many rows, each with actor, action, subject and data."""
    session.execute(insert(Audit), rows)


def listing(
    session: Session, *, action: str | None = None, before_id: int | None = None, limit: int = 100
) -> Sequence[Audit]:
    """Rows, newest first, with this action, older than `before_id`."""
    statement = select(Audit).order_by(Audit.id.desc()).limit(limit)
    if action:
        statement = statement.where(Audit.action == action)
    if before_id:
        statement = statement.where(Audit.id < before_id)
    return session.scalars(statement).all()
