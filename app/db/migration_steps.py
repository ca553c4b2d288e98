"""A migration's steps before its switch, as they are saved: many at once, each under its own claim's fence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from sqlalchemy import select, tuple_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.db import budgets, changes, objects, replicas
from app.db.budgets import Cost
from app.db.migration_parts import clear_copy
from app.db.migration_work import Work, all_mine, lock_objects
from app.db.tables import Migration, Object, Replica
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
from app.errors import ForetideError, LeaseLost, SourceChanged

Outcome = Work | ForetideError
"""What came of one of several: the migration as it is now, or why it did not go on."""


def begin(session: Session, pinned: Sequence[tuple[Work, Pin]]) -> dict[int, Outcome]:
    """The sources are pinned: an attempt at each starts. Returns what came of each, by the migration's id.

    Counts the attempt, reserves its budget, marks the destination as being written. A pin that differs from what the
    catalogue knew is an owner's write, and is kept as that. An outcome may be OverBudget, LeaseLost, or SourceChanged
    when the source may no longer be what it was when the move was admitted.
    """
    works = [work for work, _ in pinned]
    found, rows = lock_objects(session, works), all_mine(session, [work.claim for work in works])
    outcomes: dict[int, Outcome] = {}
    startable: list[tuple[Work, Pin, Migration]] = []
    for work, pin in pinned:
        row = rows.get(work.claim.id)
        changed = other_version(work, found[work.object_id])
        if changed or row is None:
            outcomes[work.claim.id] = changed if row and changed else LeaseLost()
        else:
            startable.append((work, pin, row))
    _note_pins(session, startable)
    for (work, pin, row), refusal in zip(startable, _reserve(session, startable), strict=True):
        if refusal:
            outcomes[work.claim.id] = refusal
            continue
        version = found[work.object_id].version
        _start(session, work, pin, row, version)
        outcomes[work.claim.id] = replace(
            work, pin=pin, object_version=version, upload_id=row.upload_id, part_size=row.part_size,
            size=pin.size, verified=False,
        )  # fmt: skip
    _mark_destinations(session, [begun for begun in outcomes.values() if isinstance(begun, Work)])
    session.flush()
    return outcomes


def other_version(work: Work, found: Object) -> SourceChanged | None:
    """Why the work cannot go on, if the catalogue has learned of another version since it was loaded."""
    if found.version != work.object_version or found.state != ObjectState.PRESENT:
        return SourceChanged("the catalogue learned of a newer version meanwhile")
    return None


def _note_pins(session: Session, started: Sequence[tuple[Work, Pin, Migration]]) -> None:
    """What the looks at the sources found, in the catalogue."""
    at = tuple_(Replica.object_id, Replica.site_id).in_([(work.object_id, work.source_id) for work, _, _ in started])
    sources = {replica.object_id: replica for replica in session.scalars(select(Replica).where(at))}
    for work, pin, _ in started:
        replica = sources.get(work.object_id)
        known = Pin.from_json(replica.pin) if replica else None
        if known and not pin.same_object(known):
            changes.put_seen(session, work.object_id, work.source_id, pin)
        elif replica:
            replica.pin, replica.storage_class, replica.size = pin.as_json(), pin.storage_class, pin.size


def _reserve(session: Session, started: Sequence[tuple[Work, Pin, Migration]]) -> Sequence[ForetideError | None]:
    """Sets the budgets aside; returns why one was not, in order."""
    for _, _, row in started:
        budgets.release(session, row)
    if not started:
        return []
    first = started[0][0]
    costs = [cost_of(work, pin.size, row) for work, pin, row in started]
    reserved = budgets.reserve(session, first.now, costs, first.limits)
    for (_, _, row), cost, refusal in zip(started, costs, reserved.refusals, strict=True):
        if reserved.day and not refusal:
            row.reserved_on, row.reserved = reserved.day, cost.as_json()
    return reserved.refusals


def cost_of(work: Work, size: int, row: Migration) -> Cost:
    """What the migration of so many bytes uses of the budgets."""
    return Cost.of(size, row.one_off, requests_needed(work.facts.kind, size))


def _start(session: Session, work: Work, pin: Pin, row: Migration, version: int) -> None:
    if work.facts.kind is not MoveKind.REMOVE:
        go(row, MigrationState.COPYING)
    row.reason, row.attempts, row.bytes_total = None, row.attempts + 1, pin.size
    row.pin, row.object_version = pin.as_json(), version
    clear_copy(session, row, keep_upload=work.pin is not None and pin.same_object(work.pin))


def _mark_destinations(session: Session, begun: Iterable[Work]) -> None:
    """Replica rows in state copying; what is known of an older copy there stays, since it may be overwritten."""
    kept, fresh = list[Mapping[str, object]](), list[Mapping[str, object]]()
    for work in begun:
        if work.facts.kind not in COPIES or work.pin is None:
            continue
        there = work.facts.destination_replica
        nothing = there is not None and there.state in (ReplicaState.DELETED, ReplicaState.LOST)
        (fresh if nothing else kept).append(
            {
                "object_id": work.object_id,
                "site_id": work.destination_id,
                "state": ReplicaState.COPYING,
                "object_version": work.object_version,
                "size": work.pin.size,
                "storage_class": work.facts.to_class or "STANDARD",
                "pin": {},
            }
        )
    nothing_known: dict[str, object] = {"pin": {}, "verified_at": None}
    for rows, cleared in ((kept, {}), (fresh, nothing_known)):
        if rows:
            statement = insert(Replica)
            values: dict[str, object] = {name: statement.excluded[name] for name in ("state", "object_version", "size")}
            values |= {"deleted_at": None, **cleared}
            unique = ["object_id", "site_id"]
            session.execute(statement.on_conflict_do_update(index_elements=unique, set_=values), rows)


def verified(session: Session, proven: Sequence[tuple[Work, str | None, Pin]]) -> dict[int, Outcome]:
    """The copies were proven equal to the pinned sources: each with its SHA-256 and its pin, by the migration's id.

    sha256: None after a change of class. An outcome may be LeaseLost.
    """
    rows = all_mine(session, [work.claim for work, _, _ in proven])
    now = objects.clock(session)
    outcomes: dict[int, Outcome] = {}
    for work, sha256, result in proven:
        row = rows.get(work.claim.id)
        if row is None:
            outcomes[work.claim.id] = LeaseLost()
            continue
        if row.state != MigrationState.COPYING:  # an earlier claim's work is adopted
            go(row, MigrationState.COPYING)
        go(row, MigrationState.VERIFIED)
        row.sha256, row.result_pin = sha256, result.as_json()
        row.verified_at, row.bytes_done = now, row.bytes_total
        outcomes[work.claim.id] = replace(work, sha256=sha256, result_pin=result, verified=True)
    copied = [w for w in outcomes.values() if isinstance(w, Work) and w.facts.kind in COPIES]
    where = [(work.object_id, work.destination_id) for work in copied]
    replicas.set_states(session, where, ReplicaState.VERIFIED, only=(ReplicaState.COPYING,))
    session.flush()
    return outcomes


def go(row: Migration, state: MigrationState) -> None:
    """Gives the migration its next state. Raises Conflict for a transition that is not in the table."""
    if row.state != state:
        check_transition(MIGRATION_TRANSITIONS, MigrationState(row.state), state)
        row.state = state


def only(outcomes: Mapping[int, Outcome]) -> Work:
    """The one outcome of one migration; raises it when it is an error."""
    (outcome,) = outcomes.values()
    if isinstance(outcome, ForetideError):
        raise outcome
    return outcome
