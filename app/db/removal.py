"""Copies that nothing reads any more: found, claimed against migrations, and what came of their removal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from sqlalchemy import ColumnElement, and_, exists, func, or_, select, update
from sqlalchemy.orm import Session

from app.db import audit, changes, policies, replicas, sites
from app.db.migrations import ACTIVE
from app.db.tables import Finding, Job, Migration, Object, Replica, Site
from app.domain.pins import Pin
from app.domain.policies import Rules
from app.domain.scrub import FindingKind, Why
from app.domain.sites import SiteAddress
from app.domain.states import JobState, ObjectState, ReplicaState
from app.domain.tidying import Cause, Removal
from app.errors import Conflict, FieldError, NotFound

ACTOR = "worker"
UNFINISHED = (ReplicaState.COPYING, ReplicaState.VERIFIED)


@dataclass(frozen=True)
class Left:
    """A copy that may be removed, as one transaction has read it."""

    object_id: int
    key: str
    version: int
    site: str
    site_id: int
    address: SiteAddress
    rules: Rules
    cause: Cause
    pin: Pin | None
    proven: bool
    state: ReplicaState | None
    """None: the catalogue has no replica there."""
    not_before: datetime | None
    guarded: bool
    conditional: bool
    """Whether the site deletes on condition."""
    witnesses: tuple[tuple[SiteAddress, Pin], ...]
    """Where the current version is served, with what was last seen there."""


def set_grace(session: Session, site_id: int, grace_s: float) -> None:
    """Gives copies that went out of service without one a grace from now on: who has their address still reads them."""
    stale = (Replica.site_id == site_id, Replica.state == ReplicaState.STALE, Replica.draining_until.is_(None))
    until = func.now() + timedelta(seconds=grace_s)
    session.execute(update(Replica).where(*stale, Replica.verified_at.is_not(None)).values(draining_until=until))


def leftovers(session: Session, site_id: int, prefix: str, after_id: int, limit: int) -> list[Left]:
    """The next copies at a site that Foretide wrote and that nothing reads, of objects that no migration has."""
    written = or_(Replica.verified_at.is_not(None), Replica.pin == {})
    stale = and_(Replica.state == ReplicaState.STALE, written)
    which = or_(stale, Replica.state.in_((*UNFINISHED, ReplicaState.REMOVING)))
    where = (which, Replica.is_origin.is_(False), Object.state == ObjectState.PRESENT)
    return _load(session, site_id, prefix, after_id, limit, Cause.LEFTOVER, *where)


def of_gone(
    session: Session, site_id: int, after_id: int, limit: int, cause: Cause, keys: Sequence[str] | None = None
) -> list[Left]:
    """The next copies at a site of objects that their owner deleted."""
    where: list[ColumnElement[bool]] = [
        Object.state == ObjectState.GONE, Replica.state != ReplicaState.DELETED, Replica.pin != {}
    ]  # fmt: skip
    if keys is not None:
        where.append(Object.key.in_(keys))
    return _load(session, site_id, "", after_id, limit, cause, *where)


def dark(session: Session, site_id: int, prefix: str, after_id: int, limit: int) -> list[tuple[int, Left]]:
    """The next leftovers that scrubs found at a site, by the finding's id, of objects that are served elsewhere."""
    open_ones = (Finding.site_id == site_id, Finding.resolved_at.is_(None), Finding.id > after_id)
    rows = session.execute(
        select(Finding, Object)
        .join(Object, Object.key == Finding.key)
        .where(*open_ones, Finding.kind == FindingKind.DARK, Finding.why == Why.LEFTOVER, _idle())
        .where(func.starts_with(Finding.key, prefix), Object.state == ObjectState.PRESENT)
        .order_by(Finding.id)
        .limit(limit)
    ).all()
    known = _Known(session, site_id, [found.id for _, found in rows])
    return [
        (finding.id, known.left(found, replicas.at(session, found.id, site_id), Cause.LEFTOVER))
        for finding, found in rows
    ]


def _idle() -> ColumnElement[bool]:
    return ~exists().where(Migration.object_id == Object.id, ACTIVE)


def _load(
    session: Session, site_id: int, prefix: str, after_id: int, limit: int, cause: Cause, *where: ColumnElement[bool]
) -> list[Left]:
    rows = session.execute(
        select(Object, Replica)
        .join(Replica)
        .where(Replica.site_id == site_id, Object.id > after_id, func.starts_with(Object.key, prefix), _idle(), *where)
        .order_by(Object.id)
        .limit(limit)
    ).all()
    known = _Known(session, site_id, [found.id for found, _ in rows])
    return [known.left(found, replica, cause) for found, replica in rows]


