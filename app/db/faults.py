"""Injected faults (chaos): always with an end."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.db.tables import Fault, Site


def inject(
    session: Session,
    site_id: int,
    kind: str,
    ttl_s: float,
    *,
    probability: float = 1.0,
    latency_ms: float | None = None,
    status: int | None = None,
) -> None:
    """From now on, for `ttl_s` seconds, requests to the site meet this fault; one a kind and site."""
    values = {
        "probability": probability,
        "latency_ms": latency_ms,
        "status": status,
        "expires_at": func.now() + timedelta(seconds=ttl_s),
    }
    statement = insert(Fault).values(site_id=site_id, kind=kind, **values)
    session.execute(statement.on_conflict_do_update(index_elements=["site_id", "kind"], set_=values))


def clear(session: Session, site_id: int | None = None, kinds: Collection[str] | None = None) -> int:
    """Ends the faults of a site, or all, those of some kinds only; returns how many."""
    statement = delete(Fault).returning(Fault.site_id)
    if site_id is not None:
        statement = statement.where(Fault.site_id == site_id)
    if kinds is not None:
        statement = statement.where(Fault.kind.in_(kinds))
    return len(session.scalars(statement).all())


def in_force(session: Session) -> list[tuple[Fault, str]]:
    """The faults that have not ended, each with its site's name."""
    statement = select(Fault, Site.name).join(Site).where(Fault.expires_at > func.now())
    return list(session.execute(statement.order_by(Site.name, Fault.kind)))
