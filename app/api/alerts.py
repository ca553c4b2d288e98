"""Alerts: what a person should know, acknowledged and resolved."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from app import auth
from app.api.audit import record
from app.api.pages import PageQuery, page
from app.api.router import Router
from app.api.schemas import Json, Out, Page
from app.db import alerts
from app.db.session import session_scope
from app.domain.roles import Role
from app.domain.states import AlertState

router = Router("alerts")


class AlertsQuery(PageQuery):
    """Which alerts; those that stand unless `state` says otherwise."""

    state: AlertState | None = None


class AlertOut(Out):
    """Something that a person should know."""

    id: int
    kind: str
    subject: str
    severity: str
    message: str
    data: Json
    state: AlertState
    count: int
    first_at: datetime
    last_at: datetime
    acked_by: str | None
    resolved_at: datetime | None


@router.get("/alerts", Role.VIEWER, query=AlertsQuery, answer=Page)
def list_alerts(query: AlertsQuery) -> dict[str, Any]:
    """Alerts, newest first."""
    with session_scope() as session:
        rows = alerts.listing(session, state=query.state, before_id=query.after_id(), limit=query.limit + 1)
        return page(rows, query.limit, AlertOut.model_validate, lambda row: row.id)


@router.post("/alerts/<id:alert_id>:ack", Role.OPERATOR, answer=AlertOut)
def ack_alert(alert_id: int) -> AlertOut:
    """Notes that somebody has seen it."""
    with session_scope() as session:
        row = alerts.ack(session, alert_id, auth.identity().name)
        record(session, "alert.ack", f"alert {alert_id}")
        return AlertOut.model_validate(row)


@router.post("/alerts/<id:alert_id>:resolve", Role.OPERATOR, answer=AlertOut)
def resolve_alert(alert_id: int) -> AlertOut:
    """Closes it."""
    with session_scope() as session:
        row = alerts.resolve(session, alert_id)
        record(session, "alert.resolve", f"alert {alert_id}")
        return AlertOut.model_validate(row)
