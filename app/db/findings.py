"""Findings of scrubs: opened, seen again, resolved when a scrub no longer finds them, listed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.db import alerts
from app.db.tables import Finding, Site
from app.domain.pins import Pin
from app.domain.scrub import FindingKind, Suspicion, Why


def note(
    session: Session, site_id: int, key: str, found: Suspicion, pin: Pin | None, intent: str | None, since: datetime
) -> bool:
    """Opens a finding, or notes that it was seen again; False when it was noted since `since` already.

    pin: what stands at the site.
    """
    same = (Finding.site_id == site_id, Finding.key == key, Finding.kind == found.kind, Finding.resolved_at.is_(None))
    if session.scalar(select(Finding.id).where(*same, Finding.last_seen_at >= since)) is not None:
        return False
    values = {
        "why": found.why,
        "size": pin.size if pin else None,
        "pin": pin.as_json() if pin else {},
        "intent": intent,
        "last_seen_at": func.now(),
    }
    statement = insert(Finding).values(site_id=site_id, key=key, kind=found.kind, **values)
    session.execute(
        statement.on_conflict_do_update(
            index_elements=["site_id", "key", "kind"], index_where=text("resolved_at is null"), set_=values
        )
    )
    return True


def resolve(session: Session, finding_id: int) -> None:
    """It is over."""
    session.execute(update(Finding).where(Finding.id == finding_id).values(resolved_at=func.now()))


def found(session: Session, site_id: int, prefix: str, since: datetime) -> dict[str, int]:
    """How many were seen since then, by what they count as."""
    seen = (Finding.site_id == site_id, func.starts_with(Finding.key, prefix), Finding.last_seen_at >= since)
    rows = session.execute(
        select(Finding.kind, Finding.why, func.count()).where(*seen).group_by(Finding.kind, Finding.why)
    )
    counted = Counter[str]()
    for kind, why, number in rows:
        counted[Suspicion(FindingKind(kind), Why(why)).counts_as] += number
    return dict(counted)


def end_scrub(session: Session, site_id: int, prefix: str, began: datetime) -> int:
    """Resolves what a scrub begun at `began` no longer found, raises or clears the site's alert; how many are open."""
    of_site = (Finding.site_id == site_id, Finding.resolved_at.is_(None))
    unseen = (*of_site, func.starts_with(Finding.key, prefix), Finding.last_seen_at < began)
    session.execute(update(Finding).where(*unseen).values(resolved_at=func.now()))
    site = session.get_one(Site, site_id).name
    counted = session.execute(select(Finding.kind, func.count()).where(*of_site).group_by(Finding.kind))
    left: dict[str, int] = dict(counted.all())
    if left:
        told = ", ".join(f"{count} {kind}" for kind, count in sorted(left.items()))
        message = f"{site} and the catalogue differ: {told}; see: foretide sites findings {site}"
        alerts.raise_alert(session, "scrub_findings", "warning", message, subject=site, data=left)
    else:
        alerts.clear(session, "scrub_findings", site)
    return sum(left.values())


def listing(
    session: Session,
    site_id: int,
    *,
    kind: FindingKind | None = None,
    resolved: bool = False,
    before_id: int | None = None,
    limit: int = 50,
) -> Sequence[Finding]:
    """A site's findings that are open, or resolved ones, the newest first."""
    statement = select(Finding).where(Finding.site_id == site_id).order_by(Finding.id.desc()).limit(limit)
    statement = statement.where(Finding.resolved_at.is_not(None) if resolved else Finding.resolved_at.is_(None))
    if kind is not None:
        statement = statement.where(Finding.kind == kind)
    return session.scalars(statement if before_id is None else statement.where(Finding.id < before_id)).all()
