"""Empties a site: plans where its copies go, carries the plans out one after the other, and waits for their graces."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from app import clock
from app.db import evacuation as store
from app.db import jobs, migration_plans, placement, plans, sites
from app.db.evacuation import Copy
from app.db.placement import Selection, World
from app.db.session import session_scope
from app.db.tables import Json, Plan, Site
from app.domain.evacuation import NOT_REMOVED, PASSING
from app.domain.placement_costs import price
from app.domain.placement_decisions import Decision, Verdict, decide
from app.domain.placement_problem import Problem
from app.domain.prices import MONTH_DAYS, to_usd
from app.domain.states import JOB_FINAL, PlanState, SiteState
from app.queue import TaskName
from app.settings import get_settings
from workers.base import JobContext, job_task, ring_all

BATCH = 2000
ROUND = 20_000
"""Objects of one plan: what is left is planned when they have gone."""
WAIT_S = 10.0
GRACE_S = 30.0
"""How often a site is looked at while what is left goes by itself."""


@dataclass
class Round:
    """What one look at the site found: what is planned, what stays and why, how much is left to plan."""

    decisions: list[Decision] = field(default_factory=list)
    stays: Counter[str] = field(default_factory=Counter)
    later: int = 0

    @property
    def passes(self) -> bool:
        """Whether something that stays now will go by itself, or is to be planned in a later round."""
        return self.later > 0 or any(self.stays[reason] for reason in PASSING)


@job_task(TaskName.EVACUATE)
def evacuate(job: JobContext) -> Json | None:
    """Moves what args.site holds to the cheapest sites that the rules allow; with dry_run it only says where to."""
    name, dry_run = str(job.args["site"]), bool(job.args.get("dry_run"))
    with session_scope() as session:
        site = sites.get(session, name)
        open_jobs = [child.id for child in jobs.children(session, job.id) if child.state not in JOB_FINAL]
        objects, _ = store.left(session, site.id)
    initial = max(int(job.args.get("initial") or 0), objects)
    job.progress(initial - objects, initial, "objects")
    if open_jobs:
        _wait(job, f"waiting for job {open_jobs[0]}", initial)
        return None
    found, world = _look(job, site, pretend=dry_run)
    if dry_run:
        return _forecast(found)
    if found.decisions:
        _carry_out(job, found, world, initial)
        return None
    _give_up_removing(job, found)
    if found.passes:
        told = ", ".join(f"{count} {reason}" for reason, count in sorted(found.stays.items()))
        _wait(job, f"waiting: {told}", initial, found)
        return None
    return {"objects_left": objects, "moved": initial - objects, "blocked": dict(found.stays)}


def _give_up_removing(job: JobContext, found: Round) -> None:
    """What tidying would leave again is not waited for."""
    if found.stays["being_removed"]:
        with session_scope() as session:
            if store.tidied_in_vain(session, job.id):
                found.stays[NOT_REMOVED] = found.stays.pop("being_removed")


def _wait(job: JobContext, reason: str, initial: int, found: Round | None = None) -> None:
    """Gives the job back for a while; what tidying would remove is tidied once a grace."""
    bell = None
    with job.postponing(reason, GRACE_S if found else WAIT_S) as session:
        blocked = dict(found.stays) if found else job.args.get("blocked", {})
        jobs.set_args(session, job.id, job.fence, {**job.args, "initial": initial, "blocked": blocked})
        if blocked.get("being_removed") and not store.tidied_within(session, job.id, get_settings().grace_s):
            args = {"site": job.args["site"]}
            child = jobs.submit(session, TaskName.TIDY, args, actor=job.actor, parent_id=job.id)
            bell = jobs.bell(child)
    ring_all([bell])


def _look(job: JobContext, site: Site, *, pretend: bool) -> tuple[Round, World]:
    """Sorts the site's copies and plans the first of those that may go. pretend: as if the site were draining."""
    with session_scope() as session:
        world = placement.world(session, clock.now())
    if pretend:
        world = _draining(world, site.name)
    found, after = Round(), 0
    while True:
        with session_scope() as session:
            batch = store.copies(session, site.id, job.id, after, BATCH)
        found.stays.update(copy.stays for copy in batch if copy.stays)
        going = [copy for copy in batch if not copy.stays]
        if len(found.decisions) < ROUND:
            _plan(found, going, world)
        else:
            found.later += len(going)
        job.check()
        if len(batch) < BATCH:
            return found, world
        after = batch[-1].object_id


def _draining(world: World, name: str) -> World:
    options = tuple(
        replace(option, state=SiteState.DRAINING) if option.name == name else option for option in world.options
    )
    return replace(world, options=options)


def _plan(found: Round, going: Sequence[Copy], world: World) -> None:
    """Lets the planner choose for each copy the cheapest set of sites that the rules allow without this one."""
    if not going:
        return
    keys = tuple(copy.key for copy in going)
    with session_scope() as session:
        block = placement.block(session, world, Selection(keys=keys), 0, len(keys))
    found.stays.update("no_prices" for _ in block.unplanned)
    planned = decide(price(Problem(world.options, block.items))) if block.items else []
    for decision in planned:
        if decision.verdict is Verdict.MUST:
            found.decisions.append(decision)
        else:
            found.stays["no_site_allowed"] += 1
    found.stays["object_is_moving"] += len(keys) - len(block.items) - len(block.unplanned)
    found.stays += Counter()  # drops what is zero


def _carry_out(job: JobContext, found: Round, world: World, initial: int) -> None:
    decisions = found.decisions
    moves = [move for decision in decisions for move in decision.moves]
    reason = f"moving {len(decisions)} objects"
    with job.postponing(reason, WAIT_S) as session:
        plan = plans.save(session, _row(job, decisions, len(moves), world), decisions, world)
        child = migration_plans.apply(session, plan.id, actor=job.actor, request_id=job.request_id, parent_id=job.id)
        bell = jobs.bell(child)
        later = {**job.args, "initial": initial, "blocked": dict(found.stays)}
        jobs.set_args(session, job.id, job.fence, later)
    ring_all([bell])


def _row(job: JobContext, decisions: Sequence[Decision], moves: int, world: World) -> Plan:
    before = sum(decision.today_cost.recurring * MONTH_DAYS / decision.horizon_days for decision in decisions)
    after = sum(decision.cost.recurring * MONTH_DAYS / decision.horizon_days for decision in decisions)
    one_off = sum(move.one_off for decision in decisions for move in decision.moves)
    return Plan(
        job_id=job.id,
        state=PlanState.READY,
        version=1,
        scope={"evacuate": job.args["site"]},
        as_of=world.now,
        inputs=world.fingerprint(),
        cost_before=to_usd(before),
        cost_after=to_usd(after),
        baselines={"do_nothing": before},
        one_off=to_usd(one_off),
        objects=len(decisions),
        moves=moves,
        solver={"name": "closed form", "status": "optimal"},
    )


def _forecast(found: Round) -> Json:
    """What an evacuation would do, as far as the first plan goes."""
    moves = [move for decision in found.decisions for move in decision.moves]
    to = Counter(move.to_site for move in moves if move.to_site)
    return {
        "dry_run": True,
        "objects": len(found.decisions) + found.later,
        "moves": len(moves),
        "bytes": sum(move.bytes for move in moves),
        "one_off": round(sum(move.one_off for move in moves), 9),
        "to": dict(to),
        "blocked": dict(found.stays),
    }
