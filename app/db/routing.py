"""What routing reads and keeps: replicas of a key, samples of sites, decisions and their outcomes."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import func, insert, select, text, update
from sqlalchemy.orm import Session

from app.db.tables import EndpointSample, Json, Object, Replica, RouteDecision, Site
from app.domain.routing import Candidate, Route, Sample, SiteHealth, health
from app.domain.states import ObjectState, ReplicaState, SiteState
from app.errors import NotFound

WINDOW = timedelta(minutes=5)
PER_SITE = 100


@dataclass(frozen=True)
class Readable:
    """A key and the sites from which its current version can be read."""

    object_id: int
    key: str
    sites: dict[str, tuple[Site, Replica]]

    def candidates(self, healths: dict[int, SiteHealth]) -> list[Candidate]:
        """The replicas as routing sees them."""
        unknown = health(())
        return [
            Candidate(name, replica.storage_class, site.state != SiteState.UNREACHABLE, healths.get(site.id, unknown))
            for name, (site, replica) in self.sites.items()
        ]


def readable(session: Session, key: str) -> Readable:
    """The serving replicas whose pin equals the object's current version. Raises NotFound."""
    rows = session.execute(
        select(Object, Replica, Site)
        .join(Replica, Replica.object_id == Object.id)
        .join(Site, Site.id == Replica.site_id)
        .where(
            Object.key == key,
            Object.state == ObjectState.PRESENT,
            Replica.state == ReplicaState.SERVING,
            Replica.object_version == Object.version,
        )
    ).all()
    if not rows:
        raise NotFound("no readable replica is known for this key; scan its site first: foretide objects scan")
    return Readable(rows[0].Object.id, key, {row.Site.name: (row.Site, row.Replica) for row in rows})


def some_serving(session: Session, per_site: int) -> list[tuple[str, Site, Replica]]:
    """Up to `per_site` randomly chosen serving replicas of each site, with their keys."""
    rank = func.row_number().over(partition_by=Replica.site_id, order_by=func.random())
    ranked = select(Replica.id, rank.label("n")).where(Replica.state == ReplicaState.SERVING).subquery()
    rows = session.execute(
        select(Object.key, Site, Replica)
        .join(Replica, Replica.object_id == Object.id)
        .join(ranked, ranked.c.id == Replica.id)
        .join(Site, Site.id == Replica.site_id)
        .where(ranked.c.n <= per_site, Replica.object_version == Object.version)
    )
    return [(row.key, row.Site, row.Replica) for row in rows]


def healths(session: Session) -> dict[int, SiteHealth]:
    """Health by site id, from at most the last 100 samples of the last five minutes."""
    rank = func.row_number().over(partition_by=EndpointSample.site_id, order_by=EndpointSample.ts.desc())
    newest = (
        select(EndpointSample.site_id, EndpointSample.ts, EndpointSample.ok, EndpointSample.latency_ms, rank.label("n"))
        .where(EndpointSample.ts > func.now() - WINDOW)
        .subquery()
    )
    samples: dict[int, list[Sample]] = defaultdict(list)
    for row in session.execute(select(newest).where(newest.c.n <= PER_SITE).order_by(newest.c.ts)):
        samples[row.site_id].append(Sample(row.ok, row.latency_ms))
    return {site_id: health(found) for site_id, found in samples.items()}


def add_samples(session: Session, rows: Iterable[Json]) -> int:
    """Adds samples (site_id, source, ok and perhaps ts, latency_ms, load, in_flight, error); returns how many."""
    absent: Json = {"ts": func.now(), "load": None, "in_flight": None, "error": None, "latency_ms": None}
    found = [absent | row for row in rows]
    if found:
        session.execute(insert(EndpointSample).values(found))
    return len(found)


def samples(session: Session, site_id: int, limit: int) -> list[EndpointSample]:
    """The site's newest samples, newest first."""
    statement = select(EndpointSample).where(EndpointSample.site_id == site_id)
    return list(session.scalars(statement.order_by(EndpointSample.ts.desc()).limit(limit)))


def save_decision(session: Session, object_id: int, site_id: int, route: Route) -> str:
    """Keeps the decision and returns its id. A crash of the database may lose the last few: they are samples."""
    session.execute(text("set local synchronous_commit = off"))
    decision_id = uuid.uuid4().hex
    session.add(
        RouteDecision(
            id=decision_id,
            object_id=object_id,
            site_id=site_id,
            reason=route.reason,
            predicted_ms=route.predicted_ms,
            alternatives=list(route.alternatives),
        )
    )
    return decision_id


def save_outcome(session: Session, decision_id: str, outcome: Json) -> None:
    """Joins what came of a read to its decision, and counts it as a sample of the site. Raises NotFound.

    outcome: latency_ms, status, bytes and quality_score, the last two perhaps absent.
    """
    statement = update(RouteDecision).where(RouteDecision.id == decision_id).values(**outcome, outcome_at=func.now())
    site_id = session.scalar(statement.returning(RouteDecision.site_id))
    if site_id is None:
        raise NotFound(f"there is no decision {decision_id}")
    ok = outcome["status"] < 500
    add_samples(session, [{"site_id": site_id, "source": "read", "ok": ok, "latency_ms": outcome["latency_ms"]}])
