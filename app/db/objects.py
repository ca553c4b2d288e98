"""Objects: found by scans, listed with filters, looked up by key."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import bindparam, exists, func, select, text, update
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.orm import Session

from app.db import changes, lives
from app.db.locks import NO_KEY
from app.db.tables import Migration, Object, Replica, Site
from app.domain.migrations import EARLY
from app.domain.objects import UNFINISHED, Finding, Known, judge
from app.domain.pins import Pin
from app.domain.states import ObjectState, ReplicaState
from app.errors import NotFound


@dataclass
class Scanned:
    """What a scan has found so far."""

    objects: int = 0
    bytes: int = 0
    new: int = 0
    changed: int = 0

    def add(self, other: Scanned) -> None:
        """Adds another page's counts."""
        self.objects += other.objects
        self.bytes += other.bytes
        self.new += other.new
        self.changed += other.changed


def clock(session: Session) -> datetime:
    """The database's time, by which rows are stamped."""
    return session.scalars(select(func.now())).one()


def unfinished(session: Session, site_id: int, keys: Iterable[str]) -> list[str]:
    """Those of the keys where a migration had begun to write at the site and came to nothing: they need a look."""
    left = (Replica.site_id == site_id, Replica.state.in_(UNFINISHED), Replica.pin == {})
    chosen = select(Object.key).join(Replica).where(*left, Object.key.in_(list(keys)))
    return list(session.scalars(chosen.order_by(Object.key)))


def save_page(
    session: Session, site_id: int, listed: Mapping[str, Pin], seen_at: datetime, marked: Collection[str] = ()
) -> Scanned:
    """Brings the catalogue in line with one page of a site's listing, in bulk.

    seen_at: when the scan began; marked: the keys among the unfinished whose object a migration has written.
    """
    _add_missing(session, list(listed))
    session.execute(
        select(Object.id).where(Object.key.in_(list(listed))).order_by(Object.id).with_for_update(key_share=True)
    )
    found = _judged(session, site_id, listed, marked)
    _save_new(session, site_id, found[Finding.NEW], seen_at)
    _save_same(session, site_id, found[Finding.SAME])
    for object_id, pin in found[Finding.CHANGED]:
        changes.put_seen(session, object_id, site_id, pin)
    _touch(session, site_id, [object_id for pairs in found.values() for object_id, _ in pairs], seen_at)
    sizes = sum(pin.size for pin in listed.values())
    return Scanned(len(listed), sizes, len(found[Finding.NEW]), len(found[Finding.CHANGED]))


def add_page(session: Session, site_id: int, told: Mapping[str, Pin]) -> Scanned:
    """Adds what an inventory tells of a site and the catalogue does not know there; what it knows stays as it is.

    An inventory is as old as its report: it adds objects, and never says that one has changed or is gone.
    """
    _add_missing(session, list(told))
    locked = select(Object.id).where(Object.key.in_(list(told))).order_by(Object.id).with_for_update(key_share=True)
    session.execute(locked)
    known = select(Replica.object_id).where(Replica.site_id == site_id).correlate(None)
    rows = session.execute(select(Object.id, Object.key).where(Object.key.in_(list(told)), Object.id.not_in(known)))
    new = sorted((object_id, told[key]) for object_id, key in rows)
    _save_new(session, site_id, new, clock(session))
    return Scanned(len(told), sum(pin.size for _, pin in new), len(new))


def save_tags(session: Session, tags: Mapping[str, Mapping[str, str]]) -> None:
    """Gives objects, by key, the tags that a site has of them; those of which it has none keep theirs."""
    rows = [{"k": key, "t": dict(tags[key])} for key in sorted(tags) if tags[key]]
    if rows:
        statement = update(Object).where(Object.key == bindparam("k")).values(tags=bindparam("t", type_=JSONB))
        session.connection().execute(statement, rows)


def _add_missing(session: Session, keys: Sequence[str]) -> None:
    if keys:
        rows = [{"key": key} for key in sorted(keys)]
        session.execute(insert(Object).on_conflict_do_nothing(index_elements=["key"]), rows)


