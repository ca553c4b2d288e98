"""The prewarm task: plans copies and classes for the recurring peaks of the next hours, each gone after its peak."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from app.db import jobs, migration_plans, peaks, plans
from app.db import placement as store
from app.db.jobs import Bell
from app.db.peaks import Busy
from app.db.placement import Selection, World
from app.db.session import session_scope
from app.db.tables import Json, Plan
from app.domain.peaks import Peak
from app.domain.placement_decisions import Decision
from app.domain.placement_limits import roomy
from app.domain.prewarming import PEAKS_A_MONTH, due, prewarm
from app.domain.prices import to_usd
from app.domain.states import Mode, PlanState
from app.queue import TaskName
from app.settings import get_settings
from workers.base import JobContext, job_task, ring_all
from workers.placement import check_found, read_scope

AHEAD = timedelta(hours=6)
"""Copies that have to begin within this time are planned: time enough to approve them."""
BLOCK = 1000


@job_task(TaskName.PREWARM)
def prewarming(job: JobContext) -> Json:
    """Looks for peaks, plans for those that are due, and applies the plan in mode auto; the result names it.

    Objects that a migration has in hand, or that a plan has for the same peak which waits or was taken back, are left
    out.
    """
    selection, _, now = read_scope(job.args)
    with session_scope() as session:
        world = store.world(session, now)
        total = store.count(session, replace(selection, moving=True))
        usual = store.other_reads(session, world, Selection(keys=()))
        rushes = peaks.rushes(session, now, world.names)
    check_found(selection, total)
    ways: list[list[Decision]] = []
    looked, coming, after = 0, 0, 0
    while True:
        with session_scope() as session:
            busy = peaks.busy(session, now, after, BLOCK, selection.prefix, selection.keys)
            known = peaks.planned(session, [thing.object_id for thing in busy])
        job.progress(looked, 0, "objects")
        soon = {thing.key: _due(thing, known.get(thing.object_id, set()), world) for thing in busy}
        coming += sum(len(found) for found in soon.values())
        ways += _decide(world, selection, {key: found[0] for key, found in soon.items() if found})
        looked += len(busy)
        if len(busy) < BLOCK:
            break
        after = busy[-1].object_id
    fitting = roomy(ways, world.options, usual, rushes)
    return _save(job, world, fitting, {"looked_at": looked, "peaks": coming})


def _due(thing: Busy, known: set[datetime], world: World) -> list[Peak]:
    """The peaks for which a copy would have to begin soon, the first one first, that are not known."""
    settings = get_settings()
    gone = timedelta(seconds=settings.grace_s + settings.prewarm_every_s)
    zone = ZoneInfo(world.policies.rules(thing.key).time_zone)
    coming = due(thing.hours, thing.mean_an_hour, thing.size, world.now, AHEAD, gone, zone)
    return [peak for peak in coming if peak.begins not in known]


def _decide(world: World, selection: Selection, due: dict[str, Peak]) -> list[list[Decision]]:
    if not due:
        return []
    with session_scope() as session:
        block = store.block(session, world, replace(selection, prefix=None, keys=tuple(due)), 0, len(due))
    grace = timedelta(seconds=get_settings().grace_s)
    found = (prewarm(world.options, item, due[item.key], world.now, grace) for item in block.items)
    return [ways for ways in found if ways]


def _save(job: JobContext, world: World, decisions: list[Decision], result: Json) -> Json:
    bells: list[Bell | None] = []
    with job.finishing(result) as session:
        peaks.watch(session)
        plan = plans.save(session, _plan(job, world, decisions), decisions, world) if decisions else None
        result |= {"plan_id": plan.id if plan else None, "objects": len(decisions), "applied": False}
        if plan and world.policies.mode is Mode.AUTO:
            applied = migration_plans.apply(session, plan.id, actor=job.actor, request_id=job.request_id)
            bells.append(jobs.bell(applied))
            result["applied"] = True
    ring_all(bells)
    return result


def _plan(job: JobContext, world: World, decisions: list[Decision]) -> Plan:
    """The plan's document; dollars a month as if each of its peaks came each week."""
    before = sum(decision.today_cost.total for decision in decisions)
    after = sum(decision.cost.total for decision in decisions)
    moves = [move for decision in decisions for move in decision.moves]
    return Plan(
        job_id=job.id,
        state=PlanState.READY,
        version=1,
        scope={"peaks": True},
        as_of=world.now,
        inputs=world.fingerprint(),
        cost_before=to_usd(before * PEAKS_A_MONTH),
        cost_after=to_usd(after * PEAKS_A_MONTH),
        baselines={"do_nothing": before * PEAKS_A_MONTH},
        one_off=to_usd(sum(move.one_off for move in moves)),
        objects=len(decisions),
        moves=len(moves),
        solver={"name": "recurring peaks", "status": "each by itself"},
    )
