"""The plan task: loads objects block by block, decides where their copies should lie, and saves a plan."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from app import clock
from app.db import opinions, plans
from app.db import placement as store
from app.db.placement import Selection
from app.db.plan_sheets import Sheet
from app.db.session import session_scope
from app.db.tables import Json, Plan
from app.domain.placement_decisions import Verdict
from app.domain.placement_problem import DEFAULT_HORIZON_DAYS, Problem
from app.domain.policy_documents import validate
from app.domain.prices import to_usd
from app.domain.states import PlanState
from app.errors import BadRequest, FieldError, Infeasible, Invalid, NotFound
from app.queue import TaskName
from workers import voters
from workers.base import JobContext, job_task
from workers.bench import Bench
from workers.drafts import Draft, decide_block, is_limited, within_budget

BLOCK = 5000
MAX_HORIZON_DAYS = 3650


@job_task(TaskName.PLAN)
def plan(job: JobContext) -> Json | None:
    """Loads, decides and saves; the result names the plan. Raises Infeasible when no object has a placement.

    Where it is time for the voters to learn, they do so first, in a job of their own, unless they failed to lately.
    """
    selection, horizon, now = read_scope(job.args)
    with session_scope() as session:
        draft = Draft(store.world(session, now), horizon)
        draft.traffic.stand(store.other_reads(session, draft.world, selection))
        total = store.count(session, selection)
        draft.moving = store.moving(session, selection)
        check_found(selection, total)
        lesson = voters.lesson(session, job, draft.world)
    if lesson.waits:
        voters.learn_first(job, lesson.waits)
        return None
    draft.unlearned = lesson.unlearned
    bench = Bench.open(draft.world)
    draft.solver["alarms"] = sorted(bench.alarms) if bench else []
    with Sheet(draft.world) as sheet:
        _blocks(job, draft, selection, total, (bench, sheet))
        within_budget(draft)
        sheet.write(draft.changes)
        return _save(job, _row(job, draft, selection), sheet)


def _save(job: JobContext, row: Plan, sheet: Sheet) -> Json:
    """Saves the plan. Raises Infeasible when no object has a placement."""
    if row.state is PlanState.INFEASIBLE:
        with job.saving() as session:
            plans.save_sheet(session, row, sheet)
        details = [entry["detail"] for entry in row.infeasible or ()]
        raise Infeasible(
            f"plan {row.id}: {details[0]}",
            errors=tuple(FieldError(f"/infeasible/{i}", detail) for i, detail in enumerate(details)),
        )
    result: Json = {}
    with job.finishing(result) as session:
        result.update(_result(plans.save_sheet(session, row, sheet)))
    return result


def read_scope(args: Json) -> tuple[Selection, float, datetime]:
    """The job's arguments, checked. Raises Invalid or BadRequest."""
    rules = {name: args[name] for name in ("rf", "sla_ms") if args.get(name) is not None}
    try:
        validate("sla", {"default": rules})
    except Invalid as error:
        fields = tuple(FieldError(entry.pointer.removeprefix("/default"), entry.detail) for entry in error.errors)
        raise Invalid("the plan's rules are not valid", errors=fields) from None
    keys = args.get("keys")
    selection = Selection(args.get("prefix"), None if keys is None else tuple(keys), **rules)
    try:
        now = datetime.fromisoformat(args["as_of"]) if args.get("as_of") else clock.now()
        horizon = float(args.get("horizon_days") or DEFAULT_HORIZON_DAYS)
    except ValueError as error:
        raise BadRequest(f"as_of or horizon_days cannot be read: {error}") from None
    if now.tzinfo is None or not 0 < horizon <= MAX_HORIZON_DAYS:
        raise BadRequest(f"as_of needs a time zone, and horizon_days lies above 0, up to {MAX_HORIZON_DAYS}")
    return selection, horizon, now


def check_found(selection: Selection, total: int) -> None:
    """Raises NotFound when of the keys that were named none can be planned."""
    if selection.keys is not None and total == 0:
        raise NotFound("none of the keys is an object that can be planned: not scanned yet, gone, or being moved")


def _blocks(job: JobContext, draft: Draft, selection: Selection, total: int, tools: tuple[Bench | None, Sheet]) -> None:
    """Reads, asks the voters and decides block by block; no transaction is open while it builds or decides.

    Changes that nothing limits together are written down at once, the others are left in the draft.
    """
    bench, sheet = tools
    limited = is_limited(draft)
    after: int | None = 0
    while after is not None:
        job.progress(min(draft.totals.objects, total), total, "objects")
        with uncollected():
            with session_scope() as session:
                rows = store.rows(session, draft.world, selection, after, BLOCK, asked=bench is not None)
            block = rows.block()
            known = bench.look(draft.world.now, block.items) if bench and block.items else None
            items, said = bench.ask(draft.world, block.items, known) if bench and known else (block.items, {})
            draft.leave_out(block.unplanned)
            if items:
                decide_block(draft, Problem(draft.world.options, items, draft.horizon_days))
            if not limited:
                sheet.write(draft.changes)
                draft.changes.clear()
            if said:
                with job.saving() as session:
                    opinions.save(session, draft.world.voting, draft.world.now, said)
        after = block.last_id


@contextmanager
def uncollected() -> Iterator[None]:
    """Looks for no cycles of references: a block makes hardly any, and the search took a quarter of its time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _row(job: JobContext, draft: Draft, selection: Selection) -> Plan:
    """The plan's document."""
    sums = draft.totals
    nothing_feasible = draft.infeasible and sums.verdicts[Verdict.INFEASIBLE] == sums.objects
    scope = {name: value for name, value in vars(selection).items() if value is not None and name != "moving"}
    return Plan(
        job_id=job.id,
        state=PlanState.INFEASIBLE if nothing_feasible else PlanState.READY,
        version=1,
        scope={**scope, "horizon_days": draft.horizon_days},
        as_of=draft.world.now,
        inputs=draft.world.fingerprint(),
        cost_before=to_usd(sums.cost_before),
        cost_after=to_usd(sums.cost_after),
        baselines={"do_nothing": sums.cost_before, **vars(draft.baselines)},
        one_off=to_usd(sums.one_off),
        objects=sums.objects,
        moves=sums.moves,
        solver={
            **draft.solver,
            "verdicts": dict(sums.verdicts),
            "unplanned": _unplanned(draft),
            "no_harm": {"no_demotions": dict(draft.world.no_demotions)},
            "vote": draft.votes.document(draft.world.voting.model, draft.world.voting.speakers, draft.unlearned),
        },
        infeasible=draft.infeasible or None,
    )


def _unplanned(draft: Draft) -> Json:
    listed = [{"key": key, "reason": reason} for key, reason in draft.unplanned]
    return {
        "objects": draft.left_out,
        "first": listed,
        "moving": draft.moving,
        "sites_without_prices": list(draft.world.unpriced),
    }


def _result(saved: Plan) -> Json:
    """What the job answers: the plan and its sums, $ a month."""
    return {
        "plan_id": saved.id,
        "moves": saved.moves,
        "objects": saved.objects,
        "cost_before": float(saved.cost_before),
        "cost_after": float(saved.cost_after),
        "one_off": float(saved.one_off),
        "all_hot": saved.baselines["all_hot"],
    }
