"""Claimed migrations with the world around them, as their steps need it: read in bulk, in one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import date, datetime
from decimal import Decimal

from sqlalchemy import ColumnElement, func, select, tuple_
from sqlalchemy.orm import Session

from app.db import policies, prices, replicas, sites
from app.db.migrations import ACTIVE, Claim
from app.db.tables import Json, Migration, Object, Replica
from app.domain.fingerprints import Fingerprint
from app.domain.migrations import MoveFacts
from app.domain.pins import Pin
from app.domain.policies import Policies
from app.domain.restores import archives
from app.domain.sites import SiteAddress
from app.domain.states import MigrationState, MoveKind, ObjectState, ReplicaState, TeeState
from app.errors import LeaseLost


@dataclass(frozen=True)
class Work:
    """A claimed migration and all that its steps need, read in one transaction."""

    claim: Claim
    object_id: int
    key: str
    state: MigrationState
    object_version: int
    facts: MoveFacts
    source: SiteAddress
    source_id: int
    destination: SiteAddress
    """For a change of class or a removal the same as the source."""
    destination_id: int
    intent_id: str
    pin: Pin | None
    result_pin: Pin | None
    sha256: str | None
    source_sha256: str | None
    """What the catalogue knows of the source: of the bytes under `facts.source_replica.pin`."""
    upload_id: str | None
    part_size: int | None
    size: int
    """Bytes, as the catalogue knew them or the last pin had them."""
    attempts: int
    retries: int
    mismatches: int
    switched_at: datetime | None
    verified: bool
    cancel_requested: bool
    tee: TeeState | None
    tee_fence: int | None
    limits: Mapping[str, object]
    """The budget policy in force."""
    now: datetime

    @property
    def intent(self) -> str:
        """The mark on what this claim writes: a later claim of the same migration has a higher fence."""
        return f"{self.intent_id}.{self.claim.fence}"

    @property
    def may_be_teed(self) -> bool:
        """Whether a reader may have written the copy, and nobody has looked yet."""
        return self.tee in (TeeState.OFFERED, TeeState.WRITTEN)


def load(session: Session, claims: Iterable[Claim]) -> list[Work]:
    """Those of the claims that are still held, with the world around each, in the order of their ids."""
    held = select(Migration, Object, func.now()).join(Object, Object.id == Migration.object_id)
    found = session.execute(held.where(_held(claims)).order_by(Migration.id)).all()
    if not found:
        return []
    lies: dict[int, list[Replica]] = {row.Object.id: [] for row in found}
    for replica in session.scalars(select(Replica).where(Replica.object_id.in_(lies)).order_by(Replica.id)):
        lies[replica.object_id].append(replica)
    known, rules = _Sites(session), policies.load(session)
    return [_work(row, thing, now, lies[thing.id], known, rules) for row, thing, now in found]


class _Sites:
    """Addresses and facts of the sites, each worked out once a transaction."""

    def __init__(self, session: Session) -> None:
        rows = sites.by_id(session)
        books = prices.books(session, rows.values())
        self.address = {site_id: sites.address(site) for site_id, site in rows.items()}
        self.facts = {
            number: replace(sites.facts(site), archives=archives(books.get(site.name))) for number, site in rows.items()
        }


def _work(row: Migration, found: Object, now: datetime, held: list[Replica], known: _Sites, rules: Policies) -> Work:
    source_id = row.from_site_id or 0
    destination_id = row.to_site_id or source_id
    lies = {replica.site_id: replica for replica in held}
    serving = [r for r in held if r.state == ReplicaState.SERVING and r.object_version == found.version]
    facts = MoveFacts(
        kind=MoveKind(row.kind),
        key=found.key,
        object_state=ObjectState(found.state),
        to_class=row.to_class,
        rules=rules.rules(found.key, found.tags),
        source=known.facts[source_id],
        source_replica=replicas.facts(lies.get(source_id), found.version),
        destination=known.facts[destination_id],
        destination_replica=replicas.facts(lies.get(destination_id), found.version),
        elsewhere=sum(replica.site_id != source_id for replica in serving),
        is_over=row.useful_until is not None and now > row.useful_until,
    )
    return Work(
        claim=Claim(row.id, row.fence),
        object_id=found.id,
        key=found.key,
        state=MigrationState(row.state),
        object_version=found.version,
        facts=facts,
        source=known.address[source_id],
        source_id=source_id,
        destination=known.address[destination_id],
        destination_id=destination_id,
        intent_id=row.intent_id,
        pin=Pin.from_json(row.pin),
        result_pin=Pin.from_json(row.result_pin),
        sha256=row.sha256,
        source_sha256=there.sha256 if (there := lies.get(source_id)) else None,
        upload_id=row.upload_id,
        part_size=row.part_size,
        size=row.bytes_total,
        attempts=row.attempts,
        retries=row.retries,
        mismatches=row.mismatches,
        switched_at=row.switched_at,
        verified=row.verified_at is not None,
        cancel_requested=row.cancel_requested,
        tee=row.tee,
        tee_fence=row.tee_fence,
        limits=rules.document("budget"),
        now=now,
    )


@dataclass(frozen=True)
class Due:
    """What a replaced source's delete depends on beside the migration itself."""

    witnesses: tuple[tuple[SiteAddress, Pin], ...]
    """Where else the object's current version is served, with what was last seen there."""
    intended: bool
    """A delete may have been sent."""
    copied: Fingerprint | None
    """What the source carried as it was copied; None where nothing was."""


