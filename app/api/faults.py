"""Chaos: faults injected at sites, always with an end. Registered only where FORETIDE_CHAOS is set."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

from pydantic import Field
from sqlalchemy.orm import Session

from app.api.audit import record
from app.api.router import Router
from app.api.schemas import In, Json, Page
from app.db import faults, sites
from app.db.session import session_scope
from app.domain.faults import DEFAULT_TTL_S, MAX_LATENCY_MS, MAX_TTL_S, FaultKind, wanted
from app.domain.roles import Role

router = Router("chaos")


class FaultsIn(In):
    """Faults of one site: true begins one, false ends it, what is left out stays as it is."""

    fail: bool | None = Field(None, description="The site does not answer.")
    latency: bool | None = Field(None, description="Every request takes `ms` longer.")
    throttle: bool | None = Field(None, description="The site answers `status` with Retry-After: 1.")
    corrupt: bool | None = Field(None, description="One byte of what is read is another.")
    p: float = Field(1.0, gt=0, le=1, description="Share of the requests that meet what begins here.")
    ms: float | None = Field(None, gt=0, le=MAX_LATENCY_MS, description="Milliseconds of latency; 1000 if left out.")
    status: Literal[429, 503] | None = Field(None, description="Answer of a throttled request; 503 if left out.")
    ttl: float = Field(DEFAULT_TTL_S, gt=0, le=MAX_TTL_S, description="Seconds until what begins here ends by itself.")


@router.get("/chaos", Role.VIEWER, answer=Page)
def list_faults() -> Json:
    """The faults in force, by site."""
    with session_scope() as session:
        return {"items": in_force(session), "next_cursor": None}


@router.put("/chaos/sites/<name:name>", Role.OPERATOR, body=FaultsIn, answer=Page)
def put_faults(name: str, body: FaultsIn) -> Json:
    """Begins and ends faults of a site; answers those that are in force there."""
    with session_scope() as session:
        change(session, name, body)
        return {"items": in_force(session, name), "next_cursor": None}


@router.route("DELETE", "/chaos/sites/<name:name>", Role.OPERATOR, status=204)
def delete_site_faults(name: str) -> None:
    """Ends every fault of a site."""
    with session_scope() as session:
        recover(session, name)


@router.route("DELETE", "/chaos", Role.OPERATOR, status=204)
def delete_faults() -> None:
    """Ends every fault."""
    with session_scope() as session:
        clear(session)


def change(session: Session, name: str, body: FaultsIn) -> None:
    """Begins and ends faults as asked. Raises NotFound for the site, Invalid for values that belong to no fault."""
    site = sites.get(session, name)
    switches = {kind: getattr(body, kind.value) for kind in FaultKind}
    begun, ended = wanted(switches, probability=body.p, ttl_s=body.ttl, latency_ms=body.ms, status=body.status)
    for fault in begun:
        faults.inject(
            session, site.id, fault.kind, fault.ttl_s,
            probability=fault.probability, latency_ms=fault.latency_ms, status=fault.status,
        )  # fmt: skip
    faults.clear(session, site.id, ended)
    record(session, "chaos.put", name, body.model_dump(exclude_none=True))


def recover(session: Session, name: str) -> None:
    """Ends every fault of a site. Raises NotFound."""
    ended = faults.clear(session, sites.get(session, name).id)
    record(session, "chaos.recover", name, {"ended": ended})


def clear(session: Session) -> None:
    """Ends every fault."""
    record(session, "chaos.clear", "chaos", {"ended": faults.clear(session)})


def in_force(session: Session, name: str | None = None) -> list[Json]:
    """The faults in force, of one site or of all; `ttl`: seconds that are left."""
    now = datetime.now(UTC)
    return [
        {
            "site": site,
            "kind": row.kind,
            "p": row.probability,
            "ms": row.latency_ms,
            "status": row.status,
            "ttl": round(max(0.0, (row.expires_at - now).total_seconds()), 1),
            "expires_at": row.expires_at,
        }
        for row, site in faults.in_force(session)
        if name in (None, site)
    ]
