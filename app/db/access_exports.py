"""Days of accesses that lie at a site as Parquet: which are due, readable, and keep retention waiting (step: batch)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from sqlalchemy import func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.db import access_days, partitions
from app.db.tables import AccessExport, Site


@dataclass(frozen=True)
class Exported:
    """A day's file as it was proven at its site."""

    day: date
    rows: int
    bytes: int
    blocks: int
    """Ingested blocks of the day that were there before it was read."""
    sha256: str
    etag: str


def due(session: Session, before: datetime) -> list[date]:
    """Days that ended before an aware time and whose newest accesses are in no export; in their order.

    A day with blocks that are not rolled up yet is left for the next time.
    """
    days = partitions.days(session)
    found = []
    for day in days:
        if partitions.start(day + timedelta(days=1)) > before:
            continue
        blocks, open_blocks = access_days.blocks(session, day)
        if blocks and not open_blocks and not _is_current(session.get(AccessExport, day), blocks):
            found.append(day)
    return found


def unsaved(session: Session, days: Sequence[date]) -> list[date]:
    """Those of the days that retention must not drop yet: they have accesses that are in no export.

    No access is added to any of them from here to the transaction's end.
    """
    if days:  # as dropping needs anyway; blocks of one day go straight into its partition, past the lock of the whole
        tables = ", ".join(["only access", *map(partitions.name_of, days)])
        session.execute(text(f"lock table {tables} in access exclusive mode"))
    kept = []
    for day in days:
        blocks, _ = access_days.blocks(session, day)
        if blocks and not _is_current(session.get(AccessExport, day), blocks):
            kept.append(day)
    return kept


def save(session: Session, site_id: int, key: str, exported: Exported) -> int:
    """Records a day's file, which is proven; returns its version."""
    values = {
        "site_id": site_id,
        "key": key,
        "rows": exported.rows,
        "bytes": exported.bytes,
        "blocks": exported.blocks,
        "sha256": exported.sha256,
        "etag": exported.etag,
        "exported_at": func.now(),
    }
    statement = insert(AccessExport).values(day=exported.day, version=1, **values)
    changed = statement.on_conflict_do_update(
        index_elements=["day"], set_={**values, "version": AccessExport.version + 1}
    )
    return int(session.execute(changed.returning(AccessExport.version)).scalar_one())


def readable(session: Session, days: Sequence[date]) -> dict[date, tuple[AccessExport, Site]]:
    """The files of those of the days that are read from their export.

    These are the days whose export holds all that the database has, or that the database has no more.
    """
    gone = set(partitions.missing(session, days))
    rows = session.execute(select(AccessExport, Site).join(Site).where(AccessExport.day.in_(list(days)))).all()
    return {
        export.day: (export, site)
        for export, site in rows
        if export.day in gone or _is_current(export, access_days.blocks(session, export.day)[0])
    }


def listing(session: Session, before: date | None, limit: int) -> list[tuple[AccessExport, str]]:
    """Exports with their site's name, the newest day first."""
    wanted = select(AccessExport, Site.name).join(Site).order_by(AccessExport.day.desc()).limit(limit)
    rows = session.execute(wanted.where(AccessExport.day < before) if before else wanted).all()
    return [(row[0], row[1]) for row in rows]


def of(session: Session, day: date) -> AccessExport | None:
    """The day's export, if there is one."""
    return session.get(AccessExport, day, populate_existing=True)


def _is_current(export: AccessExport | None, blocks: int) -> bool:
    return export is not None and blocks <= export.blocks
