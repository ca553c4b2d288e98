"""A migration's steps before its switch, as they are saved: many at once, each under its own claim's fence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from json import dumps

from sqlalchemy import (
    BigInteger,
    Boolean,
    Date,
    Text,
    bindparam,
    case,
    cast,
    delete,
    func,
    null,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session

from app.db import budgets, changes, replicas
from app.db.budgets import Cost, Reserved
from app.db.bulk import listed, lists, table
from app.db.migration_work import Held, Version, Work, held, lock_objects
from app.db.tables import Migration, MigrationPart, Replica
from app.domain.fingerprints import Fingerprint
from app.domain.migrations import COPIES, requests_needed
from app.domain.pins import Pin
from app.domain.states import (
    MIGRATION_TRANSITIONS,
    MigrationState,
    MoveKind,
    ObjectState,
    ReplicaState,
    check_transition,
)
from app.errors import ForetideError, LeaseLost, OverBudget, SourceChanged

COPYING = MigrationState.COPYING
Outcome = Work | ForetideError
"""What came of one of several: the migration as it is now, or why it did not go on."""


_MIGRATION, _REPLICA = table(Migration), table(Replica)
_BEGUN = listed(
    "begun", migration_id=BigInteger(), state=Text(), size=BigInteger(), pin=Text(), version=BigInteger(),
    keeps=Boolean(), reserved=Text(),
)  # fmt: skip
_BEGIN = (
    update(_MIGRATION)
    .where(_MIGRATION.c.id == _BEGUN.c.migration_id)
    .values(
        state=_BEGUN.c.state,
        reason=null(),
        attempts=_MIGRATION.c.attempts + 1,
        bytes_total=_BEGUN.c.size,
        pin=cast(_BEGUN.c.pin, JSONB),
        object_version=_BEGUN.c.version,
        reserved_on=bindparam("day", type_=Date()),
        reserved=cast(_BEGUN.c.reserved, JSONB),
        sha256=null(),
        result_pin=null(),
        verified_at=null(),
        upload_id=case((_BEGUN.c.keeps, _MIGRATION.c.upload_id)),
        part_size=case((_BEGUN.c.keeps, _MIGRATION.c.part_size)),
        bytes_done=case((_BEGUN.c.keeps, _MIGRATION.c.bytes_done), else_=0),
    )
)
_PINNED = listed(
    "pinned", object_id=BigInteger(), site_id=BigInteger(), pin=Text(), storage_class=Text(), size=BigInteger()
)
_NOTE = (
    update(_REPLICA)
    .where(_REPLICA.c.object_id == _PINNED.c.object_id, _REPLICA.c.site_id == _PINNED.c.site_id)
    .values(pin=cast(_PINNED.c.pin, JSONB), storage_class=_PINNED.c.storage_class, size=_PINNED.c.size)
)
_PROVEN = listed("proven", migration_id=BigInteger(), sha256=Text(), pin=Text(), fingerprint=Text())
_VERIFY = (
    update(_MIGRATION)
    .where(_MIGRATION.c.id == _PROVEN.c.migration_id)
    .values(
        state=MigrationState.VERIFIED,
        sha256=_PROVEN.c.sha256,
        result_pin=cast(_PROVEN.c.pin, JSONB),
        fingerprint=func.coalesce(cast(_PROVEN.c.fingerprint, JSONB), _MIGRATION.c.fingerprint),
        verified_at=func.now(),
        bytes_done=_MIGRATION.c.bytes_total,
    )
)


@dataclass(frozen=True)
class Proven:
    """A copy that was shown to be equal to the pinned source."""

    work: Work
    pin: Pin
    sha256: str | None
    """None after a change of class, and of a copy in an archive that several claims have written."""
    copied: Fingerprint | None
    """What the source carried as it was copied; None after a change of class, which has kept that before."""


def begin(session: Session, pinned: Sequence[tuple[Work, Pin]]) -> dict[int, Outcome]:
    """The sources are pinned: an attempt at each starts. Returns what came of each, by the migration's id.

    Counts the attempt, reserves its budget, marks the destination as being written. A pin that differs from what the
    catalogue knew is an owner's write, and is kept as that. An outcome may be OverBudget, LeaseLost, or SourceChanged
    when the source may no longer be what it was when the move was admitted.
    """
    works = [work for work, _ in pinned]
    found, rows = lock_objects(session, works), held(session, [work.claim for work in works])
    outcomes: dict[int, Outcome] = {}
    startable: list[tuple[Work, Pin, Held]] = []
    for work, pin in pinned:
        row = rows.get(work.claim.id)
        changed = other_version(work, found[work.object_id])
        if changed or row is None:
            outcomes[work.claim.id] = changed if row and changed else LeaseLost()
        else:
            startable.append((work, pin, row))
    versions = _note_pins(session, startable)
    reserved = _reserve(session, startable)
    started = []
    for (work, pin, row), refusal in zip(startable, reserved.refusals, strict=True):
        if refusal:
            outcomes[work.claim.id] = refusal
            continue
        keeps = row.upload_id is not None and work.pin is not None and pin.same_object(work.pin)
        begun = replace(
            work, pin=pin, object_version=versions.get(work.object_id, work.object_version), size=pin.size,
            upload_id=row.upload_id if keeps else None, part_size=row.part_size if keeps else None, verified=False,
        )  # fmt: skip
        started.append((begun, row))
        outcomes[work.claim.id] = begun
    _forget_reserved(session, [row.id for _, _, row in startable if isinstance(outcomes[row.id], OverBudget)])
    if started:
        _start(session, started, reserved.day)
        _mark_destinations(session, [work for work, _ in started])
    return outcomes


def other_version(work: Work, found: Version) -> SourceChanged | None:
    """Why the work cannot go on, if the catalogue has learned of another version since it was loaded."""
    if found.version != work.object_version or found.state != ObjectState.PRESENT:
        return SourceChanged("the catalogue learned of a newer version meanwhile")
    return None


def _note_pins(session: Session, started: Sequence[tuple[Work, Pin, Held]]) -> dict[int, int]:
    """What the looks at the sources found, in the catalogue; returns the versions that it did not know, by object."""
    at = [(work.object_id, work.source_id) for work, _, _ in started]
    which = tuple_(Replica.object_id, Replica.site_id).in_(at)
    known = {row.object_id: row.pin for row in session.execute(select(Replica.object_id, Replica.pin).where(which))}
    versions: dict[int, int] = {}
    news: list[tuple[Work, Pin]] = []
    for work, pin, _ in started:
        before = Pin.from_json(known.get(work.object_id))
        if before and not pin.same_object(before):
            versions[work.object_id] = changes.put_seen(session, work.object_id, work.source_id, pin)
        elif work.object_id in known and pin != before:
            news.append((work, pin))
    if news:
        columns: dict[str, Sequence[object]] = {
            "object_id": [work.object_id for work, _ in news],
            "site_id": [work.source_id for work, _ in news],
            "pin": [pin.as_text() for _, pin in news],
            "storage_class": [pin.storage_class for _, pin in news],
            "size": [pin.size for _, pin in news],
        }
        session.execute(_NOTE, lists(columns))
    return versions


def _reserve(session: Session, started: Sequence[tuple[Work, Pin, Held]]) -> Reserved:
    """Sets the budgets aside, in order; what an earlier attempt had reserved is free again."""
    for _, _, row in started:
        budgets.release(session, row)
    if not started:
        return Reserved(None, [])
    first = started[0][0]
    costs = [cost_of(work, pin.size, row) for work, pin, row in started]
    return budgets.reserve(session, first.now, costs, first.limits)


def _forget_reserved(session: Session, refused: Sequence[int]) -> None:
    """What an earlier attempt had reserved was given back, and must not be so again."""
    if refused:
        given_back = update(Migration).where(Migration.id.in_(refused)).values(reserved_on=None, reserved=null())
        session.execute(given_back.execution_options(synchronize_session=False))


def cost_of(work: Work, size: int, row: Held) -> Cost:
    """What the migration of so many bytes uses of the budgets beside a restore that is paid already."""
    paid = row.restore_usd or Decimal(0) if row.restored_at else Decimal(0)
    return Cost.of(size, row.one_off - paid, requests_needed(work.facts.kind, size))


def _start(session: Session, started: Sequence[tuple[Work, Held]], day: date | None) -> None:
    stays = MoveKind.REMOVE
    columns: dict[str, Sequence[object]] = {
        "migration_id": [work.claim.id for work, _ in started],
        "state": [row.state if work.facts.kind is stays else after(row.state, COPYING) for work, row in started],
        "size": [work.size for work, _ in started],
        "pin": [work.pin.as_text() if work.pin else None for work, _ in started],
        "version": [work.object_version for work, _ in started],
        "keeps": [work.upload_id is not None for work, _ in started],
        "reserved": [dumps(cost_of(work, work.size, row).as_json()) if day else None for work, row in started],
    }
    session.execute(_BEGIN, {**lists(columns), "day": day})
    given_up = [row.id for work, row in started if row.upload_id is not None and work.upload_id is None]
    if given_up:
        session.execute(delete(MigrationPart).where(MigrationPart.migration_id.in_(given_up)))


def _mark_destinations(session: Session, begun: Sequence[Work]) -> None:
    """Replica rows in state copying; what is known of an older copy there stays, since it may be overwritten."""
    kept, fresh = list[Work](), list[Work]()
    for work in begun:
        there = work.facts.destination_replica
        nothing = there is not None and there.state in (ReplicaState.DELETED, ReplicaState.LOST)
        if work.facts.kind in COPIES:
            (fresh if nothing else kept).append(work)
    replicas.begin_copies(session, [_row(work) for work in kept], forget=False)
    replicas.begin_copies(session, [_row(work) for work in fresh], forget=True)


def _row(work: Work) -> tuple[int, int, int, int, str]:
    return work.object_id, work.destination_id, work.object_version, work.size, work.facts.to_class or "STANDARD"


def verified(session: Session, proven: Sequence[Proven]) -> dict[int, Outcome]:
    """The copies were proven equal to the pinned sources: what came of each, by the migration's id.

    An outcome may be LeaseLost.
    """
    rows = held(session, [one.work.claim for one in proven])
    outcomes: dict[int, Outcome] = {}
    good: list[Proven] = []
    for one in proven:
        row = rows.get(one.work.claim.id)
        if row is None:
            outcomes[one.work.claim.id] = LeaseLost()
            continue
        after(after(row.state, COPYING), MigrationState.VERIFIED)  # an earlier claim's work may be adopted
        good.append(one)
        outcomes[one.work.claim.id] = replace(one.work, sha256=one.sha256, result_pin=one.pin, verified=True)
    if good:
        columns: dict[str, Sequence[object]] = {
            "migration_id": [one.work.claim.id for one in good],
            "sha256": [one.sha256 for one in good],
            "pin": [one.pin.as_text() for one in good],
            "fingerprint": [dumps(one.copied.as_json()) if one.copied else None for one in good],
        }
        session.execute(_VERIFY, lists(columns))
    where = [(one.work.object_id, one.work.destination_id) for one in good if one.work.facts.kind in COPIES]
    replicas.set_states(session, where, ReplicaState.VERIFIED, only=(ReplicaState.COPYING,))
    return outcomes


def after(state: MigrationState, following: MigrationState) -> MigrationState:
    """The state that follows. Raises Conflict for a transition that is not in the table."""
    if state != following:
        check_transition(MIGRATION_TRANSITIONS, MigrationState(state), following)
    return following


def go(row: Migration, state: MigrationState) -> None:
    """Gives the migration its next state. Raises Conflict for a transition that is not in the table."""
    row.state = after(row.state, state)


def only(outcomes: Mapping[int, Outcome]) -> Work:
    """The one outcome of one migration; raises it when it is an error."""
    (outcome,) = outcomes.values()
    if isinstance(outcome, ForetideError):
        raise outcome
    return outcome
