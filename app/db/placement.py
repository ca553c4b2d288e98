"""What the planner reads, a block of objects at a time: sites with their books, copies, faded reads, predictions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Double, case, cast, exists, false, func, or_, select, text
from sqlalchemy.orm import Session

from app.db import models, opinions, policies, prices, savings, sites
from app.db.demand import DAY_S, Priors, cohort, histories
from app.db.opinions import Voting
from app.db.tables import AccessHour, Json, Migration, Object, Prediction, Replica, Site
from app.db.tables_work import MIGRATION_ACTIVE
from app.domain.demand import Demand, Forecast, History, Prior, expect
from app.domain.migrations import SWITCHED
from app.domain.placement_problem import Held, Item, SiteOption
from app.domain.policies import Policies
from app.domain.price_documents import fingerprint
from app.domain.prices import GB, MONTH_DAYS, PriceBook
from app.domain.savings import EVERYWHERE
from app.domain.states import ObjectState, ReplicaState, SiteState
from app.domain.votes import Opinion

PEERS = 1000
"""Objects of the same cohorts whose mean is the prior when only some keys are planned."""


@dataclass(frozen=True)
class Selection:
    """Which objects to plan and under which rules that differ from the policies."""

    prefix: str | None = None
    keys: tuple[str, ...] | None = None
    rf: int | None = None
    sla_ms: float | None = None
    moving: bool = False
    """Also objects that a migration has in hand; a plan leaves them out."""


@dataclass(frozen=True)
class World:
    """What holds for all objects at once."""

    now: datetime
    options: tuple[SiteOption, ...]
    site_ids: Mapping[str, int]
    policies: Policies
    unpriced: tuple[str, ...]
    """Sites that no price book covers; nothing is planned to or from them."""
    voting: Voting = field(default_factory=Voting)
    no_demotions: Mapping[str, str] = field(default_factory=dict)
    """Cohorts whose demotions have lost money, each with why nothing is demoted there."""

    @property
    def names(self) -> dict[int, str]:
        """Site names by id."""
        return {number: name for name, number in self.site_ids.items()}

    def fingerprint(self) -> Json:
        """What a plan was made from; `app.db.plans.drift` compares it with a later world."""
        binding = ("sla", "residency", "security")
        return {
            "policies": {name: self.policies.versions[name] for name in binding if name in self.policies.versions},
            "encryption": self.policies.encryption_enforced,
            "sites": {
                site.name: {
                    "draining": site.state is SiteState.DRAINING,
                    "classes": list(site.classes),
                    "encrypted": site.encrypted,
                }
                for site in self.options
            },
            "prices": {site.name: f"{site.book.as_of} {fingerprint(site.book)}" for site in self.options},
        }


@dataclass(frozen=True)
class Block:
    """Some objects, ready to be placed, with those that cannot be and why."""

    items: tuple[Item, ...]
    unplanned: tuple[tuple[str, str], ...]
    last_id: int | None


def world(session: Session, now: datetime) -> World:
    """Sites with their prices and volumes, and the policies in force."""
    rows = sites.listing(session)
    books = prices.books(session, rows)
    volumes, rules = _volumes(session), policies.load(session)
    priced = [site for site in rows if site.name in books]
    stored = _stored(session) if any(site.capacity_bytes is not None for site in rows) else {}
    options = tuple(
        replace(_option(site, books[site.name], volumes.get(site.id, {}), rules), stored_bytes=stored.get(site.id, 0.0))
        for site in priced
    )
    return World(
        now=now,
        options=options,
        site_ids={site.name: site.id for site in rows},
        policies=rules,
        unpriced=tuple(site.name for site in rows if site.name not in books),
        voting=opinions.voting(session, now),
        no_demotions=savings.no_demotions(session, now),
    )


def _option(site: Site, book: PriceBook, volume_gb: Mapping[str, float], rules: Policies) -> SiteOption:
    facts = sites.facts(site)
    kept = [name for name in site.classes if name in facts.capabilities.classes and name in book.by_name]
    first = next((name for name in site.classes if name in book.by_name), book.classes[0].name)
    return SiteOption(
        name=site.name,
        provider=site.provider,
        region=site.region,
        latency_ms=site.latency_ms,
        classes=tuple(dict.fromkeys([first, *kept])),
        book=book,
        state=SiteState(site.state),
        encrypted=facts.encrypted,
        volume_gb=volume_gb,
        versioned=facts.capabilities.versioning,
        old_versions_days=rules.days_of_old_versions if facts.capabilities.versioning else 0.0,
        capacity_bytes=site.capacity_bytes,
        max_request_rate=site.max_request_rate,
    )


def _stored(session: Session) -> dict[int, float]:
    """Bytes by site that stand there in whatever state, or that moves are about to bring."""
    size, gone = cast(func.sum(Replica.size), Double), (ReplicaState.DELETED, ReplicaState.LOST)
    standing = select(Replica.site_id, size).where(Replica.state.not_in(gone)).group_by(Replica.site_id)
    result = defaultdict(float, {site_id: bytes_ or 0.0 for site_id, bytes_ in session.execute(standing)})
    there = exists().where(
        Replica.object_id == Migration.object_id, Replica.site_id == Migration.to_site_id, Replica.state.not_in(gone)
    )
    coming = (
        select(Migration.to_site_id, cast(func.sum(Migration.bytes_total), Double))
        .where(text(MIGRATION_ACTIVE), Migration.to_site_id.is_not(None), ~there)
        .group_by(Migration.to_site_id)
    )
    for site_id, bytes_ in session.execute(coming):
        result[site_id] += bytes_
    return dict(result)


def other_reads(session: Session, world: World, selection: Selection) -> dict[str, float]:
    """Reads a second by site, over the last month, of objects that a selection leaves out."""
    if all(site.max_request_rate is None for site in world.options):
        return {}
    since, month = world.now - timedelta(days=MONTH_DAYS), MONTH_DAYS * DAY_S
    chosen = select(Object.id).where(*_selected(selection))
    statement = (
        select(Replica.site_id, cast(func.sum(AccessHour.reads), Double))
        .join(AccessHour, AccessHour.object_id == Replica.object_id)
        .where(Replica.is_origin, Replica.state == ReplicaState.SERVING, Replica.object_id.not_in(chosen))
        .where(AccessHour.hour > since, AccessHour.hour <= world.now)
        .group_by(Replica.site_id)
    )
    return {world.names[site_id]: reads / month for site_id, reads in session.execute(statement)}


def _volumes(session: Session) -> dict[int, dict[str, float]]:
    """GB stored by site and class, which decide the volume bands."""
    total = cast(func.sum(Replica.size), Double)
    statement = select(Replica.site_id, Replica.storage_class, total).where(Replica.state == ReplicaState.SERVING)
    result: dict[int, dict[str, float]] = defaultdict(dict)
    for site_id, name, size in session.execute(statement.group_by(Replica.site_id, Replica.storage_class)):
        result[site_id][name] = size / GB
    return result


def count(session: Session, selection: Selection) -> int:
    """How many objects a selection has."""
    return session.scalar(select(func.count()).select_from(Object).where(*_selected(selection))) or 0


def moving(session: Session, selection: Selection) -> dict[str, int]:
    """How many objects a plan of the selection leaves out since a migration has them in hand, by why."""
    why = _why_moving()
    chosen = select(Object.id).where(*_selected(replace(selection, moving=True)))
    counted = select(why, func.count()).where(text(MIGRATION_ACTIVE), Migration.object_id.in_(chosen)).group_by(why)
    return dict(session.execute(counted).all())


def why_moving(session: Session, object_id: int) -> str | None:
    """Why plans leave an object out for now; None: they do not."""
    return session.scalar(select(_why_moving()).where(text(MIGRATION_ACTIVE), Migration.object_id == object_id))


def _why_moving() -> ColumnElement[str]:
    return case(
        (Migration.state.in_(SWITCHED), "what its last move has replaced is still there for its grace"),
        (Migration.not_before > func.now(), "a move for a peak waits for its time"),
        else_="a move of it is under way",
    )


def sample(session: Session, prefix: str, most: int) -> tuple[tuple[str, ...], int]:
    """Up to so many keys under a prefix, evenly taken in the order of their ids, and how many there are in all."""
    selection = Selection(prefix, moving=True)
    total = count(session, selection)
    step = -(-total // most) or 1
    place = func.row_number().over(order_by=Object.id).label("place")
    chosen = select(Object.key, place).where(*_selected(selection)).subquery()
    evenly = select(chosen.c.key).where(chosen.c.place % step == 0).order_by(chosen.c.place)
    return tuple(session.scalars(evenly)), total


def block(session: Session, world: World, selection: Selection, after_id: int, limit: int) -> Block:
    """The next objects of a selection by id, with their demand and rules, in a few queries whatever their number."""
    return rows(session, world, selection, after_id, limit).block()


def rows(
    session: Session, world: World, selection: Selection, after_id: int, limit: int, *, asked: bool = False
) -> Rows:
    """What `block` is made of. Many are built after the transaction: one that idles meanwhile would be cut.

    asked: the voters will be asked anew, so what they said is not read.
    """
    chosen = select(Object).where(*_selected(selection), Object.id > after_id).order_by(Object.id).limit(limit)
    objects = session.scalars(chosen).all()
    ids = [row.id for row in objects]
    predicted = session.scalars(select(Prediction).where(Prediction.object_id.in_(ids))).all()
    return Rows(
        world=world,
        selection=selection,
        objects=objects,
        copies=_copies(session, ids),
        read=histories(session, world.now, objects),
        predicted=predicted,
        versions=models.numbers(session, {row.demand_version_id for row in predicted if row.demand_version_id}),
        priors=None if selection.keys is None else _peers(session, world.now, objects),
        said={} if asked else opinions.load(session, world.voting, ids),
        last_id=ids[-1] if len(ids) == limit else None,
    )


@dataclass(frozen=True)
class Rows:
    """Some objects as they were read, by id."""

    world: World
    selection: Selection
    objects: Sequence[Object]
    copies: Mapping[int, Sequence[Replica]]
    read: Mapping[int, History]
    predicted: Sequence[Prediction]
    versions: Mapping[int, int]
    """The numbers of the demand model's versions, by id."""
    priors: Priors | None
    """None: the means of these objects themselves."""
    said: Mapping[int, Opinion]
    last_id: int | None

    def block(self) -> Block:
        """The objects ready to be placed. Takes no transaction."""
        predicted = {row.object_id: row for row in self.predicted}
        priors = self.priors or Priors.over(self.objects, self.read)
        items, unplanned = [], []
        for row in self.objects:
            held, problem = _held(self.world, self.copies.get(row.id, ()))
            if problem:
                unplanned.append((row.key, problem))
                continue
            demand = _demand(self.read[row.id], priors.of(row), predicted.get(row.id), self.versions)
            item = _item(self.world, self.selection, row, held, demand)
            no_demotion = _no_demotion(self.world, held, row.key)
            items.append(replace(item, opinion=self.said.get(row.id), no_demotion=no_demotion))
        return Block(tuple(items), tuple(unplanned), self.last_id)


