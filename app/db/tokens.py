"""Bearer tokens: made, looked up by hash, listed, revoked. The token itself is never stored."""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime

from sqlalchemy import func, or_, select, update
from sqlalchemy.orm import Session

from app.db.tables import Token
from app.domain.roles import Role
from app.errors import NotFound

SCHEME = "ft_"
SHOWN = len(SCHEME) + 8


def digest(token: str) -> str:
    """What is stored of a token: 256 random bits need no slow hash."""
    return hashlib.sha256(token.encode()).hexdigest()


def create(session: Session, name: str, role: Role, expires_at: datetime | None = None) -> tuple[Token, str]:
    """Adds a token; returns its row and the token itself, which cannot be read again."""
    token = SCHEME + secrets.token_urlsafe(32)
    row = Token(name=name, prefix=token[:SHOWN], sha256=digest(token), role=role, expires_at=expires_at)
    session.add(row)
    session.flush()
    return row, token


def find(session: Session, sha256: str) -> Token | None:
    """The valid token with this hash; None when it is unknown, expired or revoked."""
    unexpired = or_(Token.expires_at.is_(None), Token.expires_at > func.now())
    return session.scalar(select(Token).where(Token.sha256 == sha256, Token.revoked_at.is_(None), unexpired))


def listing(session: Session, before_id: int | None, limit: int) -> list[Token]:
    """Tokens, newest first, older than `before_id`."""
    statement = select(Token).order_by(Token.id.desc()).limit(limit)
    return list(session.scalars(statement.where(Token.id < before_id) if before_id else statement))


def revoke(session: Session, token_id: int) -> Token:
    """Ends a token's validity; doing so again changes nothing. Raises NotFound."""
    revoked = update(Token).where(Token.id == token_id).values(revoked_at=func.coalesce(Token.revoked_at, func.now()))
    token: Token | None = session.scalar(revoked.returning(Token))
    if token is None:
        raise NotFound(f"there is no token {token_id}")
    return token
