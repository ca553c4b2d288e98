"""What a plan does at each site by folder, class and fate: what its lifecycle rules are made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import DateTime, Double, and_, case, cast, func, literal, select
from sqlalchemy.orm import Session

from app.db.tables import Move, Object, Plan, Replica, Site
from app.domain.lifecycle import Group
from app.domain.states import MoveKind, ObjectState, ReplicaState

MOST_GROUPS = 100_000


@dataclass(frozen=True)
class Elsewhere:
    """Moves of a plan from a site that are no change of class there."""

    kind: MoveKind
    objects: int
    bytes: int


def groups(session: Session, plan: Plan, site: Site) -> Sequence[Group]:
    """The objects that the site serves, by folder, class and what the plan makes of them there; at most MOST_GROUPS."""
    written = func.coalesce(cast(Replica.pin["last_modified"].astext, DateTime(timezone=True)), Replica.class_since)
    age = func.greatest(0.0, cast(func.extract("epoch", literal(plan.as_of) - written), Double) / 86_400)
    folder = func.regexp_replace(Object.key, "[^/]*$", "").label("folder")
    move = and_(
        Move.object_id == Object.id,
        Move.plan_id == plan.id,
        Move.kind == MoveKind.CLASS,
        Move.to_site_id == site.id,
    )
    target = case((Move.id.is_(None), None), else_=Move.to_class).label("target")
    statement = (
        select(
            folder, Replica.storage_class, target, func.count(), func.sum(Replica.size), func.min(age), func.max(age),
            func.min(Replica.size), func.max(Replica.size),
        )
        .join(Object, Object.id == Replica.object_id)
        .outerjoin(Move, move)
        .where(
            Replica.site_id == site.id,
            Replica.state == ReplicaState.SERVING,
            Replica.object_version == Object.version,
            Object.state == ObjectState.PRESENT,
        )
        .group_by(folder, Replica.storage_class, target)
        .limit(MOST_GROUPS)
    )  # fmt: skip
    return [
        Group(row[0], row[1], row[2], row[3], int(row[4]), float(row[5]), float(row[6]), row[7], row[8])
        for row in session.execute(statement)
    ]


def elsewhere(session: Session, plan_id: int, site_id: int) -> list[Elsewhere]:
    """The plan's moves from or to a site that no rule of a bucket can say."""
    at_site = (Move.from_site_id == site_id) | ((Move.from_site_id.is_(None)) & (Move.to_site_id == site_id))
    statement = (
        select(Move.kind, func.count(), func.sum(Move.bytes))
        .where(Move.plan_id == plan_id, Move.kind != MoveKind.CLASS, at_site)
        .group_by(Move.kind)
        .order_by(Move.kind)
    )
    return [Elsewhere(MoveKind(kind), count, int(size)) for kind, count, size in session.execute(statement)]