def _peers(session: Session, now: datetime, objects: Sequence[Object]) -> Priors:
    """The priors of a few objects: the means of those beside them."""
    beside = [Object.key.startswith(name, autoescape=True) for name in {cohort(row.key) for row in objects}]
    known = [Object.state == ObjectState.PRESENT, Object.size.is_not(None), or_(false(), *beside)]
    peers = session.scalars(select(Object).where(*known).order_by(Object.id).limit(PEERS)).all() if beside else []
    return Priors.over(peers, histories(session, now, peers))


def _selected(selection: Selection) -> list[ColumnElement[bool]]:
    where: list[ColumnElement[bool]] = [Object.state == ObjectState.PRESENT, Object.size.is_not(None)]
    if selection.prefix:
        where.append(Object.key.startswith(selection.prefix, autoescape=True))
    if selection.keys is not None:
        where.append(Object.key.in_(selection.keys))
    if not selection.moving:
        where.append(~exists().where(Migration.object_id == Object.id, text(MIGRATION_ACTIVE)))
    return where


def _copies(session: Session, ids: Sequence[int]) -> dict[int, list[Replica]]:
    """The serving copies of the newest version, by object."""
    statement = (
        select(Replica)
        .join(Object, Object.id == Replica.object_id)
        .where(
            Replica.object_id.in_(ids),
            Replica.state == ReplicaState.SERVING,
            Replica.object_version == Object.version,
        )
        .order_by(Replica.id)
    )
    result: dict[int, list[Replica]] = defaultdict(list)
    for row in session.scalars(statement):
        result[row.object_id].append(row)
    return result


