"""One migration's steps up to its switch, as they are saved: each under the claim's fence, in one transaction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.db import audit, budgets, changes, policies, replicas, sites
from app.db.migrations import ACTIVE, Claim, release_next
from app.db.tables import Json, Migration, MigrationPart, Object, Replica
from app.domain.migrations import COPIES, MoveFacts, admit, drains_source
from app.domain.pins import Pin
from app.domain.sites import SiteAddress
from app.domain.states import (
    MIGRATION_TRANSITIONS,
    MigrationState,
    MoveKind,
    ObjectState,
    ReplicaState,
    check_transition,
)
from app.errors import LeaseLost, SourceChanged

ACTOR = "worker"
"""Who stands in the audit log for what the engine does."""


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
    upload_id: str | None
    part_size: int | None
    attempts: int
    retries: int
    mismatches: int
    switched_at: datetime | None
    verified: bool
    cancel_requested: bool
    limits: Mapping[str, object]
    """The budget policy in force."""
    now: datetime

    @property
    def intent(self) -> str:
        """The mark on what this claim writes: a later claim of the same migration has a higher fence."""
        return f"{self.intent_id}.{self.claim.fence}"


@dataclass(frozen=True)
class Part:
    """A finished part of an upload."""

    number: int
    etag: str
    size: int
    sha256: str


def load(session: Session, claim: Claim) -> Work:
    """The claimed migration with the world around it. Raises LeaseLost."""
    held = (Migration.id == claim.id, Migration.fence == claim.fence, ACTIVE)
    joined = select(Migration, Object, func.now()).join(Object, Object.id == Migration.object_id).where(*held)
    found_row = session.execute(joined).one_or_none()
    if found_row is None:
        raise LeaseLost
    row, found, now = found_row
    known, rules = sites.by_id(session), policies.load(session)
    source = known[row.from_site_id or 0]
    destination = known[row.to_site_id or source.id]
    lies = {replica.site_id: replica for replica in replicas.of_object(session, found.id)}
    serving = [r for r in lies.values() if r.state == ReplicaState.SERVING and r.object_version == found.version]
    facts = MoveFacts(
        kind=MoveKind(row.kind),
        object_state=ObjectState(found.state),
        to_class=row.to_class,
        rules=rules.rules(found.key),
        source=sites.facts(source),
        source_replica=replicas.facts(lies.get(source.id), found.version),
        destination=sites.facts(destination),
        destination_replica=replicas.facts(lies.get(destination.id), found.version),
        elsewhere=sum(replica.site_id != source.id for replica in serving),
    )
    return Work(
        claim=claim,
        object_id=found.id,
        key=found.key,
        state=MigrationState(row.state),
        object_version=found.version,
        facts=facts,
        source=sites.address(source),
        source_id=source.id,
        destination=sites.address(destination),
        destination_id=destination.id,
        intent_id=row.intent_id,
        pin=Pin.from_json(row.pin),
        result_pin=Pin.from_json(row.result_pin),
        sha256=row.sha256,
        upload_id=row.upload_id,
        part_size=row.part_size,
        attempts=row.attempts,
        retries=row.retries,
        mismatches=row.mismatches,
        switched_at=row.switched_at,
        verified=row.verified_at is not None,
        cancel_requested=row.cancel_requested,
        limits=rules.document("budget"),
        now=now,
    )


def witnesses(session: Session, work: Work) -> dict[int, tuple[SiteAddress, Pin]]:
    """Where else the object's current version is served, by site id, with what was last seen there."""
    held = replicas.serving_at(session, work.object_id)
    known = {replica.site_id: Pin.from_json(replica.pin) for replica in held if replica.site_id != work.source_id}
    found = sites.by_id(session)
    return {site_id: (sites.address(found[site_id]), pin) for site_id, pin in known.items() if pin}


# -- Before the switch ------------------------------------------------------------------------------------------------


