"""Replicas: which site holds which version of an object, in which state."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.db.tables import Object, Replica
from app.domain.migrations import ReplicaFacts
from app.domain.pins import Pin
from app.domain.states import ReplicaState

LIVE = (ReplicaState.SERVING, ReplicaState.VERIFIED, ReplicaState.DRAINING)


def of_object(session: Session, object_id: int) -> list[Replica]:
    """All that is known of where the object lies, deleted replicas included."""
    return list(session.scalars(select(Replica).where(Replica.object_id == object_id).order_by(Replica.id)))


def at(session: Session, object_id: int, site_id: int) -> Replica | None:
    """The object's replica at a site."""
    return session.scalar(select(Replica).where(Replica.object_id == object_id, Replica.site_id == site_id))


def facts(replica: Replica | None, version: int) -> ReplicaFacts | None:
    """The replica as a move sees it; version: the object's."""
    if replica is None:
        return None
    return ReplicaFacts(
        state=ReplicaState(replica.state),
        storage_class=replica.storage_class,
        current=replica.object_version == version,
        ours=replica.verified_at is not None,
        pin=Pin.from_json(replica.pin),
    )


def put(session: Session, object_id: int, site_id: int, pin: Pin | None, state: ReplicaState, **values: object) -> None:
    """Adds the replica, or replaces what was known of it. values: further columns."""
    columns: dict[str, object] = {
        "state": state,
        "pin": pin.as_json() if pin else {},
        "absent_scans": 0,
        "seen_at": func.now(),
        "draining_until": None,
        "deleted_at": None,
        **({"size": pin.size, "storage_class": pin.storage_class} if pin else {}),
        **values,
    }
    fresh = {"size": 0, "storage_class": "STANDARD", **columns}
    statement = insert(Replica).values(object_id=object_id, site_id=site_id, **fresh)
    session.execute(statement.on_conflict_do_update(index_elements=["object_id", "site_id"], set_=columns))


def set_state(
    session: Session,
    object_id: int,
    state: ReplicaState,
    *,
    only: Iterable[ReplicaState],
    site_id: int | None = None,
    but_site_id: int | None = None,
    **values: object,
) -> int:
    """Gives the object's replicas that are in one of the states `only` another one; returns how many."""
    statement = update(Replica).where(Replica.object_id == object_id, Replica.state.in_(list(only)))
    if site_id is not None:
        statement = statement.where(Replica.site_id == site_id)
    if but_site_id is not None:
        statement = statement.where(Replica.site_id != but_site_id)
    return len(session.scalars(statement.values(state=state, **values).returning(Replica.id)).all())


def carry_over(session: Session, object_id: int, old: int, new: int) -> None:
    """Serving replicas of version `old` are of version `new` too: only where copies lie has changed, not the bytes."""
    session.execute(
        update(Replica)
        .where(Replica.object_id == object_id, Replica.object_version == old, Replica.state == ReplicaState.SERVING)
        .values(object_version=new)
    )


def serving_at(session: Session, object_id: int) -> list[Replica]:
    """The replicas that serve the object's current version."""
    statement = (
        select(Replica)
        .join(Object)
        .where(
            Replica.object_id == object_id,
            Replica.state == ReplicaState.SERVING,
            Replica.object_version == Object.version,
        )
    )
    return list(session.scalars(statement))


def serving_elsewhere(session: Session, object_id: int, site_id: int) -> int:
    """How many other sites serve the object's current version."""
    return sum(replica.site_id != site_id for replica in serving_at(session, object_id))