def _judged(
    session: Session, site_id: int, listed: Mapping[str, Pin], marked: Collection[str]
) -> dict[Finding, list[tuple[int, Pin]]]:
    """What each listed line says, by object id in order: replicas and their migrations as one snapshot has them."""
    moving = exists().where(Migration.object_id == Object.id, Migration.state.in_(EARLY), Migration.fence > 0)
    rows = session.execute(
        select(Object.id, Object.key, Replica.state, Replica.pin, moving, Replica.deleted_at.is_not(None))
        .outerjoin(Replica, (Replica.object_id == Object.id) & (Replica.site_id == site_id))
        .where(Object.key.in_(list(listed)))
        .order_by(Object.id)
    )
    found: dict[Finding, list[tuple[int, Pin]]] = {finding: [] for finding in Finding}
    for object_id, key, state, pin, is_moving, was_deleted in rows:
        known = None
        if state:
            known = Known(ReplicaState(state), Pin.from_json(pin), is_moving, key in marked, was_deleted)
        found[judge(listed[key], known)].append((object_id, listed[key]))
    return found


def _save_new(session: Session, site_id: int, found: list[tuple[int, Pin]], seen_at: datetime) -> None:
    """Replicas that nobody knew, or knew what they hold: they serve, unless another site serves other bytes."""
    if not found:
        return
    served = _served(session, [object_id for object_id, _ in found])
    rows = []
    for object_id, pin in found:
        others = served.get(object_id, [])
        serves = all(other and other.etag == pin.etag and other.size == pin.size for other in others)
        rows.append(_new_row(object_id, site_id, pin, seen_at, serves=serves, is_origin=not others))
    statement = insert(Replica)
    given = {name: statement.excluded[name] for name in rows[0]}
    unknown = statement.on_conflict_do_update(
        index_elements=["object_id", "site_id"], set_=given, where=Replica.pin == {}
    )
    session.execute(unknown, rows)
    first = [(object_id, pin) for object_id, pin in found if object_id not in served]
    sizes = {object_id: pin.size for object_id, pin in first}
    chosen = select(Object).where(Object.id.in_(sizes)).with_for_update(key_share=True)
    things = session.scalars(chosen.execution_options(populate_existing=True)).all()
    lives.written(session, things, sizes)
    for thing in things:
        thing.state, thing.written_at = ObjectState.PRESENT, func.now()
    session.flush()
    _current_version(session, site_id, [object_id for object_id, _ in found])


def _served(session: Session, object_ids: list[int]) -> dict[int, list[Pin | None]]:
    """The pins of the serving replicas, by object; None of one whose write was only reported."""
    rows = select(Replica.object_id, Replica.pin).where(
        Replica.object_id.in_(object_ids), Replica.state == ReplicaState.SERVING
    )
    found: dict[int, list[Pin | None]] = {}
    for object_id, stored in session.execute(rows):
        found.setdefault(object_id, []).append(Pin.from_json(stored))
    return found


def _new_row(
    object_id: int, site_id: int, pin: Pin, seen_at: datetime, *, serves: bool, is_origin: bool
) -> dict[str, object]:
    return {
        "object_id": object_id,
        "site_id": site_id,
        "storage_class": pin.storage_class,
        "state": ReplicaState.SERVING if serves else ReplicaState.STALE,
        "is_origin": is_origin,
        "object_version": 0,
        "size": pin.size,
        "pin": pin.as_json(),
        "class_since": pin.last_modified,
        "seen_at": seen_at,
    }


def _current_version(session: Session, site_id: int, object_ids: list[int]) -> None:
    """New replicas were written with version 0: those that serve are of their object's version."""
    session.execute(
        update(Replica)
        .where(Replica.site_id == site_id, Replica.object_id.in_(object_ids), Replica.object_version == 0)
        .where(Replica.state == ReplicaState.SERVING, Object.id == Replica.object_id)
        .values(object_version=Object.version)
        .execution_options(synchronize_session=False)
    )