def _held(world: World, copies: Sequence[Replica]) -> tuple[tuple[Held, ...], str]:
    """The copies as the planner sees them, or why it cannot."""
    if not copies:
        return (), "no copy of its newest version is known"
    books = {site.name: site.book for site in world.options}
    held = []
    for row in copies:
        site = world.names[row.site_id]
        if site not in books:
            return (), f"{site} has no price book"
        if row.storage_class not in books[site].by_name:
            return (), f"the price book of {site} has no storage class {row.storage_class}"
        days = max(0.0, (world.now - row.class_since).total_seconds() / DAY_S)
        held.append(Held(site, row.storage_class, days, row.is_origin))
    return tuple(held), ""


def _no_demotion(world: World, held: Sequence[Held], key: str) -> str:
    names = [*(savings.cohort_of(copy.site, key) for copy in held), EVERYWHERE] if world.no_demotions else []
    return next((world.no_demotions[name] for name in names if name in world.no_demotions), "")


def _demand(history: History, prior: Prior, predicted: Prediction | None, versions: Mapping[int, int]) -> Demand:
    if predicted is None:
        return expect(history, prior)
    prior = Prior(predicted.reads_30d / 30, predicted.bytes_30d / 30)
    demand = replace(expect(history, prior, predicted.p_hot), p_band=(predicted.p_low, predicted.p_high))
    low, high = predicted.reads_30d_low, predicted.reads_30d_high
    if predicted.demand_version_id is None or low is None or high is None:
        return demand
    forecast = Forecast(versions[predicted.demand_version_id], 30, predicted.reads_30d, low, high)
    return replace(demand, forecast=forecast, shape=forecast.shape or demand.shape)


def _item(
    world: World,
    selection: Selection,
    row: Object,
    held: tuple[Held, ...],
    demand: Demand,
) -> Item:
    moved = None if row.moved_at is None else max(0.0, (world.now - row.moved_at).total_seconds() / DAY_S)
    return Item(
        id=row.id,
        key=row.key,
        version=row.version,
        size=row.size or 0,
        held=held,
        demand=demand,
        rules=world.policies.rules(row.key, row.tags, rf=selection.rf, sla_ms=selection.sla_ms),
        days_since_move=moved,
        tags=row.tags,
    )
