"""Draining and evacuating a site: its state, what is left there, why, and how fast it goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import ColumnElement, Double, cast, func, or_, select
from sqlalchemy.orm import Session

from app.db import audit, jobs, policies, sites
from app.db.migrations import ACTIVE
from app.db.tables import Job, Json, Migration, Object, Replica, Site
from app.domain.evacuation import PASSING, Held, Rate, eta_s, is_in_vain, why_stays
from app.domain.policies import Policies
from app.domain.states import JOB_FINAL, MigrationState, ObjectState, ReplicaState, SiteState
from app.domain.tasks import TaskName
from app.errors import Conflict

THERE = tuple(state for state in ReplicaState if state not in (ReplicaState.DELETED, ReplicaState.LOST))
CAME_TO_NOTHING = (MigrationState.BLOCKED, MigrationState.FAILED, MigrationState.DEAD, MigrationState.SKIPPED)
RATE_S = 600.0
"""The rate is measured over the last so many seconds."""


def drain(session: Session, name: str, *, actor: str, request_id: str | None = None) -> Site:
    """From now on the site receives nothing more; what it holds stays readable. Raises NotFound or Conflict."""
    site = sites.get(session, name)
    if site.probed_at is None:
        raise Conflict(f"{name} has not been probed yet and holds nothing that Foretide knows")
    if site.state != SiteState.DRAINING:
        site = sites.change(session, name, state=SiteState.DRAINING, reason=None)
        audit.append(session, actor, "site.drain", name, None, request_id)
    return site


def undrain(session: Session, name: str, *, actor: str, request_id: str | None = None) -> Site:
    """Ends the draining: the site is used again once its probe has passed. Raises NotFound or Conflict."""
    site = sites.get(session, name)
    if site.state != SiteState.DRAINING:
        raise Conflict(f"{name} is not draining, but {site.state}")
    job = running(session, name)
    if job is not None:
        raise Conflict(f"job {job.id} evacuates {name}; cancel it first: foretide jobs cancel {job.id}")
    audit.append(session, actor, "site.undrain", name, None, request_id)
    return sites.change(session, name, state=SiteState.PROBING, reason=None)


def submit(session: Session, name: str, *, actor: str, request_id: str | None, dry_run: bool) -> Job:
    """Adds the job that empties a site, which drains from now on. Raises NotFound or Conflict."""
    if not dry_run:
        drain(session, name, actor=actor, request_id=request_id)
        session.execute(
            select(Site.id).where(Site.name == name).with_for_update(key_share=True)
        )  # one at a time looks and begins
    other = running(session, name)
    if other is not None and not dry_run:
        raise Conflict(f"job {other.id} evacuates {name} already")
    sites.get(session, name)
    args: Json = {"site": name, "dry_run": dry_run}
    job = jobs.submit(session, TaskName.EVACUATE, args, actor=actor, request_id=request_id)
    if not dry_run:
        audit.append(session, actor, "site.evacuate", name, {"job_id": job.id}, request_id)
    return job


def running(session: Session, name: str) -> Job | None:
    """The evacuation of the site that has not ended."""
    unfinished = select(Job).where(*_of(name), Job.state.not_in(JOB_FINAL))
    return session.scalar(unfinished.order_by(Job.id.desc()).limit(1))


def _of(name: str) -> tuple[ColumnElement[bool], ...]:
    return (Job.kind == TaskName.EVACUATE, Job.args["site"].as_string() == name, ~Job.args["dry_run"].as_boolean())


def tidied_within(session: Session, job_id: int, seconds: float) -> bool:
    """Whether the evacuation has had the site tidied so lately, or is about to."""
    tidy = (Job.parent_id == job_id, Job.kind == TaskName.TIDY)
    since = func.now() - timedelta(seconds=seconds)
    lately = or_(Job.state.not_in(JOB_FINAL), Job.created_at > since)
    return session.scalar(select(Job.id).where(*tidy, lately).limit(1)) is not None


def tidied_in_vain(session: Session, job_id: int) -> bool:
    """Whether the evacuation's last tidy pass, begun after its last moves, removed nothing and never will."""
    mine = (Job.parent_id == job_id, Job.state.in_(JOB_FINAL))
    last = session.scalar(select(Job).where(*mine, Job.kind == TaskName.TIDY).order_by(Job.id.desc()).limit(1))
    if last is None or not last.result:
        return False
    since = select(Job.id).where(*mine, Job.kind == TaskName.MIGRATE, Job.finished_at > last.created_at)
    if session.scalar(since.limit(1)) is not None:
        return False
    return is_in_vain(last.result["removed"], last.result["kept"])


