"""Alerts: raised, counted, acknowledged and resolved; one open alert a kind and subject."""

from __future__ import annotations

from sqlalchemy import func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.db.tables import Alert, Json
from app.domain.states import AlertState
from app.errors import NotFound


def raise_alert(
    session: Session, kind: str, severity: str, message: str, *, subject: str = "", data: Json | None = None
) -> None:
    """Opens the alert, or counts it once more with the newest message when it is open already."""
    row = {"kind": kind, "subject": subject, "severity": severity, "message": message, "data": data or {}}
    statement = insert(Alert).values(row)
    session.execute(
        statement.on_conflict_do_update(
            index_elements=["kind", "subject"],
            index_where=text("state <> 'resolved'"),
            set_={
                "message": message,
                "severity": severity,
                "data": data or {},
                "last_at": func.now(),
                "count": Alert.count + 1,
            },
        )
    )


def clear(session: Session, kind: str, subject: str = "") -> None:
    """Resolves the open alert of this kind and subject, if there is one."""
    session.execute(
        update(Alert)
        .where(Alert.kind == kind, Alert.subject == subject, Alert.state != AlertState.RESOLVED)
        .values(state=AlertState.RESOLVED, resolved_at=func.now())
    )


def open_alerts(session: Session, limit: int = 200) -> list[Alert]:
    """Alerts that stand, newest first."""
    statement = select(Alert).where(Alert.state != AlertState.RESOLVED).order_by(Alert.last_at.desc()).limit(limit)
    return list(session.scalars(statement))


def listing(
    session: Session, *, state: AlertState | None = None, before_id: int | None = None, limit: int = 50
) -> list[Alert]:
    """Alerts in this state, or those that stand, the last opened first, older than `before_id`."""
    wanted = Alert.state != AlertState.RESOLVED if state is None else Alert.state == state
    statement = select(Alert).where(wanted).order_by(Alert.id.desc()).limit(limit)
    return list(session.scalars(statement.where(Alert.id < before_id) if before_id else statement))


def ack(session: Session, alert_id: int, actor: str) -> Alert:
    """Notes that `actor` has seen the alert. Raises NotFound."""
    return _set(session, alert_id, state=AlertState.ACKED, acked_by=actor)


def resolve(session: Session, alert_id: int) -> Alert:
    """Closes the alert. Raises NotFound."""
    return _set(session, alert_id, state=AlertState.RESOLVED, resolved_at=func.now())


def resolve_all(session: Session) -> int:
    """Closes every open alert; returns how many."""
    statement = update(Alert).where(Alert.state != AlertState.RESOLVED).returning(Alert.id)
    return len(session.scalars(statement.values(state=AlertState.RESOLVED, resolved_at=func.now())).all())


def _set(session: Session, alert_id: int, **values: object) -> Alert:
    statement = update(Alert).where(Alert.id == alert_id, Alert.state != AlertState.RESOLVED).values(**values)
    alert: Alert | None = session.scalar(statement.returning(Alert))
    if alert is None:
        raise NotFound(f"there is no open alert {alert_id}")
    return alert
