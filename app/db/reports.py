"""PUTs and DELETEs that a block of accesses reports: what the catalogue makes of them, in bulk (step: ingest)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TypeVar

from sqlalchemy import case, func, select, tuple_, update
from sqlalchemy.orm import Session

from app.db import audit, changes, lives, replicas
from app.db.changes import OLD
from app.db.ingest import Write
from app.db.tables import Object, Replica
from app.domain.objects import delete_is_news, write_is_news
from app.domain.pins import Pin
from app.domain.states import ObjectState, ReplicaState

AT_ONCE = 1000
"""Objects that are changed by the same statements."""
Held = Mapping[int, Sequence[Replica]]
"""Replicas by their object's id."""
Thing = TypeVar("Thing")


def follow(session: Session, writes: Iterable[Write], at_once: int = AT_ONCE) -> int:
    """Follows reports, those of one object in their order, as if each came by itself; returns how many were news.

    A report without a site is taken to be about the only serving replica, and says nothing when there are several.
    Objects are locked in the order of their ids, so that two blocks cannot deadlock.
    """
    reports: dict[int, list[Write]] = {}
    for write in writes:
        reports.setdefault(write.object_id, []).append(write)
    told: list[list[Write]] = []
    for some in _some(sorted(reports), at_once):
        held = _held(session, some)
        told += [reports[number] for number in some if any(_news(write, held) for write in reports[number])]
    for these in _some(told, at_once):
        _locked(session, [lines[0].object_id for lines in these])
    news = 0
    for these in _some(told, at_once):
        for turn in range(max(map(len, these))):
            news += _turn(session, [lines[turn] for lines in these if turn < len(lines)])
    return news


def _some(things: Sequence[Thing], number: int) -> Iterator[Sequence[Thing]]:
    return (things[start : start + number] for start in range(0, len(things), number))


def _locked(session: Session, object_ids: Sequence[int]) -> dict[int, Object]:
    chosen = select(Object).where(Object.id.in_(object_ids)).order_by(Object.id).with_for_update(key_share=True)
    return {thing.id: thing for thing in session.scalars(chosen.execution_options(populate_existing=True))}


def _turn(session: Session, writes: Sequence[Write]) -> int:
    """One report of each of some objects, which are locked."""
    ids = [write.object_id for write in writes]
    things, held = _locked(session, ids), _held(session, ids)
    found = [(write, replica) for write in writes if (replica := _news(write, held))]
    at = {write.object_id: write.ts for write in writes}
    _written(session, [(things[write.object_id], replica) for write, replica in found if write.op == "PUT"], at)
    _deleted(session, [(things[write.object_id], replica) for write, replica in found if write.op == "DELETE"], at)
    return len(found)


def _held(session: Session, object_ids: Sequence[int]) -> Held:
    statement = select(Replica).where(Replica.object_id.in_(object_ids)).order_by(Replica.id)
    result: dict[int, list[Replica]] = {number: [] for number in object_ids}
    for replica in session.scalars(statement.execution_options(populate_existing=True)):
        result[replica.object_id].append(replica)
    return result


def _news(write: Write, held: Held) -> Replica | None:
    """The replica of which a report tells something that the catalogue does not know; None: it is no news."""
    rows = held[write.object_id]
    if write.site_id is None:
        rows = [row for row in rows if row.state == ReplicaState.SERVING]
    else:
        rows = [row for row in rows if row.site_id == write.site_id]
    if len(rows) != 1:
        return None
    state, pin = ReplicaState(rows[0].state), Pin.from_json(rows[0].pin)
    put = write.op == "PUT"
    told = write_is_news(write.ts, state, pin, rows[0].draining_until) if put else delete_is_news(write.ts, state, pin)
    return rows[0] if told else None


def _written(session: Session, found: Sequence[tuple[Object, Replica]], at: Mapping[int, datetime]) -> None:
    """As changes.put_seen without a pin, for many objects. at: by object, when it was written."""
    if not found:
        return
    lives.written(session, [thing for thing, _ in found], at=at)
    pairs = [(thing.id, replica.site_id) for thing, replica in found]
    doubtful = [thing.id for thing, replica in found if not changes.is_newer(thing, replica)]
    fresh = {"version": Object.version + 1, "written_at": func.now(), "state": ObjectState.PRESENT}
    _set(session, pairs, fresh)
    kept = case((Replica.object_id.in_(doubtful), None), else_=Replica.verified_at)
    _others_stale(session, pairs, verified_at=kept)
    serving = {
        "state": ReplicaState.SERVING, "pin": {}, "absent_scans": 0, "seen_at": func.now(), "draining_until": None,
        "deleted_at": None, "object_version": Object.version, "sha256": None, "verified_at": None,
        "class_since": func.now(),
    }  # fmt: skip
    there = tuple_(Replica.object_id, Replica.site_id).in_(pairs)
    statement = update(Replica).where(there, Object.id == Replica.object_id).values(serving)
    session.execute(statement.execution_options(synchronize_session=False))
    changes.end_switched(session, dict(pairs))


def _deleted(session: Session, found: Sequence[tuple[Object, Replica]], at: Mapping[int, datetime]) -> None:
    """As changes.delete_seen, for many objects. at: by object, when it was deleted."""
    pairs = [(thing.id, replica.site_id) for thing, replica in found if thing.state != ObjectState.GONE]
    if not pairs:
        return
    _set(session, pairs, {"version": Object.version + 1, "state": ObjectState.GONE})
    lives.ended(session, {number: at[number] for number, _ in pairs})
    gone = {"deleted_at": func.now(), "draining_until": None}
    replicas.set_states(session, pairs, ReplicaState.DELETED, only=OLD, **gone)
    _others_stale(session, pairs)
    changes.end_of_gone(session, [number for number, _ in pairs])
    keys = {thing.id: thing.key for thing, _ in found}
    audit.append_all(session, [changes.audit_of_gone(keys[number], "delete_event", site) for number, site in pairs])


def _set(session: Session, pairs: Sequence[tuple[int, int]], values: Mapping[str, object]) -> None:
    statement = update(Object).where(Object.id.in_([number for number, _ in pairs])).values(**values)
    session.execute(statement.execution_options(synchronize_session=False))


def _others_stale(session: Session, pairs: Sequence[tuple[int, int]], **values: object) -> None:
    """What lies at other sites than the one that was reported is old."""
    others = Replica.object_id.in_([number for number, _ in pairs]), Replica.state.in_(OLD)
    elsewhere = tuple_(Replica.object_id, Replica.site_id).not_in(pairs)
    statement = update(Replica).where(*others, elsewhere).values(state=ReplicaState.STALE, **values)
    session.execute(statement.execution_options(synchronize_session=False))
