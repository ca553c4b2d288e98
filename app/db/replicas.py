"""Replicas: which site holds which version of an object, in which state."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Executable,
    Text,
    cast,
    func,
    literal,
    select,
    text,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.orm import Session

from app.db.bulk import listed, lists, table
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


_BEGUN = listed(
    "begun", object_id=BigInteger(), site_id=BigInteger(), version=BigInteger(), size=BigInteger(), storage_class=Text()
)


def _begin_copies(*, forget: bool) -> Executable:
    given = _BEGUN.c
    chosen = select(
        given.object_id, given.site_id, literal(ReplicaState.COPYING.value), given.version, given.size,
        given.storage_class, text("'{}'::jsonb"),
    )  # fmt: skip
    names = ["object_id", "site_id", "state", "object_version", "size", "storage_class", "pin"]
    statement = insert(table(Replica)).from_select(names, chosen)
    values: dict[str, object] = {name: statement.excluded[name] for name in ("state", "object_version", "size")}
    if forget:  # when it was deleted is kept: what its owner writes there afterwards is newer than all that is known
        values |= {"pin": statement.excluded.pin, "verified_at": None}
        values["deleted_at"] = func.coalesce(table(Replica).c.deleted_at, func.now())
    return statement.on_conflict_do_update(index_elements=["object_id", "site_id"], set_=values)


_BEGIN_COPIES = {forget: _begin_copies(forget=forget) for forget in (True, False)}


def begin_copies(session: Session, rows: Sequence[tuple[int, int, int, int, str]], *, forget: bool) -> None:
    """Marks replicas as being written: rows of object, site, the object's version, bytes, storage class.

    forget: whatever was known of an older copy there; else that stays, since it may be overwritten.
    """
    if rows:
        names = ("object_id", "site_id", "version", "size", "storage_class")
        columns = dict(zip(names, zip(*rows, strict=True), strict=True))
        session.execute(_BEGIN_COPIES[forget], lists(columns))


_SERVING = listed(
    "given", object_id=BigInteger(), site_id=BigInteger(), version=BigInteger(), size=BigInteger(),
    storage_class=Text(), pin=Text(), sha256=Text(),
)  # fmt: skip


def _serve(*, verified: bool) -> Executable:
    given, now = _SERVING.c, func.now()
    columns: dict[str, ColumnElement[Any]] = {
        "object_id": given.object_id,
        "site_id": given.site_id,
        "object_version": given.version,
        "size": given.size,
        "storage_class": given.storage_class,
        "pin": cast(given.pin, JSONB),
        "state": literal(ReplicaState.SERVING.value),
        "seen_at": now,
        "class_since": now,
        "absent_scans": literal(0),
        **({"sha256": given.sha256, "verified_at": now} if verified else {}),
    }
    statement = insert(table(Replica)).from_select(list(columns), select(*columns.values()))
    values: dict[str, object] = {name: statement.excluded[name] for name in columns if not name.endswith("_id")}
    values |= {"draining_until": None, "deleted_at": None}
    return statement.on_conflict_do_update(index_elements=["object_id", "site_id"], set_=values)


_SERVE = {verified: _serve(verified=verified) for verified in (True, False)}


def serve(session: Session, rows: Sequence[tuple[int, int, int, Pin, str | None]], *, verified: bool) -> None:
    """Puts replicas in service: rows of object, site, the object's version, pin and SHA-256.

    What was known of a replica there is replaced. verified: each was proven equal to its source; else its SHA-256 and
    the time of its proof stay as they were.
    """
    if rows:
        columns: dict[str, Sequence[object]] = {
            "object_id": [row[0] for row in rows],
            "site_id": [row[1] for row in rows],
            "version": [row[2] for row in rows],
            "size": [row[3].size for row in rows],
            "storage_class": [row[3].storage_class for row in rows],
            "pin": [row[3].as_text() for row in rows],
            "sha256": [row[4] for row in rows],
        }
        session.execute(_SERVE[verified], lists(columns))


def serving_at(session: Session, *object_ids: int) -> list[Replica]:
    """The replicas that serve the objects' current versions, in the order of their ids."""
    statement = (
        select(Replica)
        .join(Object)
        .where(
            Replica.object_id.in_(object_ids),
            Replica.state == ReplicaState.SERVING,
            Replica.object_version == Object.version,
        )
        .order_by(Replica.id)
    )
    return list(session.scalars(statement))


def serving_elsewhere(session: Session, object_id: int, site_id: int) -> int:
    """How many other sites serve the object's current version."""
    return sum(replica.site_id != site_id for replica in serving_at(session, object_id))
