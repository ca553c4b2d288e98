"""Uploads that migrations have begun: whose id is theirs, and which of them could have begun one that nobody kept."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.orm import Session

from app.db.tables import Migration, Object
from app.domain.migrations import COPIED, COPIES, EARLY
from app.domain.states import MIGRATION_FINAL, MoveKind
from app.domain.tidying import Claimant

BEGIN_UPLOADS = COPIES | {MoveKind.CLASS}


def stored(session: Session, site_id: int) -> list[tuple[int, str, str]]:
    """Migrations that wrote at the site and ended with an upload that is left: id, key, upload id."""
    ended = MIGRATION_FINAL - COPIED
    statement = (
        select(Migration.id, Object.key, Migration.upload_id)
        .join(Object)
        .where(_writes_at(site_id), Migration.upload_id.is_not(None), Migration.state.in_(ended))
        .order_by(Migration.id)
    )
    return [(migration_id, key, str(upload_id)) for migration_id, key, upload_id in session.execute(statement)]


def claimants(session: Session, site_id: int, keys: Sequence[str]) -> dict[str, list[Claimant]]:
    """The migrations that wrote at the site, by key."""
    now = session.scalars(select(func.now())).one()
    rows = session.execute(
        select(Migration, Object.key)
        .join(Object)
        .where(_writes_at(site_id), Migration.kind.in_(BEGIN_UPLOADS), Object.key.in_(keys))
        .where(Migration.started_at.is_not(None))
    )
    found: dict[str, list[Claimant]] = {}
    for row, key in rows:
        found.setdefault(key, []).append(_claimant(row, now))
    return found


def _writes_at(site_id: int) -> ColumnElement[bool]:
    """A change of class in place may name no destination."""
    in_place = and_(Migration.to_site_id.is_(None), Migration.from_site_id == site_id)
    return or_(Migration.to_site_id == site_id, in_place)


def _claimant(row: Migration, now: datetime) -> Claimant:
    active = row.state in EARLY
    lapsed = row.verified_at or row.finished_at or row.lease_until or now
    return Claimant(
        upload_id=row.upload_id,
        active=active,
        held=row.lease_until is not None and row.lease_until > now,
        began=row.started_at or now,
        lapsed=now if active else lapsed,
    )