# -- What is left -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Copy:
    """A copy at the site and why it stays; None: it is to be moved."""

    object_id: int
    key: str
    size: int
    stays: str | None


def left(session: Session, site_id: int) -> tuple[int, int]:
    """How many objects, and bytes, the site holds."""
    there = (Replica.site_id == site_id, Replica.state.in_(THERE))
    row = session.execute(select(func.count(), func.coalesce(func.sum(Replica.size), 0)).where(*there)).one()
    return int(row[0]), int(row[1])


def copies(session: Session, site_id: int, job_id: int, after_id: int, limit: int) -> list[Copy]:
    """The next copies at the site, by object, each with what keeps it there."""
    moving = select(Migration.id).where(Migration.object_id == Object.id, ACTIVE).exists()
    rows = session.execute(
        select(Object, Replica, moving)
        .join(Replica)
        .where(Replica.site_id == site_id, Replica.state.in_(THERE), Object.id > after_id)
        .order_by(Object.id)
        .limit(limit)
    ).all()
    rules, tried = policies.load(session), _tried(session, job_id, [found.id for found, _, _ in rows])
    return [
        _copy(found, replica, rules, is_moving, *tried.get(found.id, (0, ""))) for found, replica, is_moving in rows
    ]


def _copy(found: Object, replica: Replica, rules: Policies, moving: bool, times: int, reason: str) -> Copy:
    held = Held(
        object_state=ObjectState(found.state),
        state=ReplicaState(replica.state),
        current=replica.object_version == found.version,
        ours=replica.verified_at is not None,
        rules=rules.rules(found.key, found.tags),
        moving=moving,
        tried=times,
        last_reason=reason,
    )
    return Copy(found.id, found.key, replica.size, why_stays(held))


def _tried(session: Session, job_id: int, object_ids: Sequence[int]) -> dict[int, tuple[int, str]]:
    """How many of the evacuation's moves of each object came to nothing, and why."""
    mine = select(Job.id).where(Job.parent_id == job_id)
    rows = session.execute(
        select(Migration.object_id, func.count(), func.max(Migration.reason))
        .where(Migration.job_id.in_(mine), Migration.object_id.in_(object_ids), Migration.state.in_(CAME_TO_NOTHING))
        .group_by(Migration.object_id)
    )
    return {object_id: (count, reason or "") for object_id, count, reason in rows}


# -- Progress ---------------------------------------------------------------------------------------------------------


def status(session: Session, site: Site, grace_s: float) -> Json | None:
    """How far the newest evacuation of the site is; None when it is not being emptied."""
    job = session.scalar(select(Job).where(*_of(site.name)).order_by(Job.id.desc()).limit(1))
    if job is None or site.state != SiteState.DRAINING:
        return None
    objects, size = left(session, site.id)
    blocked: dict[str, int] = (job.result or job.args).get("blocked", {})
    stays = sum(count for reason, count in blocked.items() if reason not in PASSING)
    going = max(0, objects - stays)
    share = going / objects if objects else 0.0
    eta = eta_s(going, int(size * share), rate(session, job.id), grace_s)
    return {
        "job_id": job.id,
        "state": job.state,
        "objects_left": objects,
        "bytes_left": size,
        "eta_s": None if eta is None or job.state in JOB_FINAL else round(eta, 1),
        "blocked": blocked,
    }


def rate(session: Session, job_id: int) -> Rate:
    """What the evacuation's moves have switched lately."""
    mine = select(Job.id).where(Job.parent_id == job_id)
    since = func.now() - timedelta(seconds=RATE_S)
    began = func.greatest(func.min(Migration.started_at), since)
    seconds = cast(func.extract("epoch", func.now() - began), Double)
    row = session.execute(
        select(func.count(), func.coalesce(func.sum(Migration.bytes_total), 0), seconds).where(
            Migration.job_id.in_(mine), Migration.switched_at > since
        )
    ).one()
    return Rate(int(row[0]), int(row[1]), float(row[2] or 0.0))
