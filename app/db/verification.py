"""Replicas to be read again, and what was found of them: saved only while they are what was read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from app.db import changes, damage, migrations, sites
from app.db.locks import NO_KEY
from app.db.tables import Migration, Object, Replica, Site
from app.domain.pins import Pin
from app.domain.sites import SiteAddress
from app.domain.states import ObjectState, ReplicaState
from app.domain.verification import Judgement, Verdict

CHECKED = (ReplicaState.SERVING, ReplicaState.CORRUPT)
"""The states of replicas that are worth a look."""


@dataclass(frozen=True)
class Selection:
    """Which replicas: of keys, of a prefix, of one migration's object, at one site; all that are given must hold."""

    prefix: str | None = None
    keys: tuple[str, ...] | None = None
    site: str | None = None
    migration_id: int | None = None


@dataclass(frozen=True)
class Held:
    """A replica as it was read from the catalogue."""

    id: int
    object_id: int
    key: str
    site: str
    address: SiteAddress
    storage_class: str
    size: int
    state: ReplicaState
    object_version: int
    pin: Pin
    sha256: str | None
    current: bool
    """Whether it is of the object's current version; a corrupt one may be older."""
    elsewhere: str | None
    """What was recorded of the object's other serving replicas, if that is one thing."""

    @property
    def expected(self) -> str | None:
        """The SHA-256 that its bytes must have, as far as it is known."""
        return self.sha256 or self.elsewhere


def check(session: Session, selection: Selection) -> None:
    """Raises NotFound for a site or a migration that does not exist."""
    if selection.site is not None:
        sites.get(session, selection.site)
    if selection.migration_id is not None:
        migrations.get(session, selection.migration_id)


def count(session: Session, selection: Selection) -> int:
    """How many replicas there are to look at."""
    chosen = select(func.count()).select_from(Replica).join(Object).join(Site).where(*_chosen(selection))
    return session.scalar(chosen) or 0


def classes(session: Session, selection: Selection) -> list[tuple[str, str, list[int]]]:
    """The sizes of the replicas to look at, by site and class."""
    rows = session.execute(
        select(Site.name, Replica.storage_class, func.array_agg(Replica.size))
        .select_from(Replica)
        .join(Object)
        .join(Site)
        .where(*_chosen(selection))
        .group_by(Site.name, Replica.storage_class)
    )
    return [(site, storage_class, list(sizes)) for site, storage_class, sizes in rows]


def batch(session: Session, selection: Selection, after_id: int, limit: int) -> list[list[Held]]:
    """The replicas of the next objects by id, those of one object together."""
    ids = select(Object.id).join(Replica).join(Site).where(*_chosen(selection), Object.id > after_id)
    wanted = session.scalars(ids.distinct().order_by(Object.id).limit(limit)).all()
    addresses = {site.id: sites.address(site) for site in sites.listing(session)}
    rows = session.execute(
        select(Replica, Object.key, Site.name, Replica.object_version == Object.version)
        .join(Object)
        .join(Site)
        .where(*_chosen(selection), Object.id.in_(wanted))
        .order_by(Object.id, Replica.id)
    )
    recorded = _recorded(session, wanted)
    found: dict[int, list[Held]] = {object_id: [] for object_id in wanted}
    for replica, key, site, current in rows:
        known = recorded.get(replica.object_id, set())
        elsewhere = next(iter(known)) if len(known) == 1 else None
        found[replica.object_id].append(_held(replica, key, site, addresses[replica.site_id], current, elsewhere))
    return list(found.values())


def _recorded(session: Session, object_ids: Sequence[int]) -> dict[int, set[str]]:
    """What was recorded of the objects' serving replicas of the current version."""
    rows = session.execute(
        select(Replica.object_id, Replica.sha256)
        .join(Object)
        .where(Replica.object_id.in_(object_ids), Replica.state == ReplicaState.SERVING, Replica.sha256.is_not(None))
        .where(Replica.object_version == Object.version)
    )
    found: dict[int, set[str]] = {}
    for object_id, sha256 in rows:
        if sha256:
            found.setdefault(object_id, set()).add(sha256)
    return found


def expected(session: Session, key: str, site_id: int) -> str | None:
    """The SHA-256 that a replica's bytes must have: its own record, else what the others' say together."""
    row = session.execute(
        select(Object.id, Replica.sha256).join(Replica).where(Object.key == key, Replica.site_id == site_id)
    ).first()
    if row is None:
        return None
    known = _recorded(session, [row.id]).get(row.id, set())
    return row.sha256 or (next(iter(known)) if len(known) == 1 else None)


def _held(replica: Replica, key: str, site: str, address: SiteAddress, current: bool, elsewhere: str | None) -> Held:
    pin = Pin.from_json(replica.pin)
    if pin is None:
        raise ValueError("only replicas with a pin are chosen")
    return Held(
        replica.id, replica.object_id, key, site, address, replica.storage_class, replica.size,
        ReplicaState(replica.state), replica.object_version, pin, replica.sha256, current, elsewhere,
    )  # fmt: skip


def _chosen(selection: Selection) -> list[ColumnElement[bool]]:
    where: list[ColumnElement[bool]] = [
        Replica.state.in_(CHECKED), Replica.pin != {}, Object.state == ObjectState.PRESENT
    ]  # fmt: skip
    if selection.prefix:
        where.append(func.starts_with(Object.key, selection.prefix))
    if selection.keys is not None:
        where.append(Object.key.in_(selection.keys))
    if selection.site is not None:
        where.append(Site.name == selection.site)
    if selection.migration_id is not None:
        where.append(
            Object.id == select(Migration.object_id).where(Migration.id == selection.migration_id).scalar_subquery()
        )
    return where


def save(session: Session, held: Sequence[Held], judged: Mapping[str, Judgement], found_by: str) -> dict[str, Verdict]:
    """Keeps what was found of one object's replicas, by site; a replica that has changed since is `changed`."""
    changes.lock(session, held[0].object_id)
    return {each.site: _save(session, each, judged[each.site], found_by) for each in held}


def _save(session: Session, held: Held, judged: Judgement, found_by: str) -> Verdict:
    row = session.get_one(Replica, held.id, with_for_update=NO_KEY, populate_existing=True)
    now, verdict = Pin.from_json(row.pin), judged.verdict
    if now is None or not now.same_object(held.pin) or row.state != held.state:
        return Verdict.CHANGED
    if verdict is Verdict.CORRUPT and held.state is not ReplicaState.CORRUPT:
        damage.corrupt(session, row, found_by)
    elif verdict is Verdict.MISSING:
        damage.missing(session, row, found_by)
    elif verdict in (Verdict.GOOD, Verdict.RECORDED):
        row.checked_at = func.now()
        row.sha256 = judged.sha256 or row.sha256
        if held.state is ReplicaState.CORRUPT and judged.sha256:
            damage.mended(session, row)
    session.flush()
    return verdict
