"""Replicas found corrupt or missing: never routed to again, told in the audit and by an alert, a switch reversed."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db import alerts, audit, changes, replicas
from app.db.tables import Migration, Object, Replica, Site
from app.domain.migrations import SWITCHED
from app.domain.states import MigrationState, ObjectState, ReplicaState

ACTOR = "worker"


def corrupt(session: Session, replica: Replica, found_by: str) -> None:
    """The replica's bytes are wrong: it does not serve any more. The object must be locked (`changes.lock`).

    A copy that is being made of it cannot switch, since the object counts a version up; a switch to it whose source
    still stands is reversed.
    """
    _out_of_service(session, replica, ReplicaState.CORRUPT, found_by)
    found, site = _named(session, replica)
    message = f"{site} holds wrong bytes of {found.key}; then: foretide objects repair"
    alerts.raise_alert(session, "replica_corrupt", "critical", message, subject=found.key, data={"site": site})


def missing(session: Session, replica: Replica, found_by: str) -> bool:
    """The site does not hold the replica: lost, if another serves and Foretide wrote it.

    Else nothing is changed, since an owner may have deleted the object: scans decide. Returns whether it was lost. The
    object must be locked.
    """
    others = replicas.serving_elsewhere(session, replica.object_id, replica.site_id)
    its_owners = replica.is_origin or replica.verified_at is None
    if its_owners or not others or replica.state != ReplicaState.SERVING:
        return False
    _out_of_service(session, replica, ReplicaState.LOST, found_by)
    found, site = _named(session, replica)
    message = f"{site} does not hold its copy of {found.key} any more; then: foretide objects repair"
    alerts.raise_alert(session, "replica_lost", "critical", message, subject=found.key, data={"site": site})
    return True


def mended(session: Session, replica: Replica) -> None:
    """A replica that was taken for corrupt has its bytes: it serves again if it is of the object's version."""
    found = session.get_one(Object, replica.object_id)
    if replica.object_version == found.version and found.state == ObjectState.PRESENT:
        replica.state = ReplicaState.SERVING
        audit.append(session, ACTOR, "replica.mended", f"object {found.id}", {"key": found.key})
    session.flush()


def _named(session: Session, replica: Replica) -> tuple[Object, str]:
    return session.get_one(Object, replica.object_id), session.get_one(Site, replica.site_id).name


def _out_of_service(session: Session, replica: Replica, state: ReplicaState, found_by: str) -> None:
    found, site = _named(session, replica)
    was = replica.state
    found.version += 1
    session.flush()
    replicas.carry_over(session, [found.id])
    session.refresh(replica)
    replica.state, replica.draining_until = state, None
    session.flush()
    _reverse_switch(session, found, replica, state)
    data = {"key": found.key, "site": site, "was": was, "found_by": found_by, "pin": replica.pin}
    audit.append(session, ACTOR, f"replica.{state}", f"object {found.id}", data)


def _reverse_switch(session: Session, found: Object, replica: Replica, state: ReplicaState) -> None:
    """A source in its grace serves again when it was this replica that had taken its place."""
    which = (Migration.object_id == found.id, Migration.to_site_id == replica.site_id, Migration.state.in_(SWITCHED))
    for row in session.scalars(select(Migration).where(*which, Migration.delete_intended_at.is_(None))).all():
        replicas.set_state(
            session,
            found.id,
            ReplicaState.SERVING,
            only=(ReplicaState.DRAINING,),
            site_id=row.from_site_id,
            object_version=found.version,
            draining_until=None,
        )
        reason = f"destination_{state}"
        changes.end(session, row.id, MigrationState.ROLLED_BACK, reason)
        audit.append(session, ACTOR, "migration.roll_back", f"migration {row.id}", {"reason": reason})
