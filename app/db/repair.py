"""Objects that may lack copies, found block by block, and all that their repair is decided on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import and_, func, select
from sqlalchemy.orm import Session

from app.db import policies, replicas, sites
from app.db.migrations import ACTIVE
from app.db.tables import Migration, Object, Replica
from app.domain.policies import Policies
from app.domain.repair import DAMAGED, Copies, is_broken
from app.domain.states import ObjectState, ReplicaState


@dataclass(frozen=True)
class Broken:
    """An object that lacks copies, or has damaged ones."""

    id: int
    key: str
    version: int
    size: int
    copies: Copies


@dataclass(frozen=True)
class Block:
    """The broken objects among the next ones by id; last_id: None when there are no more."""

    examined: int
    broken: list[Broken]
    last_id: int | None


def block(session: Session, prefix: str | None, keys: Sequence[str] | None, after_id: int, limit: int) -> Block:
    """Looks at the next objects. Objects that their owner deleted are no part of it: nothing re-creates them."""
    current = and_(Replica.state == ReplicaState.SERVING, Replica.object_version == Object.version)
    serving = func.count().filter(current)
    damaged = func.count().filter(Replica.state.in_(DAMAGED))
    chosen = select(Object, serving, damaged).outerjoin(Replica).where(Object.state == ObjectState.PRESENT)
    if prefix:
        chosen = chosen.where(func.starts_with(Object.key, prefix))
    if keys is not None:
        chosen = chosen.where(Object.key.in_(keys))
    page = chosen.where(Object.id > after_id).group_by(Object.id).order_by(Object.id).limit(limit)
    rows, rules = session.execute(page).all(), policies.load(session)
    ids = [found.id for found, good, bad in rows if is_broken(good, bad, rules.rules(found.key, found.tags))]
    last_id = rows[-1][0].id if len(rows) == limit else None
    return Block(len(rows), _load(session, ids, rules), last_id)


def _load(session: Session, ids: Sequence[int], rules: Policies) -> list[Broken]:
    known = {site.id: sites.facts(site) for site in sites.listing(session)}
    by_name = {facts.name: facts for facts in known.values()}
    moving = set(session.scalars(select(Migration.object_id).where(ACTIVE, Migration.object_id.in_(ids))))
    held: dict[int, list[Replica]] = {object_id: [] for object_id in ids}
    for row in session.scalars(select(Replica).where(Replica.object_id.in_(ids)).order_by(Replica.id)):
        held[row.object_id].append(row)
    found = []
    for thing in session.scalars(select(Object).where(Object.id.in_(ids)).order_by(Object.id)):
        facts = {known[row.site_id].name: replicas.facts(row, thing.version) for row in held[thing.id]}
        lies = {name: fact for name, fact in facts.items() if fact}
        copies = Copies(rules.rules(thing.key, thing.tags), lies, by_name, thing.id in moving)
        found.append(Broken(thing.id, thing.key, thing.version, thing.size or 0, copies))
    return found
