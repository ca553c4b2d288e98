"""How a migration ends, as it is saved: the source deleted, kept or serving again, or the attempt given up."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from sqlalchemy import func, update
from sqlalchemy.orm import Session

from app.db import alerts, audit, budgets, changes, old_versions, policies, replicas
from app.db import migration_kept as kept
from app.db.migration_parts import clear_copy
from app.db.migration_steps import go
from app.db.migration_switch import ACTOR
from app.db.migration_work import Work, mine
from app.db.migrations import release_next
from app.db.tables import Json, Migration, Replica
from app.domain.migrations import RECHECK_S, SWITCHED, Setback
from app.domain.old_versions import KEPT
from app.domain.pins import Pin
from app.domain.source_deletes import DeleteAction, DeleteVerdict, look_again_s
from app.domain.states import MIGRATION_FINAL, MigrationState, ObjectState, ReplicaState
from app.errors import LeaseLost, SourceChanged

READERS_LATEST = timedelta(days=1)
"""How long after a move was given up the write of a reader that had its copy may still end."""


def intend_delete(session: Session, work: Work, verdict: DeleteVerdict) -> bool:
    """Writes down each condition under which the source is about to be deleted.

    Returns whether no earlier claim had: else its delete may still be on its way. Raises LeaseLost, or SourceChanged
    when the catalogue has changed since the verdict: it has to be found anew.
    """
    found = changes.lock(session, work.object_id)
    row = mine(session, work.claim)
    if found.version != work.object_version or found.state != ObjectState.PRESENT:
        raise SourceChanged("the catalogue changed just before the delete, which did not happen")
    go(row, MigrationState.DRAINING)
    is_first = row.delete_intended_at is None
    row.reason, row.attempts, row.delete_intended_at = None, row.attempts + 1, func.now()
    _audit_source(session, work, "replica.delete", verdict)
    return is_first


def delete_refused(session: Session, work: Work) -> None:
    """The site has said that it did not delete the source: nothing is on its way any more. Raises LeaseLost."""
    mine(session, work.claim).delete_intended_at = None


def source_gone(session: Session, work: Work, verdict: DeleteVerdict) -> None:
    """The source does not exist any more: the migration is done. Raises LeaseLost.

    In a versioned bucket what was read there stands on behind a marker.
    """
    changes.lock(session, work.object_id)
    row = mine(session, work.claim)
    deleted = verdict.action is DeleteAction.DELETE or row.delete_intended_at is not None
    leaves = deleted and work.pin is not None and old_versions.note(session, work, work.pin)
    replicas.set_state(
        session,
        work.object_id,
        ReplicaState.DELETED,
        only=replicas.LIVE,
        site_id=work.source_id,
        deleted_at=func.now(),
        draining_until=None,
    )
    _audit_source(session, work, "replica.deleted", verdict)
    _finish(session, row, MigrationState.DONE, _old_version(session, leaves=leaves))


def class_changed(session: Session, work: Work) -> None:
    """A class was changed and the copy is read: in a versioned bucket the version that was copied stands on."""
    leaves = work.pin is not None and old_versions.note(session, work, work.pin)
    session.get_one(Migration, work.claim.id).reason = _old_version(session, leaves=leaves)


def _old_version(session: Session, *, leaves: bool) -> str | None:
    """What a done migration says of a version that it leaves: nothing where a policy will let it go."""
    return KEPT if leaves and policies.load(session).old_versions_days is None else None


def source_kept(session: Session, work: Work, verdict: DeleteVerdict) -> None:
    """The source stays and is reported; the migration is done, and taken up again while that may change.

    Where readers use the source directly it serves again, since it holds the current version. Raises LeaseLost.
    """
    found = changes.lock(session, work.object_id)
    row = mine(session, work.claim)
    if verdict.reason == "readers_direct":
        replicas.set_state(
            session,
            work.object_id,
            ReplicaState.SERVING,
            only=(ReplicaState.DRAINING,),
            site_id=work.source_id,
            object_version=found.version,
            draining_until=None,
        )
    if row.reason != verdict.reason:  # else it was told before
        kept.report(session, work.source_id, work.source.name, work.key, verdict.reason)
        _audit_source(session, work, "replica.kept", verdict)
    _finish(session, row, MigrationState.DONE, kept.PREFIX + verdict.reason)
    since = work.now - (work.switched_at or work.now)
    row.next_attempt_at = func.now() + timedelta(seconds=look_again_s(since.total_seconds()))


def source_waits(session: Session, work: Work, verdict: DeleteVerdict, delay_s: float) -> None:
    """The source may not be deleted yet and is looked at again later. Raises LeaseLost."""
    row = mine(session, work.claim)
    go(row, MigrationState.DRAINING)
    row.reason, row.lease_until = verdict.reason, None
    row.next_attempt_at, row.attempts = func.now() + timedelta(seconds=delay_s), 0


def reverse(session: Session, work: Work, verdict: DeleteVerdict, source_now: Pin | None) -> None:
    """Undoes the switch: the source is the newest version, or the last good copy.

    Raises LeaseLost, or SourceChanged when the catalogue has changed since the copy was found missing, or the last one.
    """
    found = changes.lock(session, work.object_id)
    mine(session, work.claim)
    if verdict.reason not in ("destination_lost", "last_copy"):
        changes.put_seen(session, work.object_id, work.source_id, source_now)
        return
    if found.version != work.object_version or found.state != ObjectState.PRESENT:
        raise SourceChanged("the catalogue changed just before the source was to serve again")
    if verdict.reason == "destination_lost":
        changes.destination_lost(session, work.object_id, work.source_id, work.destination_id, work.claim.id)
    else:
        changes.last_copy(session, work.object_id, work.source_id, work.claim.id)


def _audit_source(session: Session, work: Work, action: str, verdict: DeleteVerdict) -> None:
    data = {"key": work.key, "site": work.source.name, "reason": verdict.reason, "migration_id": work.claim.id}
    audit.append(session, ACTOR, action, f"object {work.object_id}", data | {"conditions": dict(verdict.conditions)})


# -- An attempt that did not succeed ----------------------------------------------------------------------------------


def set_back(
    session: Session, work: Work, judge: Callable[[int], Setback], error: Json, *, fresh: bool
) -> tuple[Setback, str | None]:
    """Ends an attempt; returns as what, and the id of an upload that is given up and has to be aborted.

    judge: what the error means after so many attempts that have failed since the copy last got further. fresh: the next
    attempt copies from the start. Raises LeaseLost.
    """
    changes.lock(session, work.object_id)
    row = mine(session, work.claim)
    if row.state in SWITCHED and work.state not in SWITCHED:
        raise LeaseLost("it has switched meanwhile: what failed is another of its group")
    failed = work.attempts if fresh else min(work.attempts, row.attempts)  # what starts anew has got no further
    setback = judge(failed)
    row.reason, row.error, row.lease_until = setback.reason, error, None
    row.attempts = failed + (1 if setback.counts else 0)
    row.mismatches += 1 if setback.reason == "checksum_mismatch" else 0
    row.next_attempt_at = func.now() + timedelta(seconds=setback.delay_s)
    row.retries += 0 if setback.state in MIGRATION_FINAL else 1
    if row.state in SWITCHED:  # only the delete of the source failed, which is tried for ever
        if setback.state in MIGRATION_FINAL:
            row.attempts, row.next_attempt_at = 0, func.now() + timedelta(seconds=RECHECK_S)
        return setback, None
    if fresh or setback.state in MIGRATION_FINAL:
        clear_copy(session, row)
    if setback.state not in MIGRATION_FINAL:
        go(row, setback.state)
        return setback, None
    begun = (ReplicaState.COPYING, ReplicaState.VERIFIED)
    replicas.set_state(session, work.object_id, ReplicaState.STALE, only=begun, site_id=work.destination_id)
    _finish(session, row, setback.state, setback.reason)
    if setback.state in (MigrationState.DEAD, MigrationState.FAILED):
        message = f"the move of {work.key} from {work.source.name} to {work.destination.name}: {setback.reason}"
        data = {"migration_id": row.id, "state": setback.state}
        alerts.raise_alert(session, "migration_failed", "warning", message, subject=work.key, data=data)
    elif setback.state is MigrationState.BLOCKED:
        _report_blocked(session, work, setback.reason)
    return setback, row.upload_id


def _report_blocked(session: Session, work: Work, reason: str) -> None:
    """One alert a reason, which counts the moves."""
    message = f"moves are blocked: {reason}; the last one is {work.key}; see: foretide migrate list --state blocked"
    data = {"migration_id": work.claim.id, "key": work.key, "reason": reason}
    alerts.raise_alert(session, "migrations_blocked", "warning", message, subject=reason, data=data)


def is_over(session: Session, work: Work) -> bool:
    """Whether the migration has ended with this claim: a retry may have taken up what it had written."""
    row = session.get_one(Migration, work.claim.id)
    return row.state in MIGRATION_FINAL and row.fence == work.claim.fence


def nothing_left(session: Session, work: Work, removed: Pin | None) -> None:
    """An attempt that was given up has left nothing at its destination.

    removed: what it had written there, kept so that a listing from before does not take it for an owner's write. Where
    a reader had the copy, its write may arrive still: the replica stays unfinished for a while, so that scans look at
    the mark of what stands there.
    """
    there = (Replica.object_id == work.object_id, Replica.site_id == work.destination_id)
    ours = (Replica.state == ReplicaState.STALE, Replica.verified_at.is_(None), Replica.is_origin.is_(False))
    gone = {"state": ReplicaState.DELETED, "pin": removed.as_json() if removed else {}, "deleted_at": func.now()}
    if work.tee_fence is not None:
        gone = {"pin": {}, "draining_until": func.now() + READERS_LATEST}
    session.execute(update(Replica).where(*there, *ours).values(**gone))


def _finish(session: Session, row: Migration, state: MigrationState, reason: str | None) -> None:
    go(row, state)
    row.reason = reason
    row.lease_until, row.finished_at = None, func.now()
    budgets.release(session, row)
    session.flush()
    release_next(session, row.id, state)
