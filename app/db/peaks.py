"""Hours in which objects are read far more than usual, and what was copied for them: how much of it in time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Text, and_, cast, exists, func, or_, select
from sqlalchemy.orm import Session

from app.db import alerts
from app.db.accesses import floor_hour
from app.db.demand import DAY_S
from app.db.tables import AccessHour, Json, Migration, Move, Object, Plan, Site
from app.domain.migrations import COPIED, EARLY
from app.domain.moves import Rush
from app.domain.peaks import HOURS, LEAST_READS, LEAST_WEEKS, TIMES, WEEK, WEEKS, Hour
from app.domain.states import MigrationState, MoveKind, PlanState

ALERT = "prewarm_late"
OPEN = (PlanState.READY, PlanState.APPROVED, PlanState.APPLYING, PlanState.APPLIED)
TOLD_FOR = timedelta(days=1)
"""How long a copy that came too late is told of."""


@dataclass
class Busy:
    """An object whose reads come in peaks."""

    object_id: int
    key: str
    size: int
    mean_an_hour: float
    hours: list[Hour] = field(default_factory=list)
    """Those of the last four weeks that may be part of a peak."""


def busy(
    session: Session,
    now: datetime,
    after_id: int,
    limit: int,
    prefix: str | None = None,
    keys: Collection[str] | None = None,
) -> list[Busy]:
    """The next objects by id that were read often enough in the last four weeks, with their busiest hours."""
    chosen: list[ColumnElement[bool]] = [] if keys is None else [Object.key.in_(keys)]
    chosen += [Object.key.startswith(prefix, autoescape=True)] if prefix else []
    end = floor_hour(now)
    seen = (AccessHour.hour >= end - WEEKS * WEEK, AccessHour.hour < end)
    total = func.sum(AccessHour.reads)
    read = (
        select(AccessHour.object_id, Object.key, Object.size, total)
        .join(Object, Object.id == AccessHour.object_id)
        .where(*seen, AccessHour.object_id > after_id, Object.size.is_not(None), *chosen)
        .group_by(AccessHour.object_id, Object.key, Object.size)
        .having(total >= LEAST_WEEKS * LEAST_READS)
        .order_by(AccessHour.object_id)
        .limit(limit)
    )
    rows = session.execute(read)
    found = {number: Busy(number, key, size or 0, int(reads) / (WEEKS * HOURS)) for number, key, size, reads in rows}
    together = func.sum(AccessHour.reads).over(partition_by=(AccessHour.object_id, AccessHour.hour))
    hours = select(
        AccessHour.object_id, AccessHour.hour, AccessHour.region, AccessHour.reads, AccessHour.bytes_read,
        together.label("together"),
    ).where(*seen, AccessHour.object_id.in_(found)).subquery()  # fmt: skip
    for row in session.execute(select(hours).where(hours.c.together >= LEAST_READS)):
        thing = found[row.object_id]
        if row.together >= TIMES * thing.mean_an_hour:
            thing.hours.append(Hour(row.hour, row.region, row.reads, row.bytes_read))
    return list(found.values())


def planned(session: Session, object_ids: Iterable[int]) -> dict[int, set[datetime]]:
    """The peaks for which a plan waits to be applied, or whose move somebody has cancelled or taken back, by object."""
    waits = Plan.state.in_((PlanState.READY, PlanState.APPROVED))
    unwanted = Plan.state.in_((PlanState.CANCELLED, PlanState.ROLLED_BACK))
    stopped = exists().where(Migration.move_id == Move.id, Migration.state == MigrationState.CANCELLED)
    rows = session.execute(
        select(Move.object_id, Move.ready_by)
        .join(Plan)
        .where(Move.object_id.in_(list(object_ids)), Move.ready_by.is_not(None), or_(waits, unwanted, stopped))
    )
    found: dict[int, set[datetime]] = defaultdict(set)
    for object_id, ready_by in rows:
        if ready_by:
            found[object_id].add(ready_by)
    return found


def rushes(session: Session, now: datetime, names: Mapping[int, str]) -> list[Rush]:
    """What the copies of other plans for peaks that are not over bring to their sites, or have brought.

    names: of the sites by id.
    """
    there = or_(Migration.id.is_(None), Migration.state.in_(EARLY | COPIED))
    reads = Move.explanation["reads_a_month"].as_float()
    rows = session.execute(
        select(Move.to_site_id, Move.ready_by, Move.useful_until, reads)
        .join(Plan)
        .outerjoin(Migration, Migration.move_id == Move.id)
        .where(Plan.state.in_(OPEN), Move.kind == MoveKind.COPY, Move.ready_by.is_not(None), there)
        .where(Move.useful_until > now)
    )
    return [Rush(names[site_id], begins, ends, month / 30 / DAY_S) for site_id, begins, ends, month in rows if site_id]


def coming(session: Session, object_id: int, now: datetime) -> list[Json]:
    """The copies and classes that plans have for peaks of an object that are not over, the first one first.

    Dollars a month as if each peak came every week; state: the migration's, else the plan's.
    """
    rows = session.execute(
        select(Move, Site.name, func.coalesce(cast(Migration.state, Text), cast(Plan.state, Text)))
        .select_from(Move)
        .join(Plan)
        .join(Site, Site.id == Move.to_site_id)
        .outerjoin(Migration, Migration.move_id == Move.id)
        .where(Move.object_id == object_id, Move.ready_by.is_not(None), Move.useful_until > now)
        .where(Plan.state.in_(OPEN), or_(Migration.id.is_(None), Migration.state.in_(EARLY | COPIED)))
        .order_by(Move.ready_by, Move.id)
    )
    return [
        {
            "plan_id": move.plan_id,
            "kind": move.kind,
            "site": site,
            "storage_class": move.to_class,
            "not_before": _iso(move.not_before),
            "begins": _iso(move.ready_by),
            "ends": _iso(move.useful_until),
            "state": state,
            "usd_a_month": float(move.monthly_delta),
            "reason": move.reason,
        }
        for move, site, state in rows
    ]


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def results(session: Session) -> dict[str, int]:
    """How many copies and classes for peaks were in place when they began, and how many were not.

    Neither is what somebody cancelled, or what was not needed any more.
    """
    due = (Migration.ready_by <= func.now(), ~_needless())
    rows = session.execute(select(_late(), func.count()).where(*due).group_by(_late()))
    counted = {("late" if late else "ready"): number for late, number in rows}
    return {"ready": 0, "late": 0} | counted


def watch(session: Session) -> None:
    """Raises an alert for what came too late within the last day, or clears it."""
    lately = Migration.ready_by.between(func.now() - TOLD_FOR, func.now())
    late = session.scalars(select(Object.key).join(Migration).where(lately, _late()).order_by(Object.key)).all()
    if not late:
        alerts.clear(session, ALERT)
        return
    message = f"{len(late)} objects were not in place before their peak of reads, {late[0]} among them"
    alerts.raise_alert(session, ALERT, "warning", message, data={"objects": len(late), "first": list(late[:20])})


def _late() -> ColumnElement[bool]:
    """In service after the peak began, or not at all, and still needed."""
    done = and_(Migration.state.in_(COPIED), Migration.switched_at <= Migration.ready_by)
    found = and_(Migration.state == MigrationState.SKIPPED, Migration.reason == "already_there")
    return ~or_(done, found, _needless())


def _needless() -> ColumnElement[bool]:
    gone = and_(Migration.state == MigrationState.SKIPPED, Migration.reason == "object_gone")
    return or_(gone, Migration.state == MigrationState.CANCELLED)
