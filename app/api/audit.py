"""The audit: who changed what; `record` is what every change of the API calls in its own transaction."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field
from sqlalchemy.orm import Session

from app import auth
from app.api import security
from app.api.pages import PageQuery, page
from app.api.router import Router
from app.api.schemas import Json, Out, Page
from app.db import audit
from app.db.session import session_scope
from app.domain.roles import Role

router = Router("audit")


class AuditQuery(PageQuery):
    """Which entries."""

    action: str | None = Field(None, description="Such as plan.apply.")


class AuditOut(Out):
    """One change."""

    id: int
    at: datetime
    actor: str
    action: str
    subject: str
    data: Json
    request_id: str | None


def record(session: Session, action: str, subject: str, data: Json | None = None) -> None:
    """Notes a change that this request makes. data: never a secret."""
    audit.append(session, auth.identity().name, action, subject, data, security.request_id())


@router.get("/audit", Role.VIEWER, query=AuditQuery, answer=Page)
def list_audit(query: AuditQuery) -> dict[str, Any]:
    """Who changed what, newest first."""
    with session_scope() as session:
        rows = audit.listing(session, action=query.action, before_id=query.after_id(), limit=query.limit + 1)
        return page(rows, query.limit, AuditOut.model_validate, lambda row: row.id)
