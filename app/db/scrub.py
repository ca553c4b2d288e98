"""A scrub's dumps and lines: the catalogue of a site before its listing, the listing, the catalogue after it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, delete, exists, func, insert, literal, or_, select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from app.db import changes, damage, findings, objects, replicas
from app.db.migrations import ACTIVE
from app.db.tables import Job, Migration, Object, Replica, ScrubLine
from app.domain.pins import Pin
from app.domain.scrub import Dumped, FindingKind, Mark, Suspicion, Why
from app.domain.states import JOB_FINAL, ReplicaState
from app.domain.tasks import TaskName

BY = "scrub"


@dataclass(frozen=True)
class Line:
    """One key of a scrub: the first dump, the listing between, and the dump after it."""

    key: str
    first: Dumped | None
    listed: Pin | None
    second: Dumped | None


def begin(session: Session, job_id: int, site_id: int, prefix: str) -> int:
    """The first dump: what the catalogue has at the site; returns how many replicas. Forgets what others have left."""
    ended = select(Job.id).where(Job.kind == TaskName.SCRUB, Job.state.in_(JOB_FINAL))
    session.execute(delete(ScrubLine).where(or_(ScrubLine.job_id == job_id, ScrubLine.job_id.in_(ended))))
    dumped = select(literal(job_id), Object.key, _dump()).join(Object).where(*_at(site_id, prefix))
    session.execute(insert(ScrubLine).from_select(["job_id", "key", "known"], dumped))
    return session.scalar(select(func.count()).where(ScrubLine.job_id == job_id)) or 0


def add_page(session: Session, job_id: int, page: Mapping[str, Pin]) -> None:
    """A page of the listing."""
    if page:
        rows = [{"job_id": job_id, "key": key, "listed": pin.as_json()} for key, pin in page.items()]
        statement = upsert(ScrubLine)
        changed = {"listed": statement.excluded["listed"]}
        session.execute(statement.on_conflict_do_update(index_elements=["job_id", "key"], set_=changed), rows)


def lines(session: Session, job_id: int, site_id: int, after: str | None, limit: int) -> list[Line]:
    """The next lines by key, beside the catalogue as it is now."""
    mine = select(ScrubLine).where(ScrubLine.job_id == job_id).order_by(ScrubLine.key).limit(limit)
    rows = session.scalars(mine if after is None else mine.where(ScrubLine.key > after)).all()
    now = _dumped(session, site_id, [row.key for row in rows])
    return [Line(row.key, Dumped.from_json(row.known), Pin.from_json(row.listed), now.get(row.key)) for row in rows]


def end(session: Session, job_id: int) -> None:
    """Forgets the scrub's lines."""
    session.execute(delete(ScrubLine).where(ScrubLine.job_id == job_id))


def mark_of(session: Session, site_id: int, key: str, intent: str | None) -> Mark:
    """Whose mark that is."""
    if intent is None:
        return Mark.NONE
    wrote = select(Migration, Object.key).join(Object).where(Migration.intent_id == intent.rpartition(".")[0])
    row = session.execute(wrote).first()
    if row is None:
        return Mark.UNRECORDED
    at = row.Migration.to_site_id or row.Migration.from_site_id
    return Mark.OURS if row.key == key and at == site_id else Mark.FOREIGN


def save(
    session: Session, site_id: int, line: Line, found: Suspicion, pin: Pin | None, intent: str | None, since: datetime
) -> bool:
    """Keeps a confirmed finding if the catalogue still is as both dumps have it; returns whether it is.

    A replica with wrong bytes is corrupt from now on, a copy of Foretide's that is not there lost. pin: what stands at
    the site; since: when the scrub began.
    """
    object_id = session.scalar(select(Object.id).where(Object.key == line.key))
    if object_id is not None:
        changes.lock(session, object_id)
    if _dumped(session, site_id, [line.key]).get(line.key) != line.second:
        return False
    findings.note(session, site_id, line.key, found, pin, intent, since)
    replica = replicas.at(session, object_id, site_id) if object_id is not None else None
    if replica and found.kind is FindingKind.MISSING:
        damage.missing(session, replica, BY)
    elif replica and found.kind is FindingKind.CORRUPT and replica.state != ReplicaState.CORRUPT:
        damage.corrupt(session, replica, BY)
        if pin and found.why is not Why.BYTES and replica.verified_at is not None:
            replica.pin, replica.size = pin.as_json(), pin.size  # what a repair may overwrite
    return True


def clock(session: Session) -> datetime:
    """The database's time."""
    return objects.clock(session)


def _dump() -> ColumnElement[Any]:
    moving = exists().where(Migration.object_id == Object.id, ACTIVE, Migration.fence > 0)
    return func.jsonb_build_object(
        "state", Replica.state, "pin", Replica.pin, "version", Replica.object_version, "moving", moving
    )


def _at(site_id: int, prefix: str) -> tuple[ColumnElement[bool], ...]:
    return (Replica.site_id == site_id, func.starts_with(Object.key, prefix))


def _dumped(session: Session, site_id: int, keys: list[str]) -> dict[str, Dumped | None]:
    rows = session.execute(
        select(Object.key, _dump())
        .select_from(Replica)
        .join(Object)
        .where(Replica.site_id == site_id, Object.key.in_(keys))
    )
    return {key: Dumped.from_json(known) for key, known in rows}
