"""Replicas: which site holds which version of an object, in which state."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import func, select, tuple_, update
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


def set_states(
    session: Session,
    where: Sequence[tuple[int, int]],
    state: ReplicaState,
    *,
    only: Iterable[ReplicaState],
    **values: object,
) -> None:
    """As set_state, for many replicas, each given by its object's and its site's id."""
    if where:
        statement = update(Replica).where(
            tuple_(Replica.object_id, Replica.site_id).in_(where), Replica.state.in_(list(only))
        )
        options = {"synchronize_session": False}
        session.execute(statement.values(state=state, **values).execution_options(**options))


def carry_over(session: Session, object_ids: Sequence[int]) -> None:
    """Serving replicas of the version before are of the objects' new version too: only where copies lie has changed."""
    session.execute(
        update(Replica)
        .where(
            Replica.object_id.in_(object_ids),
            Replica.state == ReplicaState.SERVING,
            Object.id == Replica.object_id,
            Replica.object_version == Object.version - 1,
        )
        .values(object_version=Object.version)
        .execution_options(synchronize_session=False)
    )


def serve(session: Session, rows: Sequence[Mapping[str, object]], *, verified: bool) -> None:
    """Puts replicas in service, as many rows: what was known of one there is replaced.

    verified: each was proven equal to its source and carries its SHA-256; else that stays as it was.
    """
    if not rows:
        return
    statement = insert(Replica).values(
        state=ReplicaState.SERVING, seen_at=func.now(), class_since=func.now(), absent_scans=0,
        **({"verified_at": func.now()} if verified else {}),
    )  # fmt: skip
    changed = {*rows[0], "state", "seen_at", "class_since", "absent_scans", *(["verified_at"] if verified else [])}
    values: dict[str, object] = {name: statement.excluded[name] for name in changed - {"object_id", "site_id"}}
    values |= {"draining_until": None, "deleted_at": None}
    session.execute(statement.on_conflict_do_update(index_elements=["object_id", "site_id"], set_=values), list(rows))


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
