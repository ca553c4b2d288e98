"""Sites: registered, probed, listed, and what their state means for moves that wait for them."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.db import alerts, migration_kept, secrets
from app.db.locks import NO_KEY, in_order
from app.db.tables import EndpointSample, Migration, Replica, Site
from app.domain.migrations import SiteFacts
from app.domain.price_books import SHIPPED
from app.domain.sites import Capabilities, SiteAddress, is_encrypted, parse_networks
from app.domain.states import MIGRATION_FINAL, MigrationState, ReplicaState, SiteState
from app.errors import Conflict, NotFound
from app.settings import get_settings

SAME_BUCKET = "same_bucket"
"""Why a site is refused that is another one under a second address."""


@dataclass(frozen=True)
class NewSite:
    """What POST /v1/sites gives."""

    name: str
    provider: str
    region: str
    endpoint_url: str
    bucket: str
    access_key: str
    secret_key: str
    classes: tuple[str, ...] = ()
    """Storage classes to be tried; empty: all of the provider's shipped price book."""
    latency_ms: float = 50.0
    capacity_bytes: int | None = None
    max_request_rate: float | None = None
    price_book_id: int | None = None


def add(session: Session, new: NewSite) -> Site:
    """Registers a site in state probing. Raises Conflict when the name is taken."""
    values = {
        "name": new.name,
        "provider": new.provider,
        "region": new.region,
        "endpoint_url": new.endpoint_url.rstrip("/"),
        "bucket": new.bucket,
        "access_key": new.access_key,
        "secret_key_encrypted": secrets.encrypt(new.secret_key),
        "classes": list(new.classes or _shipped_classes(new.provider)),
        "latency_ms": new.latency_ms,
        "capacity_bytes": new.capacity_bytes,
        "max_request_rate": new.max_request_rate,
        "price_book_id": new.price_book_id,
    }
    statement = insert(Site).values(values).on_conflict_do_nothing(index_elements=["name"])
    site: Site | None = session.scalar(statement.returning(Site))
    if site is None:
        raise Conflict(f"there is a site {new.name} already")
    return site


def _shipped_classes(provider: str) -> tuple[str, ...]:
    return tuple(entry.name for entry in SHIPPED[provider].classes) if provider in SHIPPED else ("STANDARD",)


def get(session: Session, name: str, *, lock: bool = False) -> Site:
    """The site; lock: nobody else changes it before the transaction ends. Raises NotFound."""
    wanted = select(Site).where(Site.name == name)
    site = session.scalar(wanted.with_for_update() if lock else wanted)
    if site is None:
        raise NotFound(f"there is no site {name}")
    return site


def listing(session: Session) -> list[Site]:
    """All sites, by name."""
    return list(session.scalars(select(Site).order_by(Site.name)))


def by_id(session: Session) -> dict[int, Site]:
    """All sites by id."""
    return {site.id: site for site in session.scalars(select(Site))}


def change(session: Session, name: str, **values: object) -> Site:
    """Sets columns of a site and counts its version up; a new `secret_key` is stored encrypted. Raises NotFound."""
    secret = values.pop("secret_key", None)
    if secret is not None:
        values["secret_key_encrypted"] = secrets.encrypt(str(secret))
    statement = update(Site).where(Site.name == name).values(**values, version=Site.version + 1).returning(Site)
    site: Site | None = session.scalar(statement, execution_options={"populate_existing": True})
    if site is None:
        raise NotFound(f"there is no site {name}")
    if "allow_unguarded_delete" in values or "capabilities" in values:
        migration_kept.look_again(session, "no_guarded_delete", site.id)
    return site


