"""Versions that moves have left in versioned buckets: noted when they are left, until they are removed by their ids."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import case, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.db import audit, sites
from app.db.migration_work import Work
from app.db.tables import Json, Object, OldVersion, Replica, Site
from app.domain.old_versions import VersionAction, VersionFacts, left_behind
from app.domain.pins import Pin
from app.domain.sites import SiteAddress
from app.domain.states import ObjectState, ReplicaState


@dataclass(frozen=True)
class Left:
    """A version that may be due to go."""

    id: int
    object_id: int
    key: str
    address: SiteAddress
    version_id: str
    pin: Pin
    copies: int | None
    """Replicas that serve the object's current version; None: the object is gone."""

    @property
    def told(self) -> Json:
        """As it stands in the audit log."""
        return {"key": self.key, "site": self.address.name, "version_id": self.version_id, "pin": self.pin.as_json()}


def note(session: Session, work: Work, pin: Pin) -> bool:
    """Notes that the move leaves the pinned version at its source; False where the bucket keeps no versions."""
    version_id = left_behind(pin, versioning=work.facts.source.capabilities.versioning)
    if version_id is None:
        return False
    row = {
        "object_id": work.object_id,
        "site_id": work.source_id,
        "migration_id": work.claim.id,
        "version_id": version_id,
        "pin": pin.as_json(),
        "size": pin.size,
    }
    statement = insert(OldVersion).values(row)
    again = {"left_at": func.now(), "ended_at": None, "reason": None, "pin": row["pin"], "migration_id": work.claim.id}
    unique = ["site_id", "object_id", "version_id"]
    session.execute(statement.on_conflict_do_update(index_elements=unique, set_=again))
    return True


def due(session: Session, age: timedelta, after_id: int, limit: int) -> list[Left]:
    """Versions that were left so long ago and still stand, in the order of their ids."""
    serves = (Replica.object_id == Object.id, Replica.state == ReplicaState.SERVING)
    copies = select(func.count()).where(*serves, Replica.object_version == Object.version).scalar_subquery()
    rows = session.execute(
        select(OldVersion, Object.key, Site, case((Object.state != ObjectState.GONE, copies)))
        .join(Object, Object.id == OldVersion.object_id)
        .join(Site, Site.id == OldVersion.site_id)
        .where(OldVersion.ended_at.is_(None), OldVersion.left_at <= func.now() - age, OldVersion.id > after_id)
        .order_by(OldVersion.id)
        .limit(limit)
    )
    return [
        Left(row.id, row.object_id, key, sites.address(site), row.version_id, pin, count)
        for row, key, site, count in rows
        if (pin := Pin.from_json(row.pin))
    ]


def intend(session: Session, left: Left, facts: VersionFacts) -> None:
    """Writes down under which conditions the version is about to be removed."""
    current = facts.current.as_json() if facts.current else None
    conditions = {"current": current, "locked": facts.locked, "copies": facts.copies, "rf": facts.rf}
    data = left.told | {"conditions": conditions}
    audit.append(session, "worker", "version.remove", f"object {left.object_id}", data)


def ended(session: Session, left: Left, action: VersionAction, reason: str) -> None:
    """The version does not stand any more, or is left for good."""
    session.execute(update(OldVersion).where(OldVersion.id == left.id).values(ended_at=func.now(), reason=reason))
    did = "version.kept" if action is VersionAction.KEEP else "version.removed"
    audit.append(session, "worker", did, f"object {left.object_id}", left.told | {"reason": reason})


def waits(session: Session, left: Left, reason: str) -> None:
    """The version may not go yet, and is looked at again."""
    session.execute(update(OldVersion).where(OldVersion.id == left.id).values(reason=reason))


def standing(session: Session) -> tuple[int, int]:
    """How many versions stand that moves have left, and their bytes."""
    count, size = session.execute(
        select(func.count(), func.coalesce(func.sum(OldVersion.size), 0)).where(OldVersion.ended_at.is_(None))
    ).one()
    return count, int(size)
