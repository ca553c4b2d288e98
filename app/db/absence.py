"""Replicas that whole scans did not find: counted, doubted when they are many at once, and gone once a look says so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from app.db import alerts, changes, replicas
from app.db.tables import Object, Replica, Site
from app.domain.objects import ABSENT_SCANS, is_believable
from app.domain.states import ReplicaState

ALERT = "objects_disappeared"


@dataclass(frozen=True)
class Absent:
    """A replica that so many scans have missed that it may be gone."""

    object_id: int
    key: str


def count_missed(session: Session, site_id: int, prefix: str, since: datetime) -> int:
    """Notes which replicas a whole scan, begun at `since`, did not find; returns how many.

    Those that a move has in hand are passed over: what it finds counts, and no transaction waits for another here.
    """
    missed = (
        select(Replica.id)
        .join(Object)
        .where(
            Replica.site_id == site_id,
            Replica.state == ReplicaState.SERVING,
            Replica.seen_at < since,
            func.starts_with(Object.key, prefix),
        )
        .with_for_update(key_share=True, skip_locked=True, of=Replica)
    )
    counted = update(Replica).where(Replica.id.in_(missed.scalar_subquery()))
    return len(session.scalars(counted.values(absent_scans=Replica.absent_scans + 1).returning(Replica.id)).all())


def doubt(session: Session, site_id: int) -> bool:
    """Whether so much of a site is absent at once that it is not believed: an alert says so, or is cleared."""
    there = (Replica.site_id == site_id, Replica.state == ReplicaState.SERVING)
    absent = func.count().filter(Replica.absent_scans >= ABSENT_SCANS)
    missing, held = session.execute(select(absent, func.count()).where(*there)).one()
    site = session.get_one(Site, site_id).name
    if is_believable(missing, held):
        alerts.clear(session, ALERT, site)
        return False
    message = (
        f"{site} does not show {missing} of the {held} objects that it served; none of them is taken for deleted."
        f" If they were: foretide objects scan --site {site} --believe-absent"
    )
    data = {"site": site, "absent": missing, "held": held}
    alerts.raise_alert(session, ALERT, "critical", message, subject=site, data=data)
    return True


def candidates(
    session: Session, site_id: int, prefix: str, since: datetime, after_id: int, limit: int
) -> Sequence[Absent]:
    """The next replicas by their object's id that may be gone, of those that the scan begun at `since` has missed."""
    rows = session.execute(
        select(Object.id, Object.key)
        .join(Replica)
        .where(
            Replica.site_id == site_id,
            Replica.state == ReplicaState.SERVING,
            Replica.absent_scans >= ABSENT_SCANS,
            Replica.seen_at < since,
            func.starts_with(Object.key, prefix),
            Object.id > after_id,
        )
        .order_by(Object.id)
        .limit(limit)
    )
    return [Absent(*row) for row in rows]


def gone(session: Session, site_id: int, object_ids: Sequence[int], since: datetime) -> int:
    """A look did not find these either; returns how many are gone, of those that nothing has changed since.

    An owner's original or the last replica means that the object is gone; another copy is lost, and the next plan makes
    it anew.
    """
    count = 0
    for object_id in sorted(object_ids):
        changes.lock(session, object_id)
        row = replicas.at(session, object_id, site_id)
        if row is None or row.state != ReplicaState.SERVING or row.seen_at >= since:
            continue
        count += 1
        if row.is_origin or not replicas.serving_elsewhere(session, object_id, site_id):
            changes.delete_seen(session, object_id, site_id, "absent_in_two_scans")
        else:
            replicas.set_state(session, object_id, ReplicaState.LOST, only=(ReplicaState.SERVING,), site_id=site_id)
    return count
