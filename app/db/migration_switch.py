"""The switch: new replicas become the ones to read, many at once, each by a compare-and-swap of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.db import audit, budgets, objects, replicas
from app.db.budgets import Cost
from app.db.migration_steps import Outcome, cost_of, go, other_version
from app.db.migration_work import Work, all_mine, lock_objects
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
    found, rows = lock_objects(session, works), all_mine(session, [work.claim for work in works])
    outcomes: dict[int, Outcome] = {}
    ready: list[tuple[Work, Migration]] = []
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


def _refusal(session: Session, work: Work, found: Object) -> ForetideError | None:
    changed = other_version(work, found)
    if changed or work.facts.kind is not MoveKind.REMOVE:
        return changed
    try:  # another copy may have been found lost since
        admit(replace(work.facts, elsewhere=replicas.serving_elsewhere(session, found.id, work.source_id)))
    except (Blocked, Skipped) as refused:
        return refused
    return None


def _switch(session: Session, ready: Sequence[tuple[Work, Migration]], grace_s: float) -> None:
    now = objects.clock(session)
    works = [work for work, _ in ready]
    ids = [work.object_id for work in works]
    session.execute(
        update(Object)
        .where(Object.id.in_(ids))
        .values(version=Object.version + 1, moved_at=now)
        .execution_options(synchronize_session=False)
    )
    replicas.carry_over(session, ids)
    _serve(session, works)
    until = now + timedelta(seconds=grace_s)
    draining = [(work.object_id, work.source_id) for work in works if _drains(work)]
    serving = (ReplicaState.SERVING,)
    replicas.set_states(session, draining, ReplicaState.DRAINING, only=serving, draining_until=until)
    settled = [
        (row.reserved_on, Cost.from_json(row.reserved) if row.reserved else cost_of(work, row.bytes_total, row))
        for work, row in ready
    ]
    budgets.settle(session, now, settled)
    for work, row in ready:
        _end(work, row, now, until)
    audit.append_all(session, [_audited(work) for work in works])
    session.flush()
    _release_next(session, [row.id for work, row in ready if not _drains(work)])


def _drains(work: Work) -> bool:
    return drains_source(work.facts.kind, work.facts.rules)


def _serve(session: Session, works: Sequence[Work]) -> None:
    for copied in (True, False):
        chosen = [work for work in works if work.result_pin and (work.facts.kind in COPIES) is copied]
        rows = [
            {
                "object_id": work.object_id,
                "site_id": work.destination_id,
                "object_version": work.object_version + 1,
                "size": work.result_pin.size,
                "storage_class": work.result_pin.storage_class,
                "pin": work.result_pin.as_json(),
                **({"sha256": work.sha256} if copied else {}),
            }
            for work in chosen
            if work.result_pin
        ]
        replicas.serve(session, rows, verified=copied)


def _end(work: Work, row: Migration, now: datetime, until: datetime) -> None:
    drains = _drains(work)
    go(row, MigrationState.SWITCHED if drains else MigrationState.DONE)
    row.reason = None if drains or work.facts.kind is not MoveKind.MOVE else "source_kept_readers_direct"
    row.reserved_on, row.reserved, row.attempts, row.error = None, None, 0, None
    row.switched_at, row.lease_until, row.next_attempt_at = now, None, until
    row.finished_at = None if drains else now


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
