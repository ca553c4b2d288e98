"""The world changes: an owner writes or deletes an object, and the catalogue follows in one transaction."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from app.db import alerts, audit, budgets, migrations, replicas
from app.db.locks import NO_KEY
from app.db.tables import Migration, Object, Replica
from app.domain.migrations import EARLY, SWITCHED
from app.domain.objects import delete_is_news, write_is_news
from app.domain.pins import Pin
from app.domain.states import MigrationState, ObjectState, ReplicaState

OLD = (ReplicaState.SERVING, ReplicaState.VERIFIED, ReplicaState.DRAINING, ReplicaState.STALE, ReplicaState.LOST)


def lock(session: Session, object_id: int) -> Object:
    """The object, held until the transaction ends: every change of what is to be read locks it first."""
    return session.get_one(Object, object_id, with_for_update=NO_KEY, populate_existing=True)


def put_seen(session: Session, object_id: int, site_id: int, pin: Pin | None) -> int:
    """An owner wrote the object at a site: that replica alone serves now, the others are stale. Returns the version.

    pin: as a look found it; None when only the write was reported. A switch away from this site that was already made
    is reversed, with an alert. Where it is not certain that this write is newer than what is known, what became stale
    is nobody's to overwrite: it may be the only copy of the newest version.
    """
    found = lock(session, object_id)
    kept = {} if _is_newer(found, replicas.at(session, object_id, site_id)) else {"verified_at": None}
    found.version, found.written_at = found.version + 1, func.now()
    found.state = ObjectState.PRESENT
    if pin:
        found.size = pin.size
    session.flush()
    replicas.set_state(session, object_id, ReplicaState.STALE, only=OLD, but_site_id=site_id, **kept)
    fresh = {"object_version": found.version, "sha256": None, "verified_at": None, "class_since": func.now()}
    replicas.put(session, object_id, site_id, pin, ReplicaState.SERVING, **fresh)
    _end_switched(session, found, site_id)
    return found.version


def _is_newer(found: Object, there: Replica | None) -> bool:
    """Whether a write at a site is surely newer than the object's current version.

    It is where the current version stood before it, and where nothing was written until the current version was known.
    """
    if there is None:
        return False
    if there.state in replicas.LIVE and there.object_version == found.version:
        return True
    return max(there.seen_at, there.deleted_at or there.seen_at) >= found.written_at


def _end_switched(session: Session, found: Object, site_id: int) -> None:
    """Ends a migration of the object that has switched: its source or its destination holds an old version now."""
    which = (Migration.object_id == found.id, Migration.state.in_(SWITCHED))
    for row in session.scalars(select(Migration).where(*which)).all():
        reverse = row.from_site_id == site_id
        reason = "source_changed_after_switch" if reverse else "overwritten_after_switch"
        end(session, row.id, MigrationState.ROLLED_BACK if reverse else MigrationState.DONE, reason)
        if reverse:
            message = f"{found.key} was overwritten at its old site after the switch, which is reversed"
            alerts.raise_alert(session, reason, "warning", message, subject=found.key, data={"migration_id": row.id})
            audit.append(session, "worker", "migration.roll_back", f"migration {row.id}", {"reason": reason})


def destination_lost(session: Session, object_id: int, source_id: int, destination_id: int, migration_id: int) -> None:
    """The switched copy is missing, the source still there: the source serves again, with an alert."""
    found = lock(session, object_id)
    replicas.set_state(session, object_id, ReplicaState.LOST, only=OLD, site_id=destination_id)
    _serve_again(session, found, source_id, migration_id, "destination_lost")
    message = f"{found.key}: the copy that was switched to is missing; its source serves again"
    alerts.raise_alert(session, "replica_lost", "critical", message, subject=found.key)


def last_copy(session: Session, object_id: int, source_id: int, migration_id: int) -> None:
    """No other copy serves any more, such as one found corrupt when the source's delete was intended: it serves again.

    What took the others out of service has raised its alert.
    """
    _serve_again(session, lock(session, object_id), source_id, migration_id, "last_copy")


def _serve_again(session: Session, found: Object, source_id: int, migration_id: int, reason: str) -> None:
    """Reverses a switch, after which the source is of the object's current version."""
    found.version += 1
    session.flush()
    replicas.carry_over(session, [found.id])
    fresh = {"object_version": found.version, "draining_until": None}
    replicas.set_state(session, found.id, ReplicaState.SERVING, only=OLD, site_id=source_id, **fresh)
    end(session, migration_id, MigrationState.ROLLED_BACK, reason)
    audit.append(session, "worker", "migration.roll_back", f"migration {migration_id}", {"reason": reason})


def delete_seen(session: Session, object_id: int, site_id: int, reason: str) -> None:
    """An owner deleted the object: nothing re-creates it, its other replicas stay for an operator to remove."""
    found = lock(session, object_id)
    if found.state == ObjectState.GONE:
        return
    found.state, found.version = ObjectState.GONE, found.version + 1
    session.flush()
    replicas.set_state(
        session, object_id, ReplicaState.DELETED, only=OLD, site_id=site_id, deleted_at=func.now(), draining_until=None
    )
    replicas.set_state(session, object_id, ReplicaState.STALE, only=OLD, but_site_id=site_id)
    idle = or_(Migration.lease_until.is_(None), Migration.lease_until < func.now())  # a worker ends its own
    which = (Migration.object_id == object_id, Migration.state.in_(EARLY | SWITCHED), idle)
    for row in session.scalars(select(Migration).where(*which)).all():
        state = MigrationState.DONE if row.state in SWITCHED else MigrationState.SKIPPED
        end(session, row.id, state, "object_gone")
    audit.append(session, "worker", "object.gone", found.key, {"reason": reason, "site_id": site_id})


def event_seen(session: Session, object_id: int, site_id: int | None, op: str, ts: datetime) -> bool:
    """What a reported PUT or DELETE means for the catalogue; returns whether it was news.

    A report without a site is taken to be about the only serving replica, and says nothing when there are several.
    """
    held = [row for row in replicas.of_object(session, object_id) if site_id is None or row.site_id == site_id]
    if site_id is None:
        held = [row for row in held if row.state == ReplicaState.SERVING]
    if len(held) != 1:
        return False
    replica = held[0]
    state, pin = ReplicaState(replica.state), Pin.from_json(replica.pin)
    if op == "PUT" and write_is_news(ts, state, pin):
        put_seen(session, object_id, replica.site_id, None)
    elif op == "DELETE" and delete_is_news(ts, state, pin):
        delete_seen(session, object_id, replica.site_id, "delete_event")
    else:
        return False
    return True


def end(session: Session, migration_id: int, state: MigrationState, reason: str | None) -> None:
    """Ends a migration whoever holds it: its fence moves on, so that a worker on it can write nothing more."""
    row = session.get_one(Migration, migration_id, with_for_update=NO_KEY, populate_existing=True)
    row.state, row.reason, row.fence = state, reason, row.fence + 1
    row.lease_until, row.finished_at = None, func.now()
    budgets.release(session, row)
    session.flush()
    migrations.release_next(session, migration_id, state)