def begin(session: Session, work: Work, pin: Pin) -> Work:
    """The source is pinned: an attempt starts. Counts it, reserves its budget, marks the destination as being written.

    A pin that differs from what the catalogue knew is an owner's write, and is kept as that. Raises OverBudget,
    LeaseLost, or SourceChanged when the source may no longer be what it was when the move was admitted.
    """
    found = changes.lock(session, work.object_id)
    _same_version(work, found)
    _note_pin(session, work, pin)
    row = mine(session, work.claim)
    if row.reserved_on:
        budgets.give_back(session, row.reserved_on, budgets.Cost(row.bytes_total, row.one_off))
    row.reserved_on = budgets.reserve(session, work.now, budgets.Cost(pin.size, row.one_off), work.limits)
    if work.facts.kind is not MoveKind.REMOVE:
        go(row, MigrationState.COPYING)
    row.reason, row.attempts, row.bytes_total = None, row.attempts + 1, pin.size
    row.pin, row.object_version = pin.as_json(), found.version
    clear_copy(session, row, keep_upload=work.pin is not None and pin.same_object(work.pin))
    if work.facts.kind in COPIES:
        _mark_destination(session, work, pin, found.version)
    session.flush()
    upload = (row.upload_id, row.part_size)
    return replace(
        work, pin=pin, object_version=found.version, upload_id=upload[0], part_size=upload[1], verified=False
    )


def _same_version(work: Work, found: Object) -> None:
    if found.version != work.object_version or found.state != ObjectState.PRESENT:
        raise SourceChanged("the catalogue learned of a newer version meanwhile")


def _note_pin(session: Session, work: Work, pin: Pin) -> None:
    replica = replicas.at(session, work.object_id, work.source_id)
    known = Pin.from_json(replica.pin) if replica else None
    if known and not pin.same_object(known):
        changes.put_seen(session, work.object_id, work.source_id, pin)
    elif replica:
        replica.pin, replica.storage_class, replica.size = pin.as_json(), pin.storage_class, pin.size


def _mark_destination(session: Session, work: Work, pin: Pin, version: int) -> None:
    """A replica row in state copying; what is known of an older copy there stays, since it may be overwritten."""
    values = {"state": ReplicaState.COPYING, "object_version": version, "size": pin.size, "deleted_at": None}
    fresh = values | {"storage_class": work.facts.to_class or "STANDARD", "pin": {}}
    there = work.facts.destination_replica
    if there and there.state in (ReplicaState.DELETED, ReplicaState.LOST):
        values |= {"pin": {}, "verified_at": None}
    statement = insert(Replica).values(object_id=work.object_id, site_id=work.destination_id, **fresh)
    session.execute(statement.on_conflict_do_update(index_elements=["object_id", "site_id"], set_=values))


def set_upload(session: Session, claim: Claim, upload_id: str, part_size: int) -> None:
    """Keeps an upload's id before any part is sent, so that it can be gone on with or aborted. Raises LeaseLost."""
    row = mine(session, claim)
    clear_copy(session, row, keep_upload=False)
    row.upload_id, row.part_size = upload_id, part_size


def add_part(session: Session, claim: Claim, part: Part) -> None:
    """Keeps a finished part before the next is sent. Raises LeaseLost."""
    row = mine(session, claim)
    row.bytes_done = row.bytes_done + part.size
    statement = insert(MigrationPart).values(
        migration_id=claim.id, part_number=part.number, etag=part.etag, size=part.size, sha256=part.sha256
    )
    replaced = {"etag": part.etag, "size": part.size, "sha256": part.sha256}
    session.execute(statement.on_conflict_do_update(index_elements=["migration_id", "part_number"], set_=replaced))


def parts(session: Session, migration_id: int) -> list[Part]:
    """The finished parts, in order."""
    rows = select(MigrationPart).where(MigrationPart.migration_id == migration_id).order_by(MigrationPart.part_number)
    return [Part(row.part_number, row.etag, row.size, row.sha256) for row in session.scalars(rows)]


def clear_copy(session: Session, row: Migration, *, keep_upload: bool) -> None:
    """Forgets what was copied so far, its ledger of parts only unless the upload is gone on with."""
    row.sha256, row.result_pin, row.verified_at = None, None, None
    if not keep_upload:
        row.upload_id, row.part_size, row.bytes_done = None, None, 0
        session.execute(delete(MigrationPart).where(MigrationPart.migration_id == row.id))


