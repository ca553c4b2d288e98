"""The world changes: an owner writes or deletes an object, and the catalogue follows in one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from app.db import alerts, audit, budgets, lives, migrations, replicas
from app.db.locks import NO_KEY
from app.db.tables import Json, Migration, Object, Replica
from app.domain.migrations import EARLY, SWITCHED
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
    kept = {} if is_newer(found, replicas.at(session, object_id, site_id)) else {"verified_at": None}
    lives.written(session, [found], {object_id: pin.size} if pin else None)
    found.version, found.written_at = found.version + 1, func.now()
    found.state = ObjectState.PRESENT
    session.flush()
    replicas.set_state(session, object_id, ReplicaState.STALE, only=OLD, but_site_id=site_id, **kept)
    fresh = {"object_version": found.version, "sha256": None, "verified_at": None, "class_since": func.now()}
    replicas.put(session, object_id, site_id, pin, ReplicaState.SERVING, **fresh)
    end_switched(session, {object_id: site_id})
    return found.version


def is_newer(found: Object, there: Replica | None) -> bool:
    """Whether a write at a site is surely newer than the object's current version.

    It is where the current version stood before it, and where nothing was written until the current version was known.
    """
    if there is None:
        return False
    if there.state in replicas.LIVE and there.object_version == found.version:
        return True
    return max(there.seen_at, there.deleted_at or there.seen_at) >= found.written_at


def end_switched(session: Session, sites: Mapping[int, int]) -> None:
    """Ends migrations that have switched, of objects that were written: the source or the destination is old now.

    sites: by the object's id, where it was written.
    """
    which = (Migration.object_id.in_(sites), Migration.state.in_(SWITCHED))
    rows = session.execute(select(Migration, Object.key).join(Object).where(*which).order_by(Migration.id))
    for row, key in rows.all():
        reverse = row.from_site_id == sites[row.object_id]
        reason = "source_changed_after_switch" if reverse else "overwritten_after_switch"
        end(session, row.id, MigrationState.ROLLED_BACK if reverse else MigrationState.DONE, reason)
        if reverse:
            message = f"{key} was overwritten at its old site after the switch, which is reversed"
            alerts.raise_alert(session, reason, "warning", message, subject=key, data={"migration_id": row.id})
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
    found.state, found.version, found.gone_at = ObjectState.GONE, found.version + 1, func.now()
    session.flush()
    replicas.set_state(
        session, object_id, ReplicaState.DELETED, only=OLD, site_id=site_id, deleted_at=func.now(), draining_until=None
    )
    replicas.set_state(session, object_id, ReplicaState.STALE, only=OLD, but_site_id=site_id)
    end_of_gone(session, [object_id])
    audit.append(session, **audit_of_gone(found.key, reason, site_id))


def end_of_gone(session: Session, object_ids: Sequence[int]) -> None:
    """Ends the migrations of objects that their owners deleted; a worker that has one in hand ends its own."""
    idle = or_(Migration.lease_until.is_(None), Migration.lease_until < func.now())
    which = (Migration.object_id.in_(object_ids), Migration.state.in_(EARLY | SWITCHED), idle)
    for row in session.scalars(select(Migration).where(*which).order_by(Migration.id)).all():
        state = MigrationState.DONE if row.state in SWITCHED else MigrationState.SKIPPED
        end(session, row.id, state, "object_gone")


def audit_of_gone(key: str, reason: str, site_id: int) -> Json:
    """What the audit log says of an object that its owner deleted."""
    data = {"reason": reason, "site_id": site_id}
    return {"actor": "worker", "action": "object.gone", "subject": key, "data": data}


def end(session: Session, migration_id: int, state: MigrationState, reason: str | None) -> None:
    """Ends a migration whoever holds it: its fence moves on, so that a worker on it can write nothing more."""
    row = session.get_one(Migration, migration_id, with_for_update=NO_KEY, populate_existing=True)
    row.state, row.reason, row.fence = state, reason, row.fence + 1
    row.lease_until, row.finished_at = None, func.now()
    budgets.release(session, row)
    session.flush()
    migrations.release_next(session, migration_id, state)