class _Known:
    """What holds for all candidates of a batch, read once."""

    def __init__(self, session: Session, site_id: int, object_ids: Sequence[int]) -> None:
        self._site_id, self._rules = site_id, policies.load(session)
        rows: dict[int, Site] = sites.by_id(session)
        self._sites = {number: sites.address(site) for number, site in rows.items()}
        self._facts = sites.facts(rows[site_id])
        self._serving: dict[int, list[Replica]] = {}
        serving = (Replica.state == ReplicaState.SERVING, Replica.object_version == Object.version)
        found = session.scalars(select(Replica).join(Object).where(Replica.object_id.in_(object_ids), *serving))
        for replica in found:
            self._serving.setdefault(replica.object_id, []).append(replica)

    def left(self, found: Object, replica: Replica | None, cause: Cause) -> Left:
        """The candidate."""
        seen = [(self._sites[r.site_id], Pin.from_json(r.pin)) for r in self._serving.get(found.id, ())]
        elsewhere = tuple((address, pin) for address, pin in seen if pin and address.name != self._facts.name)
        can = self._facts.capabilities
        return Left(
            object_id=found.id,
            key=found.key,
            version=found.version,
            site=self._facts.name,
            site_id=self._site_id,
            address=self._sites[self._site_id],
            rules=self._rules.rules(found.key, found.tags),
            cause=cause,
            pin=Pin.from_json(replica.pin) if replica else None,
            proven=replica is not None and replica.verified_at is not None,
            state=ReplicaState(replica.state) if replica else None,
            not_before=replica.draining_until if replica else None,
            guarded=can.conditional_delete or can.versioning or self._facts.allow_unguarded_delete,
            conditional=can.conditional_delete,
            witnesses=elsewhere,
        )


def check_gone(session: Session, keys: Sequence[str]) -> None:
    """Raises NotFound for a key that is no object, Conflict for one that its owner has not deleted."""
    states = dict(session.execute(select(Object.key, Object.state).where(Object.key.in_(keys))).all())
    unknown = [key for key in keys if key not in states]
    if unknown:
        raise NotFound(f"there is no object {unknown[0]}")
    there = [FieldError(f"/keys/{i}", "is not gone") for i, key in enumerate(keys) if states[key] != ObjectState.GONE]
    if there:
        raise Conflict("only what its owner has deleted can be removed so", errors=tuple(there))


# -- Removed ----------------------------------------------------------------------------------------------------------


def claim(session: Session, left: Left, removal: Removal, found: Pin, mark: str) -> bool:
    """Keeps migrations off the copy and writes down why it is deleted; False when something has changed since.

    A migration that is made from now on does not copy there. mark: the job and fence that remove it; what another has
    in hand is taken over only when that one works no more.
    """
    row = _as_read(session, left)
    if row is False or (isinstance(row, Replica) and row.removing != mark and _is_held(session, row)):
        return False
    if row is None:
        replicas.put(session, left.object_id, left.site_id, found, ReplicaState.REMOVING, object_version=0)
        row = replicas.at(session, left.object_id, left.site_id)
    if isinstance(row, Replica):
        row.state, row.removing = ReplicaState.REMOVING, mark
        row.pin, row.size = found.as_json(), found.size
    _audit(session, left, "replica.delete", removal.reason, dict(removal.conditions))
    session.flush()
    return True


def absent(session: Session, left: Left) -> bool:
    """A look has not found the copy; returns whether the catalogue still is as it was read, and knows that now."""
    row = _as_read(session, left)
    if not isinstance(row, Replica):
        return row is None
    _deleted(session, left, row)
    return True


def removed(session: Session, left: Left, mark: str) -> None:
    """The copy was deleted. What somebody has written there meanwhile is left as it is."""
    changes.lock(session, left.object_id)
    row = replicas.at(session, left.object_id, left.site_id)
    if row is not None and row.state == ReplicaState.REMOVING and row.removing == mark:
        _deleted(session, left, row)


def kept(session: Session, left: Left, mark: str) -> None:
    """The copy was another than the one that was to be deleted: what was claimed is given back."""
    changes.lock(session, left.object_id)
    row = replicas.at(session, left.object_id, left.site_id)
    if row is not None and row.state == ReplicaState.REMOVING and row.removing == mark:
        row.state, row.removing = ReplicaState.STALE, None
        session.flush()


def _as_read(session: Session, left: Left) -> Replica | Literal[False] | None:
    """The replica, its object locked, if both still are as they were read and no migration has come; else False."""
    thing = changes.lock(session, left.object_id)
    row = session.scalar(
        select(Replica)
        .where(Replica.object_id == left.object_id, Replica.site_id == left.site_id)
        .execution_options(populate_existing=True)
    )
    state, pin = (ReplicaState(row.state), Pin.from_json(row.pin)) if row else (None, None)
    busy = session.scalar(select(Migration.id).where(ACTIVE, Migration.object_id == left.object_id).limit(1))
    same = (state, pin, thing.version) == (left.state, left.pin, left.version)
    return row if same and busy is None else False


def _is_held(session: Session, row: Replica) -> bool:
    """Whether the job that removes the copy works on it at this moment."""
    job_id, _, fence = (row.removing or "").partition(".")
    if row.state != ReplicaState.REMOVING or not job_id.isdigit() or not fence.isdigit():
        return False
    works = (Job.id == int(job_id), Job.fence == int(fence), Job.state == JobState.RUNNING)
    return session.scalar(select(Job.id).where(*works)) is not None


def _deleted(session: Session, left: Left, row: Replica) -> None:
    row.state, row.removing, row.draining_until = ReplicaState.DELETED, None, None
    row.deleted_at = func.now()
    _audit(session, left, "replica.deleted", left.cause, {})
    session.flush()


def _audit(session: Session, left: Left, action: str, reason: str, conditions: dict[str, object]) -> None:
    data = {"key": left.key, "site": left.site, "reason": reason, "conditions": conditions}
    audit.append(session, ACTOR, action, f"object {left.object_id}", data)
