"""A plan's rollback, as it is saved: its open moves stopped, each switch reversed in a transaction of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, or_, select, update
from sqlalchemy.orm import Session

from app.db import audit, changes, jobs, migrations, plans, policies, replicas, sites
from app.db.jobs import Bell
from app.db.locks import NO_KEY
from app.db.migrations import ACTIVE
from app.db.tables import Job, Migration, Move, Object, Plan, Site
from app.domain.migrations import COPIED, EARLY, SWITCHED
from app.domain.pins import Pin
from app.domain.policies import Policies
from app.domain.rollback import Done, Now
from app.domain.sites import SiteAddress
from app.domain.states import (
    JOB_FINAL,
    MIGRATION_TRANSITIONS,
    PLAN_TRANSITIONS,
    JobState,
    MigrationState,
    MoveKind,
    ObjectState,
    PlanState,
    ReplicaState,
    SiteState,
    check_transition,
)
from app.domain.tasks import TaskName
from app.errors import Conflict

REASON = "plan_rolled_back"


@dataclass(frozen=True)
class Undoable:
    """A move of the plan with its object, as one transaction has read them."""

    migration_id: int
    object_id: int
    key: str
    version: int
    size: int
    done: Done
    source_id: int
    destination_id: int
    source_pin: Pin | None
    """What was last seen at the source."""


def submit(session: Session, plan_id: int, *, actor: str, request_id: str | None, args: dict[str, object]) -> Job:
    """Adds the job that rolls a plan back. Raises NotFound, or Conflict when there is nothing to roll back."""
    plan = plans.get(session, plan_id, lock=True)
    if plan.state not in (PlanState.APPLYING, PlanState.APPLIED):
        raise Conflict(f"plan {plan_id} cannot be rolled back: it is {plan.state}")
    unfinished = (Job.kind == TaskName.ROLLBACK, Job.state.not_in(JOB_FINAL))
    other = session.scalar(select(Job.id).where(*unfinished, Job.args["plan_id"].as_integer() == plan_id))
    if other is not None:
        raise Conflict(f"job {other} rolls plan {plan_id} back already")
    given = {**args, "plan_id": plan_id}
    job = jobs.submit(session, TaskName.ROLLBACK, given, actor=actor, request_id=request_id)
    if not args.get("dry_run"):
        audit.append(session, actor, "plan.roll_back", f"plan {plan_id}", {"job_id": job.id, **args}, request_id)
    return job


def stop_open(session: Session, plan_id: int) -> tuple[int, list[Bell]]:
    """Ends the plan's moves that nobody has begun, and asks the others to stop; how many have not stopped yet."""
    plan = plans.get(session, plan_id)
    job = None
    if plan.apply_job_id is not None:  # a job before its migrations, as every transaction that holds both
        job = session.get_one(Job, plan.apply_job_id, with_for_update=NO_KEY, populate_existing=True)
    if job is not None and job.state in jobs.READY:  # else it would take up again what is ended here
        job.state, job.reason, job.finished_at = JobState.CANCELLED, REASON, func.now()
    early = (Migration.plan_id == plan_id, Migration.state.in_(EARLY))
    in_order = (
        select(Migration.id).where(*early, Migration.fence == 0).order_by(Migration.id).with_for_update(key_share=True)
    )
    session.execute(
        update(Migration)
        .where(Migration.id.in_(in_order.scalar_subquery()), Migration.fence == 0)
        .values(state=MigrationState.CANCELLED, reason=REASON, finished_at=func.now(), after_id=None)
    )
    left = session.scalar(select(func.count()).select_from(Migration).where(*early)) or 0
    if job is None:
        return left, []
    if left:
        migrations.cancel_all(session, job.id)
    if job.state not in JOB_FINAL:
        job.cancel_requested = True
    job.rung_at, job.rings = None, 0
    return left, [jobs.bell(job)]


def objects_of(session: Session, plan_id: int, after_id: int, limit: int) -> list[int]:
    """The ids of the next objects that the plan has changed, or is about to."""
    mine = (Migration.plan_id == plan_id, Migration.state.in_(COPIED | EARLY), Migration.object_id > after_id)
    found = select(Migration.object_id).where(*mine).distinct().order_by(Migration.object_id).limit(limit)
    return list(session.scalars(found))