def due(session: Session, works: Sequence[Work]) -> dict[int, Due]:
    """By the migration's id, what is known now."""
    known = {site_id: sites.address(site) for site_id, site in sites.by_id(session).items()}
    serving: dict[int, list[Replica]] = {work.object_id: [] for work in works}
    for replica in replicas.serving_at(session, *serving):
        serving[replica.object_id].append(replica)
    columns = select(Migration.id, Migration.delete_intended_at, Migration.fingerprint)
    kept = {row.id: row for row in session.execute(columns.where(Migration.id.in_([work.claim.id for work in works])))}
    return {
        work.claim.id: Due(
            tuple(
                (known[replica.site_id], pin)
                for replica in serving[work.object_id]
                if replica.site_id != work.source_id and (pin := Pin.from_json(replica.pin))
            ),
            kept[work.claim.id].delete_intended_at is not None,
            Fingerprint.from_json(kept[work.claim.id].fingerprint),
        )
        for work in works
    }


def lock(session: Session, works: Sequence[Work]) -> None:
    """Holds the works' objects and migrations until the transaction ends, always in the same order."""
    lock_objects(session, works)
    held(session, [work.claim for work in works])


def mine(session: Session, claim: Claim) -> Migration:
    """The row, locked, while the claim is still ours. Raises LeaseLost."""
    statement = select(Migration).where(_held([claim])).with_for_update(key_share=True)
    row = session.scalar(statement, execution_options={"populate_existing": True})
    if row is None:
        raise LeaseLost
    return row


@dataclass
class Held:
    """What a step needs of a migration's row."""

    id: int
    state: MigrationState
    upload_id: str | None
    part_size: int | None
    bytes_total: int
    not_before: datetime | None
    one_off: Decimal
    restore_usd: Decimal | None
    restored_at: datetime | None
    reserved_on: date | None
    reserved: Json | None


_COLUMNS = [getattr(Migration, field.name) for field in fields(Held)]


def held(session: Session, claims: Iterable[Claim]) -> dict[int, Held]:
    """The migrations by id, locked in the order of their ids, of those claims that are still ours."""
    statement = select(*_COLUMNS).where(_held(claims)).order_by(Migration.id).with_for_update(key_share=True)
    return {row.id: Held(*row) for row in session.execute(statement)}


@dataclass(frozen=True)
class Version:
    """What an object is now."""

    version: int
    state: ObjectState


def lock_objects(session: Session, works: Sequence[Work]) -> dict[int, Version]:
    """The objects by id, held until the transaction ends, always in the order of their ids."""
    wanted = Object.id.in_({work.object_id for work in works})
    statement = (
        select(Object.id, Object.version, Object.state)
        .where(wanted)
        .order_by(Object.id)
        .with_for_update(key_share=True)
    )
    return {row.id: Version(row.version, row.state) for row in session.execute(statement)}


def _held(claims: Iterable[Claim]) -> ColumnElement[bool]:
    return tuple_(Migration.id, Migration.fence).in_([(claim.id, claim.fence) for claim in claims]) & ACTIVE
