"""Routing: which replica to read, the redirect to it, what came of it, and what is known of each site."""

from __future__ import annotations

from datetime import datetime
from itertools import count
from typing import Any

import structlog
from flask import Response
from pydantic import AwareDatetime, Field
from sqlalchemy.orm import Session

from app import auth, presign
from app.api.router import Router
from app.api.schemas import MAX_ID, In, Key, Out, Page
from app.db import policies, routing, sites, tees
from app.db.session import session_scope
from app.db.tables import Site
from app.domain.roles import Role
from app.domain.routing import UNKNOWN, Route, SiteHealth, choose
from app.errors import ForetideError, NotFound
from app.settings import get_settings

router = Router("routing")
log = structlog.get_logger()
_turns = count()
MAX_SAMPLES = 1000


class DecisionIn(In):
    """What is to be read, and by whom."""

    key: Key
    region: str | None = Field(None, max_length=64, description="Where the reader is.")
    sla_ms: float | None = Field(None, gt=0, description="The latency wished for; else that of the key's policy.")


class ReadIn(DecisionIn):
    """What is to be read, by whom, and whether the reader keeps what it reads for a planned copy."""

    tee: bool = Field(False, description="The reader would write the bytes where a plan wants them.")


class DecisionOut(Out):
    """Where a read should go and why."""

    decision_id: str
    site: str
    reason: str
    predicted_ms: float | None
    alternatives: list[dict[str, Any]]


class OutcomeIn(In):
    """What came of a read."""

    latency_ms: float = Field(ge=0)
    status: int = Field(ge=100, le=599)
    bytes: int | None = Field(None, ge=0, le=MAX_ID)
    quality_score: float | None = None


class SampleIn(In):
    """One observation of a site by the user's own monitoring."""

    ts: AwareDatetime | None = None
    ok: bool = True
    latency_ms: float | None = Field(None, ge=0)
    load: float | None = Field(None, ge=0)
    in_flight: int | None = Field(None, ge=0, le=MAX_ID)


class SamplesIn(In):
    """Observations of a site."""

    samples: list[SampleIn] = Field(min_length=1, max_length=MAX_SAMPLES)


class SampleOut(Out):
    """One observation of a site; `source` is probe, read or posted."""

    ts: datetime
    source: str
    ok: bool
    latency_ms: float | None
    load: float | None
    in_flight: int | None
    error: str | None


@router.post("/routing/decisions", Role.VIEWER, body=DecisionIn, answer=DecisionOut, limited=False)
def decide(body: DecisionIn) -> DecisionOut:
    """Which replica a read should go to."""
    with session_scope() as session:
        route, _, decision_id = _decide(session, body.key, body.sla_ms)
    return DecisionOut(
        decision_id=decision_id,
        site=route.site,
        reason=route.reason,
        predicted_ms=route.predicted_ms,
        alternatives=list(route.alternatives),
    )


@router.get("/read", Role.VIEWER, query=ReadIn, status=307, media="", limited=False)
def read(query: ReadIn) -> Response:
    """Sends the reader to the best replica by a presigned URL; Foretide-Decision names the decision.

    Foretide-Tee, where it stands, offers a planned copy to whoever asks with `tee` and an operator's token.
    """
    with session_scope() as session:
        route, site, decision_id = _decide(session, query.key, query.sla_ms)
        address = sites.address(site)
    url = presign.get_url(address, query.key, expires_s=get_settings().presign_ttl_s)
    headers = {"Location": url, "Foretide-Decision": decision_id, "Foretide-Site": route.site}
    if query.tee and get_settings().tee_limit and auth.identity().role.includes(Role.OPERATOR):
        headers |= _offer(query.key, site.id)
    return Response(status=307, headers=headers | {"Cache-Control": "no-store"})


def _offer(key: str, site_id: int) -> dict[str, str]:
    """The planned copy that the reader may write, if there is one; an offer that fails is none."""
    settings = get_settings()
    limits = tees.Limits(settings.tee_limit, settings.tee_lease_s, settings.max_attempts)
    try:
        with session_scope() as session:
            found = tees.offer(session, key, site_id, limits, auth.identity().name)
    except ForetideError as error:
        log.warning("no tee offered", key=key, reason=error.reason)
        return {}
    if found is None:
        return {}
    return {"Foretide-Tee": f"{found.migration_id}.{found.fence}", "Foretide-Tee-Until": found.expires_at.isoformat()}


@router.post("/routing/decisions/<decision_id>/outcome", Role.VIEWER, body=OutcomeIn, status=204, limited=False)
def outcome(decision_id: str, body: OutcomeIn) -> None:
    """Joins what came of a read to its decision; it counts as a sample of the site."""
    with session_scope() as session:
        routing.save_outcome(session, decision_id, body.model_dump(exclude_none=True))


@router.get("/routing/endpoints", Role.VIEWER, answer=Page)
def endpoints() -> dict[str, Any]:
    """What routing knows of each site."""
    with session_scope() as session:
        healths = routing.healths(session)
        items = [_endpoint(site, healths.get(site.id, UNKNOWN)) for site in sites.listing(session)]
    return {"items": items, "next_cursor": None}


@router.post("/sites/<name>/samples", Role.OPERATOR, body=SamplesIn, status=204)
def add_samples(name: str, body: SamplesIn) -> None:
    """Adds observations by the user's own monitoring."""
    with session_scope() as session:
        site_id = sites.get(session, name).id
        rows = [sample.model_dump(exclude_none=True) for sample in body.samples]
        routing.add_samples(session, [row | {"site_id": site_id, "source": "posted"} for row in rows])


@router.get("/sites/<name>/samples", Role.VIEWER, answer=Page)
def list_samples(name: str) -> dict[str, Any]:
    """The newest observations of a site, newest first."""
    with session_scope() as session:
        found = routing.samples(session, sites.get(session, name).id, MAX_SAMPLES)
        return {"items": [SampleOut.model_validate(sample) for sample in found], "next_cursor": None}


def _decide(session: Session, key: str, sla_ms: float | None) -> tuple[Route, Site, str]:
    found = routing.readable(session, key)
    wished = sla_ms if sla_ms is not None else policies.load(session).rules(key).sla_ms
    route = choose(found.candidates(routing.healths(session)), turn=next(_turns), sla_ms=wished)
    if route is None:
        raise NotFound("no replica of this key can be read")
    site, _ = found.sites[route.site]
    return route, site, routing.save_decision(session, found.object_id, site.id, route)


def _endpoint(site: Site, health: SiteHealth) -> dict[str, Any]:
    return {
        "site": site.name,
        "state": site.state,
        "reason": site.reason,
        "samples": health.samples,
        "predicted_ms": health.predicted_ms,
        "p95_ms": health.p95_ms,
        "error_rate": health.error_rate,
        "errors_in_row": health.errors_in_row,
    }
