"""Repairs objects to the copies that their rules ask for: finds what is broken and plans copies of what is good."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from app import clock
from app.db import migration_plans, placement, remedies
from app.db import repair as store
from app.db.jobs import Bell, bell
from app.db.placement import Selection, World
from app.db.repair import Broken
from app.db.session import session_scope
from app.db.tables import Json
from app.domain.placement_costs import price
from app.domain.placement_decisions import Decision, decide
from app.domain.placement_problem import Held, Item, Problem
from app.domain.remedies import WantedMove
from app.domain.repair import Mending, mend
from app.domain.states import MoveKind
from app.queue import TaskName
from workers.base import JobContext, job_task, ring_all

BLOCK = 5000
SHOWN = 20


@dataclass
class Draft:
    """What was found and planned so far."""

    examined: int = 0
    broken: int = 0
    moves: list[WantedMove] = field(default_factory=list)
    kept: Counter[str] = field(default_factory=Counter)
    keys: list[Json] = field(default_factory=list)

    def keep(self, broken: Broken, reasons: Sequence[str]) -> None:
        """Counts what is left as it is; the first keys are told."""
        self.kept.update(reasons)
        if reasons and len(self.keys) < SHOWN:
            self.keys.append({"key": broken.key, "reasons": list(reasons)})


@job_task(TaskName.REPAIR)
def repair(job: JobContext) -> Json | None:
    """Plans copies for the objects of args (prefix, keys) that lack some; with apply the plan is carried out."""
    draft, after = Draft(), 0
    with session_scope() as session:
        world = placement.world(session, clock.now())
    while True:
        with session_scope() as session:
            block = store.block(session, job.args.get("prefix"), job.args.get("keys"), after, BLOCK)
        draft.examined += block.examined
        _plan_block(draft, block.broken, world)
        job.progress(draft.examined, 0, "objects")
        if block.last_id is None:
            break
        after = block.last_id
    return _finish(job, draft, world)


def _plan_block(draft: Draft, broken: Sequence[Broken], world: World) -> None:
    draft.broken += len(broken)
    lacking: dict[int, tuple[Broken, Mending]] = {}
    for each in broken:
        mending = mend(each.copies)
        draft.keep(each, mending.kept)
        for site, storage_class in mending.remade:
            draft.moves.append(_copy(each, mending, site, storage_class, "a damaged copy is made anew"))
        if mending.lacking:
            lacking[each.id] = (each, mending)
    if lacking:
        _plan_lacking(draft, lacking, world)


def _plan_lacking(draft: Draft, lacking: dict[int, tuple[Broken, Mending]], world: World) -> None:
    """Lets the planner choose where the copies that are lacking go: as cheap as the rules allow."""
    keys = tuple(broken.key for broken, _ in lacking.values())
    with session_scope() as session:
        block = placement.block(session, world, Selection(keys=keys), 0, len(keys))
    items = tuple(_with_remade(item, lacking[item.id][1]) for item in block.items)
    planned = decide(price(Problem(world.options, items))) if items else []
    reasons = {key: "unplanned" for key, _ in block.unplanned}
    for decision in planned:
        broken, mending = lacking[decision.item.id]
        copies = [move for move in decision.moves if move.kind is MoveKind.COPY][: mending.lacking]
        for move in copies:
            told = f"{mending.lacking} more copies are asked for"
            draft.moves.append(_copy(broken, mending, move.to_site or "", move.to_class or "", told))
        if len(copies) < mending.lacking:
            reasons[broken.key] = _why_fewer(decision)
    for broken, _ in lacking.values():
        if broken.key in reasons:
            draft.keep(broken, [reasons[broken.key]])


def _why_fewer(decision: Decision) -> str:
    return "no_site_allowed" if decision.best is None else "too_few_sites"


def _with_remade(item: Item, mending: Mending) -> Item:
    """The object as if its damaged copies were made anew already."""
    made = (Held(site, storage_class, 0.0) for site, storage_class in mending.remade)
    return replace(item, held=(*item.held, *made))


def _copy(broken: Broken, mending: Mending, site: str, storage_class: str, reason: str) -> WantedMove:
    source = str(mending.source)
    return WantedMove(
        object_id=broken.id,
        object_version=broken.version,
        kind=MoveKind.COPY,
        from_site=source,
        from_class=broken.copies.replicas[source].storage_class,
        to_site=site,
        to_class=storage_class,
        size=broken.size,
        reason=reason,
    )


def _finish(job: JobContext, draft: Draft, world: World) -> Json | None:
    result: Json = {
        "objects": draft.examined,
        "broken": draft.broken,
        "copies": len(draft.moves),
        "plan_id": None,
        "apply_job_id": None,
        "kept": dict(draft.kept),
        "keys": draft.keys,
        "dry_run": bool(job.args.get("dry_run")),
    }
    if result["dry_run"] or not draft.moves:
        return result
    bells: list[Bell | None] = []
    with job.finishing(result) as session:
        scope = {"repair": {name: job.args[name] for name in ("prefix", "keys") if job.args.get(name)}}
        plan = remedies.save(session, world, draft.moves, job_id=job.id, scope=scope)
        result["plan_id"], result["one_off"] = plan.id, float(plan.one_off)
        if job.args.get("apply"):
            applied = migration_plans.apply(session, plan.id, actor=job.actor, request_id=job.request_id)
            result["apply_job_id"] = applied.id
            bells.append(bell(applied))
    ring_all(bells)
    return None
