"""Stored replies of requests that started work, so that a request sent twice starts it once."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from app.db.tables import IdempotencyKey, Json
from app.errors import Conflict, Invalid

KEPT = timedelta(hours=24)


def begin(session: Session, token_id: int, key: str, request_sha256: str) -> IdempotencyKey | None:
    """The stored reply to this request; None when it is the first, and it is ours until the transaction ends.

    Raises Invalid when the key was used for another request, Conflict while the first has not committed.
    """
    stored = _stored(session, token_id, key)
    if stored is None:
        ours = session.scalar(select(func.pg_try_advisory_xact_lock(func.hashtextextended(key, token_id))))
        stored = _stored(session, token_id, key)  # it may have been committed in between
        if stored is None and not ours:
            raise Conflict("a request with this Idempotency-Key is being worked on", reason="idempotency_in_progress")
    if stored and stored.request_sha256 != request_sha256:
        raise Invalid("this Idempotency-Key was used for another request", reason="idempotency_key_reused")
    return stored


def _stored(session: Session, token_id: int, key: str) -> IdempotencyKey | None:
    mine = (IdempotencyKey.token_id == token_id, IdempotencyKey.key == key)
    return session.scalar(select(IdempotencyKey).where(*mine, IdempotencyKey.created_at > func.now() - KEPT))


def finish(
    session: Session, token_id: int, key: str, request_sha256: str, status: int, body: Json, location: str
) -> None:
    """Stores the reply; commits with the work that it speaks of."""
    session.execute(delete(IdempotencyKey).where(IdempotencyKey.token_id == token_id, IdempotencyKey.key == key))
    session.add(
        IdempotencyKey(
            token_id=token_id, key=key, request_sha256=request_sha256, status=status, body=body, location=location
        )
    )