def _save_same(session: Session, site_id: int, found: list[tuple[int, Pin]]) -> None:
    """Replicas as they were known: a first pin, a class changed by a lifecycle rule, or a lost one that is back."""
    pins = dict(found)
    known = (
        select(Replica).where(Replica.site_id == site_id, Replica.object_id.in_(pins)).with_for_update(key_share=True)
    )
    first: dict[int, int] = {}
    for replica in session.scalars(known):
        pin = pins[replica.object_id]
        if not replica.pin:
            replica.pin, replica.size = pin.as_json(), pin.size
            if replica.state == ReplicaState.SERVING:  # its write was only reported: the size is the object's
                first[replica.object_id] = pin.size
        if replica.storage_class != pin.storage_class:
            replica.storage_class, replica.class_since = pin.storage_class, func.now()
            replica.pin = {**replica.pin, "storage_class": pin.storage_class}
        if replica.state == ReplicaState.LOST:
            replica.state = ReplicaState.SERVING
    if first:
        chosen = select(Object).where(Object.id.in_(first)).execution_options(populate_existing=True)
        lives.written(session, session.scalars(chosen).all(), first)
    session.flush()


def _touch(session: Session, site_id: int, object_ids: list[int], seen_at: datetime) -> None:
    session.execute(
        update(Replica)
        .where(Replica.site_id == site_id, Replica.object_id.in_(object_ids))
        .values(seen_at=func.greatest(Replica.seen_at, seen_at), absent_scans=0)
        .execution_options(synchronize_session=False)
    )


def by_key(session: Session, key: str) -> Object:
    """The object of this key. Raises NotFound."""
    found = session.scalar(select(Object).where(Object.key == key))
    if found is None:
        raise NotFound("there is no object of this key; scan its site first: foretide objects scan")
    return found


def get(session: Session, object_id: int, *, lock: bool = False) -> Object:
    """The object; lock: nobody else changes it before the transaction ends. Raises NotFound."""
    found = session.get(Object, object_id, with_for_update=NO_KEY if lock else None)
    if found is None:
        raise NotFound(f"there is no object {object_id}")
    return found


def listing(
    session: Session,
    *,
    site: str | None = None,
    tier: str | None = None,
    prefix: str | None = None,
    key: str | None = None,
    state: ObjectState | None = None,
    after_id: int | None = None,
    limit: int = 50,
) -> list[Object]:
    """Objects by id, from after `after_id`, that all the given filters hold for; site: one that serves them."""
    statement = select(Object).order_by(Object.id).limit(limit)
    if site is not None:
        there = select(Replica.id).join(Site).where(Replica.object_id == Object.id, Site.name == site)
        statement = statement.where(there.where(Replica.state == ReplicaState.SERVING).exists())
    if prefix is not None:
        statement = statement.where(func.starts_with(Object.key, prefix))
    wanted = {Object.tier: tier, Object.key: key, Object.state: state}
    statement = statement.where(*(column == value for column, value in wanted.items() if value is not None))
    if after_id is not None:
        statement = statement.where(Object.id > after_id)
    return list(session.scalars(statement))


def replicas_of(session: Session, object_ids: Sequence[int]) -> dict[int, list[tuple[Replica, str]]]:
    """Replicas that exist, with their site's name, by object."""
    found: dict[int, list[tuple[Replica, str]]] = {object_id: [] for object_id in object_ids}
    rows = (
        select(Replica, Site.name)
        .join(Site)
        .where(Replica.object_id.in_(object_ids), Replica.state != ReplicaState.DELETED)
        .order_by(Replica.id)
    )
    for replica, name in session.execute(rows):
        found[replica.object_id].append((replica, name))
    return found


def keys_after(session: Session, prefix: str, after_id: int, limit: int) -> dict[int, str]:
    """Keys by id of objects that are not gone, whose keys begin so, in the order of their ids."""
    rows = session.execute(
        text(
            "select id, key from object where state <> 'gone' and id > :after and starts_with(key, :prefix)"
            " order by id limit :limit"
        ),
        {"after": after_id, "prefix": prefix, "limit": limit},
    )
    return {row.id: row.key for row in rows}


def count_keys(session: Session, prefix: str) -> int:
    """How many objects that are."""
    found = text("select count(*) from object where state <> 'gone' and starts_with(key, :prefix)")
    return int(session.scalar(found, {"prefix": prefix}) or 0)


def sizes(session: Session, keys: Sequence[str]) -> dict[str, int | None]:
    """Sizes in bytes by key, of those that are in the catalogue; None where unknown."""
    rows = session.execute(text("select key, size from object where key = any(:keys)"), {"keys": list(keys)})
    return {row.key: row.size for row in rows}