@dataclass(frozen=True)
class Rollback:
    """What holds for all of a plan's objects: sites and rules, read once a batch."""

    plan_id: int
    sites: Mapping[int, Site]
    rules: Policies

    @staticmethod
    def of(session: Session, plan_id: int) -> Rollback:
        """As they are now."""
        return Rollback(plan_id, sites.by_id(session), policies.load(session))

    def address(self, site_id: int) -> SiteAddress:
        """How to reach a site."""
        return sites.address(self.sites[site_id])

    def name(self, site_id: int | None) -> str | None:
        """A site's name."""
        return self.sites[site_id].name if site_id is not None and site_id in self.sites else None

    def load(self, session: Session, object_id: int) -> tuple[Now, list[Undoable]]:
        """The object as it is, and the plan's moves of it, the last first."""
        found = session.get_one(Object, object_id, populate_existing=True)
        held = replicas.of_object(session, object_id)
        pins = {replica.site_id: Pin.from_json(replica.pin) for replica in held}
        facts = {str(self.name(r.site_id)): replicas.facts(r, found.version) for r in held}
        other = select(Migration.id).where(
            ACTIVE,
            Migration.object_id == object_id,
            or_(Migration.plan_id.is_(None), Migration.plan_id != self.plan_id),
        )
        now = Now(
            state=ObjectState(found.state),
            rules=self.rules.rules(found.key, found.tags),
            replicas={name: fact for name, fact in facts.items() if fact},
            sites={site.name: SiteState(site.state) for site in self.sites.values()},
            busy=session.scalar(other.limit(1)) is not None,
        )
        rows = session.execute(
            select(Migration, Move.from_class)
            .outerjoin(Move, Move.id == Migration.move_id)
            .where(Migration.plan_id == self.plan_id, Migration.object_id == object_id)
            .order_by(Migration.id.desc())
            .execution_options(populate_existing=True)
        )
        return now, [self._undoable(row, from_class, found, pins) for row, from_class in rows]

    def _undoable(self, row: Migration, from_class: str | None, found: Object, pins: dict[int, Pin | None]) -> Undoable:
        done = Done(
            kind=MoveKind(row.kind),
            state=MigrationState(row.state),
            delete_intended=row.delete_intended_at is not None,
            from_site=self.name(row.from_site_id) or "",
            from_class=from_class,
            to_site=self.name(row.to_site_id),
            to_class=row.to_class,
        )
        source_id = row.from_site_id or 0
        return Undoable(
            row.id, found.id, found.key, found.version, found.size or 0, done, source_id,
            row.to_site_id or source_id, pins.get(source_id),
        )  # fmt: skip


def reverse(session: Session, move: Undoable, grace_s: float, *, keep_copy: bool) -> bool:
    """Puts the source in service again and ends the migration; False when the object has changed since it was read.

    The new copy goes out of service, to be removed after the grace, unless `keep_copy`: its readers use it directly.
    """
    found = _held(session, move, SWITCHED | {MigrationState.DONE})
    if found is None:
        return False
    _serve_source(session, found, move)
    if move.done.kind is MoveKind.MOVE and not keep_copy:
        _take_out(session, move, grace_s)
    _end(session, move)
    return True


def retire(session: Session, move: Undoable, grace_s: float) -> bool:
    """Takes the copy that was added out of service, to be removed after the grace; False as for `reverse`."""
    found = _held(session, move, {MigrationState.DONE})
    if found is None:
        return False
    found.version += 1
    session.flush()
    replicas.carry_over(session, [found.id])
    _take_out(session, move, grace_s)
    _end(session, move)
    return True


def owner_wrote(session: Session, move: Undoable, pin: Pin) -> bool:
    """The source holds what its owner wrote since: that is the newest version, and serves; False as for `reverse`."""
    if _held(session, move, SWITCHED | {MigrationState.DONE}) is None:
        return False
    changes.put_seen(session, move.object_id, move.source_id, pin)
    return True


def _held(session: Session, move: Undoable, states: Iterable[MigrationState]) -> Object | None:
    """The object, locked, if it and the migration still are as they were read."""
    found = changes.lock(session, move.object_id)
    row = session.get_one(Migration, move.migration_id, with_for_update=NO_KEY, populate_existing=True)
    intended = row.delete_intended_at is not None and row.state in SWITCHED
    same = found.version == move.version and row.state == move.done.state and row.state in states
    return found if same and not intended else None


def _serve_source(session: Session, found: Object, move: Undoable) -> None:
    found.version += 1
    found.moved_at = func.now()
    session.flush()
    replicas.carry_over(session, [found.id])
    replicas.set_state(
        session,
        found.id,
        ReplicaState.SERVING,
        only=(ReplicaState.DRAINING,),
        site_id=move.source_id,
        object_version=found.version,
        draining_until=None,
    )


def _take_out(session: Session, move: Undoable, grace_s: float) -> None:
    until: datetime = func.now() + timedelta(seconds=grace_s)  # type: ignore[assignment]
    only = (ReplicaState.SERVING,)
    replicas.set_state(
        session, move.object_id, ReplicaState.STALE, only=only, site_id=move.destination_id, draining_until=until
    )


def _end(session: Session, move: Undoable) -> None:
    check_transition(MIGRATION_TRANSITIONS, move.done.state, MigrationState.ROLLED_BACK)
    changes.end(session, move.migration_id, MigrationState.ROLLED_BACK, REASON)
    data = {"key": move.key, "kind": move.done.kind, "from": move.done.from_site, "to": move.done.to_site}
    audit.append(session, "worker", "migration.roll_back", f"migration {move.migration_id}", {**data, "reason": REASON})


def finish(session: Session, plan_id: int) -> Plan:
    """The plan is rolled back. Raises Conflict when it cannot be."""
    plan = plans.get(session, plan_id, lock=True)
    check_transition(PLAN_TRANSITIONS, PlanState(plan.state), PlanState.ROLLED_BACK)
    plan.state, plan.version, plan.finished_at = PlanState.ROLLED_BACK, plan.version + 1, func.now()
    return plan


def counts(session: Session, plan_id: int) -> dict[str, int]:
    """How many of the plan's moves the rollback has reversed, and how many it has stopped."""
    rows = session.execute(
        select(Migration.state, func.count()).where(Migration.plan_id == plan_id).group_by(Migration.state)
    )
    found: Sequence[tuple[str, int]] = [(str(state), count) for state, count in rows]
    by_state = dict(found)
    return {
        "rolled_back": by_state.get(MigrationState.ROLLED_BACK, 0),
        "cancelled": by_state.get(MigrationState.CANCELLED, 0),
    }