def remove(session: Session, name: str) -> None:
    """Forgets a site that holds nothing, and what stood there once. Raises NotFound, or Conflict while it is in use."""
    site = get(session, name)
    there = (Replica.site_id == site.id, Replica.state.not_in((ReplicaState.DELETED, ReplicaState.LOST)))
    held = session.scalar(select(func.count()).select_from(Replica).where(*there))
    if held:
        raise Conflict(f"{name} holds {held} replicas; move them away first: foretide sites evacuate {name}")
    uses = (Migration.from_site_id == site.id) | (Migration.to_site_id == site.id)
    busy = session.scalar(select(Migration.id).where(uses, Migration.state.not_in(MIGRATION_FINAL)).limit(1))
    if busy:
        raise Conflict(f"migration {busy} uses {name}; wait for it or cancel it")
    session.delete(site)
    session.flush()


def address(site: Site) -> SiteAddress:
    """How to reach the site, its secret decrypted."""
    return SiteAddress(
        name=site.name,
        endpoint_url=site.endpoint_url,
        region=site.region,
        bucket=site.bucket,
        access_key=site.access_key,
        secret_key=secrets.decrypt(site.secret_key_encrypted),
        networks=parse_networks(get_settings().site_networks),
        class_names=tuple(Capabilities.from_json(site.capabilities).class_names.items()),
    )


def classes_told(site: Site) -> dict[str, str]:
    """The site's classes by the names that its server gives them."""
    theirs = Capabilities.from_json(site.capabilities).class_names
    return {theirs.get(name, name): name for name in site.classes}


def facts(site: Site) -> SiteFacts:
    """The site as a move sees it."""
    capabilities = Capabilities.from_json(site.capabilities)
    return SiteFacts(
        name=site.name,
        state=SiteState(site.state),
        capabilities=capabilities,
        encrypted=is_encrypted(site.endpoint_url, capabilities, declared=site.encryption_declared),
        allow_unguarded_delete=site.allow_unguarded_delete,
        kms_keys=site.kms_keys,
    )


def record_probe(session: Session, site_id: int, capabilities: Capabilities) -> None:
    """Keeps what a full probe found; the site is ready, unless it is being drained."""
    site = session.get_one(Site, site_id, with_for_update=NO_KEY)
    site.capabilities, site.probed_at = capabilities.as_json(), func.now()
    migration_kept.look_again(session, "no_guarded_delete", site.id)
    _answers(session, site)


def record_answer(session: Session, site_id: int, latency_ms: float) -> None:
    """Keeps that a site answered: one that did not is ready again and moves that wait for it go on."""
    _sample(session, site_id, ok=True, latency_ms=latency_ms)
    _answers(session, session.get_one(Site, site_id, with_for_update=NO_KEY))


def record_silence(session: Session, site_id: int, state: SiteState, reason: str, detail: str) -> None:
    """Keeps that a site did not answer (unreachable) or did not let us in (refused), with an alert."""
    _sample(session, site_id, ok=False, error=reason)
    site = session.get_one(Site, site_id, with_for_update=NO_KEY)
    if site.state != SiteState.DRAINING:
        site.state, site.reason = state, detail
    if reason == SAME_BUCKET:
        site.probed_at = None  # a sign of life does not make it ready: the next full probe does
    alerts.raise_alert(session, "site_down", "critical", f"{site.name}: {detail}", subject=site.name)


def _answers(session: Session, site: Site) -> None:
    if site.state == SiteState.DRAINING or site.probed_at is None:
        return
    if site.state != SiteState.READY:
        site.state, site.reason = SiteState.READY, None
        alerts.clear(session, "site_down", site.name)
        waiting = (Migration.from_site_id == site.id) | (Migration.to_site_id == site.id)
        session.execute(
            update(Migration)
            .where(in_order(waiting, Migration.state == MigrationState.WAITING, Migration.reason == "site_unavailable"))
            .values(next_attempt_at=func.now())
        )


def _sample(
    session: Session, site_id: int, *, ok: bool, latency_ms: float | None = None, error: str | None = None
) -> None:
    sample = EndpointSample(site_id=site_id, ts=func.now(), source="probe", ok=ok, latency_ms=latency_ms, error=error)
    session.add(sample)
