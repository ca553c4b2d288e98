"""The switch: new replicas become the ones to read, many at once, each by a compare-and-swap of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, case, func, null, select, update
from sqlalchemy.orm import Session

from app.db import audit, budgets, replicas
from app.db.budgets import Cost
from app.db.migration_steps import Outcome, after, cost_of, other_version
from app.db.migration_work import Held, Version, Work, held, lock_objects
from app.db.migrations import release_next
from app.db.tables import Json, Migration, Object
from app.domain.migrations import COPIES, admit, drains_source
from app.domain.states import MigrationState, MoveKind, ReplicaState
from app.errors import Blocked, ForetideError, LeaseLost, Skipped

ACTOR = "worker"
"""Who stands in the audit log for what the engine does."""


def switch(session: Session, works: Sequence[Work], grace_s: float) -> dict[int, Outcome]:
    """Makes the new replicas the ones to read, all at once: catalogue, budget, migration, audit.

    Returns what came of each by the migration's id. An outcome may be SourceChanged when the object is no longer of the
    version that was copied, LeaseLost, or Blocked when a removal would leave too few copies by now.
    """
    found, rows = lock_objects(session, works), held(session, [work.claim for work in works])
    outcomes: dict[int, Outcome] = {}
    ready: list[tuple[Work, Held]] = []
    for work in works:
        row = rows.get(work.claim.id)
        refusal = LeaseLost() if row is None else _refusal(session, work, found[work.object_id])
        if refusal or row is None:
            outcomes[work.claim.id] = refusal or LeaseLost()
        else:
            ready.append((work, row))
            outcomes[work.claim.id] = replace(work, object_version=work.object_version + 1)
    if ready:
        _switch(session, ready, grace_s)
    return outcomes


def _refusal(session: Session, work: Work, found: Version) -> ForetideError | None:
    changed = other_version(work, found)
    if changed or work.facts.kind is not MoveKind.REMOVE:
        return changed
    try:  # another copy may have been found lost since
        admit(replace(work.facts, elsewhere=replicas.serving_elsewhere(session, work.object_id, work.source_id)))
    except (Blocked, Skipped) as refused:
        return refused
    return None


def _switch(session: Session, ready: Sequence[tuple[Work, Held]], grace_s: float) -> None:
    works = [work for work, _ in ready]
    ids = [work.object_id for work in works]
    now = func.now()
    until = now + timedelta(seconds=grace_s)
    lasting = [work.object_id for work, row in ready if row.not_before is None]  # others are for the hours of a peak
    moved_at = case((Object.id.in_(lasting), now), else_=Object.moved_at)
    moved = update(Object).where(Object.id.in_(ids)).values(version=Object.version + 1, moved_at=moved_at)
    session.execute(moved.execution_options(synchronize_session=False))
    replicas.carry_over(session, ids)
    for copied in (True, False):
        chosen = [(work, pin) for work in works if (pin := work.result_pin) and (work.facts.kind in COPIES) is copied]
        rows = [(w.object_id, w.destination_id, w.object_version + 1, pin, w.sha256) for w, pin in chosen]
        replicas.serve(session, rows, verified=copied)
    draining = [(work.object_id, work.source_id) for work in works if _drains(work)]
    serving = (ReplicaState.SERVING,)
    replicas.set_states(session, draining, ReplicaState.DRAINING, only=serving, draining_until=until)
    budgets.settle(
        session,
        works[0].now,
        [
            (row.reserved_on, Cost.from_json(row.reserved) if row.reserved else cost_of(work, row.bytes_total, row))
            for work, row in ready
        ],
    )
    for state, reason in {_end(work, row) for work, row in ready}:
        which = [work.claim.id for work, row in ready if _end(work, row) == (state, reason)]
        _save_end(session, which, state, reason, until)
    audit.append_all(session, [_audited(work) for work in works])
    _release_next(session, [work.claim.id for work in works if not _drains(work)])


def _save_end(
    session: Session, which: Sequence[int], state: MigrationState, reason: str | None, until: ColumnElement[datetime]
) -> None:
    values: dict[str, object] = {
        "state": state,
        "reason": reason,
        "reserved_on": None,
        "reserved": null(),
        "attempts": 0,
        "error": null(),
        "switched_at": func.now(),
        "lease_until": None,
        "next_attempt_at": until,
        "finished_at": func.now() if state is MigrationState.DONE else None,
    }
    ended = update(Migration).where(Migration.id.in_(which)).values(**values)
    session.execute(ended.execution_options(synchronize_session=False))


def _end(work: Work, row: Held) -> tuple[MigrationState, str | None]:
    """The state after the switch, and its reason."""
    drains = _drains(work)
    kept = work.facts.kind is MoveKind.MOVE and not drains
    state = after(row.state, MigrationState.SWITCHED if drains else MigrationState.DONE)
    return state, "source_kept_readers_direct" if kept else None


def _drains(work: Work) -> bool:
    return drains_source(work.facts.kind, work.facts.rules)


def _release_next(session: Session, ended: Sequence[int]) -> None:
    waited_for = select(Migration.after_id).where(Migration.after_id.in_(ended)).distinct()
    for migration_id in session.scalars(waited_for).all() if ended else ():
        if migration_id is not None:
            release_next(session, migration_id, MigrationState.DONE)


def _audited(work: Work) -> Json:
    data = {
        "key": work.key,
        "kind": work.facts.kind,
        "from": work.source.name,
        "to": work.destination.name,
        "class": work.facts.to_class,
        "version": work.object_version + 1,
        "sha256": work.sha256,
        "pin": work.pin.as_json() if work.pin else None,
        "result_pin": work.result_pin.as_json() if work.result_pin else None,
    }
    return {"actor": ACTOR, "action": "migration.switch", "subject": f"migration {work.claim.id}", "data": data}