def verified(session: Session, work: Work, sha256: str | None, result: Pin) -> Work:
    """The copy was proven equal to the pinned source. sha256: None after a change of class. Raises LeaseLost."""
    row = mine(session, work.claim)
    if row.state != MigrationState.COPYING:  # an earlier claim's work is adopted
        go(row, MigrationState.COPYING)
    go(row, MigrationState.VERIFIED)
    row.sha256, row.result_pin = sha256, result.as_json()
    row.verified_at, row.bytes_done = func.now(), row.bytes_total
    if work.facts.kind in COPIES:
        replicas.set_state(
            session, work.object_id, ReplicaState.VERIFIED, only=(ReplicaState.COPYING,), site_id=work.destination_id
        )
    return replace(work, sha256=sha256, result_pin=result, verified=True)


# -- The switch -------------------------------------------------------------------------------------------------------


def switch(session: Session, work: Work, grace_s: float) -> MigrationState:
    """Makes the new replica the one to read, all at once: catalogue, budget, migration, audit. Returns the new state.

    Raises SourceChanged when the object is no longer of the version that was copied, LeaseLost, or Blocked when a
    removal would leave too few copies by now.
    """
    found = changes.lock(session, work.object_id)
    _same_version(work, found)
    row = mine(session, work.claim)
    if work.facts.kind is MoveKind.REMOVE:  # another copy may have been found lost since
        admit(replace(work.facts, elsewhere=replicas.serving_elsewhere(session, found.id, work.source_id)))
    found.version, found.moved_at = found.version + 1, func.now()
    session.flush()
    replicas.carry_over(session, found.id, work.object_version, found.version)
    drains = drains_source(work.facts.kind, work.facts.rules)
    if work.result_pin:
        _serve(session, work, work.result_pin, found.version)
    if drains:
        _drain(session, work, grace_s)
    budgets.settle(session, row.reserved_on, work.now, budgets.Cost(row.bytes_total, row.one_off))
    kept = work.facts.kind is MoveKind.MOVE and not drains
    go(row, MigrationState.SWITCHED if drains else MigrationState.DONE)
    row.reason = "source_kept_readers_direct" if kept else None
    row.reserved_on, row.attempts, row.error = None, 0, None
    row.switched_at, row.lease_until = func.now(), None
    row.next_attempt_at = func.now() + timedelta(seconds=grace_s)
    audit.append(session, ACTOR, "migration.switch", f"migration {row.id}", _switch_data(work, found.version))
    if not drains:
        row.finished_at = func.now()
    session.flush()
    state = MigrationState(row.state)
    if not drains:
        release_next(session, row.id, state)
    return state


def _serve(session: Session, work: Work, result: Pin, version: int) -> None:
    replicas.put(
        session,
        work.object_id,
        work.destination_id,
        result,
        ReplicaState.SERVING,
        object_version=version,
        class_since=func.now(),
        **({"sha256": work.sha256, "verified_at": func.now()} if work.facts.kind in COPIES else {}),
    )


def _drain(session: Session, work: Work, grace_s: float) -> None:
    until = func.now() + timedelta(seconds=grace_s)
    replicas.set_state(
        session,
        work.object_id,
        ReplicaState.DRAINING,
        only=(ReplicaState.SERVING,),
        site_id=work.source_id,
        draining_until=until,
    )


def _switch_data(work: Work, version: int) -> Json:
    return {
        "key": work.key,
        "kind": work.facts.kind,
        "from": work.source.name,
        "to": work.destination.name,
        "class": work.facts.to_class,
        "version": version,
        "sha256": work.sha256,
        "pin": work.pin.as_json() if work.pin else None,
        "result_pin": work.result_pin.as_json() if work.result_pin else None,
    }


def go(row: Migration, state: MigrationState) -> None:
    """Gives the migration its next state. Raises Conflict for a transition that is not in the table."""
    if row.state != state:
        check_transition(MIGRATION_TRANSITIONS, MigrationState(row.state), state)
        row.state = state


def mine(session: Session, claim: Claim) -> Migration:
    """The row, locked, while the claim is still ours. Raises LeaseLost."""
    statement = select(Migration).where(Migration.id == claim.id, Migration.fence == claim.fence, ACTIVE)
    row = session.scalar(statement.with_for_update(), execution_options={"populate_existing": True})
    if row is None:
        raise LeaseLost
    return row
