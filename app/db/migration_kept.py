"""Sources that a switch has replaced and that may not be deleted for now: looked at again while that may change.

Their migrations are done, so that the objects may be planned, moved and scrubbed; the replicas stay draining.
"""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import ColumnElement, and_, func, or_, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.db import alerts
from app.db.locks import in_order
from app.db.tables import Alert, Migration, Replica
from app.db.tables_work import MIGRATION_KEPT
from app.domain.source_deletes import KEPT_FOR_NOW
from app.domain.states import AlertState, MigrationState, ReplicaState

PREFIX = "source_kept_"
"""What stands before the reason of a done migration that has not deleted its source."""
ALERT = "source_kept"
LATER = timedelta(days=1)
"""When what another migration has in hand is looked at again."""


def report(session: Session, site_id: int, site: str, key: str, reason: str) -> None:
    """Says that a site keeps a source and why: one alert a site and reason."""
    message = f"{site} keeps a replaced copy of {key}: {reason}"
    data = {"key": key, "site_id": site_id, "reason": reason}
    alerts.raise_alert(session, ALERT, "info", message, subject=f"{site}: {reason}", data=data)


def take_up(session: Session, limit: int = 100) -> int:
    """Lets the engine look again at sources that are due; returns how many."""
    due = select(Migration).where(text(MIGRATION_KEPT), Migration.next_attempt_at <= func.now())
    rows = session.scalars(
        due.order_by(Migration.next_attempt_at).limit(limit).with_for_update(key_share=True, skip_locked=True)
    ).all()
    taken = sum(_take_up(session, row) for row in rows)
    _clear(session)
    return taken


def _take_up(session: Session, row: Migration) -> bool:
    source = select(Replica.state).where(Replica.object_id == row.object_id, Replica.site_id == row.from_site_id)
    drains = session.scalar(source) == ReplicaState.DRAINING
    row.next_attempt_at = func.now() + LATER
    session.flush()
    if not drains:
        return False
    again = update(Migration).where(Migration.id == row.id).values(
        state=MigrationState.DRAINING, reason=(row.reason or "").removeprefix(PREFIX), finished_at=None, attempts=0,
        next_attempt_at=func.now(),
    )  # fmt: skip
    try:
        with session.begin_nested():
            session.execute(again)
    except IntegrityError:  # another migration has the object
        return False
    return True


def look_again(session: Session, reason: str, site_id: int | None = None) -> None:
    """What kept sources for this reason, at a site or at all, has changed: they are due now."""
    due = and_(text(MIGRATION_KEPT), Migration.reason == PREFIX + reason)
    due = and_(due, Migration.from_site_id == site_id) if site_id is not None else due
    session.execute(update(Migration).where(in_order(due)).values(next_attempt_at=func.now()))


def _clear(session: Session) -> None:
    """Resolves the alerts of sites that keep nothing any more for that reason."""
    standing = select(Alert).where(Alert.kind == ALERT, Alert.state != AlertState.RESOLVED)
    for alert in session.scalars(standing).all():
        if alert.data.get("reason") not in KEPT_FOR_NOW:
            continue
        kept = _keeps(alert.data["site_id"], alert.data["reason"])
        if session.scalar(select(Migration.id).where(kept).limit(1)) is None:
            alerts.clear(session, ALERT, alert.subject)


def _keeps(site_id: int, reason: str) -> ColumnElement[bool]:
    looked_at = and_(Migration.state == MigrationState.DRAINING, Migration.reason == reason)
    kept = and_(Migration.state == MigrationState.DONE, Migration.reason == PREFIX + reason)
    return and_(Migration.from_site_id == site_id, or_(looked_at, kept))
