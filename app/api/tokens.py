"""Tokens: made, shown once, listed, revoked."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import Field

from app.api.audit import record
from app.api.pages import PageQuery, page
from app.api.router import Router
from app.api.schemas import In, Out, Page
from app.db import tokens
from app.db.session import session_scope
from app.domain.roles import Role

router = Router("tokens")


class TokenIn(In):
    """A token to make."""

    name: str = Field(min_length=1, max_length=100)
    role: Role
    expires_in_days: int | None = Field(None, ge=1, le=3650)


class TokenOut(Out):
    """A token without its secret."""

    id: int
    name: str
    prefix: str
    role: Role
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


class TokenMade(TokenOut):
    """A new token; `token` is shown this once."""

    token: str


@router.get("/tokens", Role.ADMIN, query=PageQuery, answer=Page)
def list_tokens(query: PageQuery) -> dict[str, Any]:
    """Every token, newest first, without its secret."""
    with session_scope() as session:
        rows = tokens.listing(session, query.after_id(), query.limit + 1)
        return page(rows, query.limit, TokenOut.model_validate, lambda row: row.id)


@router.post("/tokens", Role.ADMIN, body=TokenIn, answer=TokenMade, status=201)
def create_token(body: TokenIn) -> dict[str, Any]:
    """Makes a token; the reply is the only place where it is shown."""
    expires_at = datetime.now(UTC) + timedelta(days=body.expires_in_days) if body.expires_in_days else None
    with session_scope() as session:
        row, token = tokens.create(session, body.name, body.role, expires_at)
        record(session, "token.create", f"token {row.id}", {"name": row.name, "role": row.role})
        return TokenOut.model_validate(row).model_dump() | {"token": token}


@router.route("DELETE", "/tokens/<id:token_id>", Role.ADMIN, status=204)
def revoke_token(token_id: int) -> None:
    """Ends a token: it is refused within a second."""
    with session_scope() as session:
        tokens.revoke(session, token_id)
        record(session, "token.revoke", f"token {token_id}")
