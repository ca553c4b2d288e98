"""The plan task: loads objects block by block, decides where their copies should lie, and saves a plan."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime

import numpy as np

from app import clock
from app.db import opinions, plans
from app.db import placement as store
from app.db.placement import Selection, World
from app.db.session import session_scope
from app.db.tables import Json, Plan
from app.domain.placement import solve, totals
from app.domain.placement_decisions import Decision, Verdict, believing, decide
from app.domain.placement_milp import solve_milp
from app.domain.placement_problem import DEFAULT_HORIZON_DAYS, Problem, price
from app.domain.placement_rows import Row, Use
from app.domain.placement_votes import voted
from app.domain.plans import Baselines, Totals, baselines, infeasible
from app.domain.policy_documents import validate
from app.domain.pricing import to_usd
from app.domain.states import PlanState
from app.domain.votes import Turnout
from app.errors import BadRequest, FieldError, Infeasible, Invalid, NotFound
from app.queue import TaskName
from workers import voters
from workers.base import JobContext, job_task
from workers.voters import Bench

BLOCK = 5000
MAX_HORIZON_DAYS = 3650
SOLVER: Json = {
    "name": "HiGHS by PuLP",
    "status": "optimal",
    "gap": 0.0,
    "seconds": 0.0,
    "programs": 0,
    "closed_form_difference": 0.0,
}
SHOWN = 20
"""Objects that could not be planned, as a plan's document lists them."""


@dataclass
class Draft:
    """What the blocks have come to so far."""

    world: World
    horizon_days: float
    changes: list[Decision] = field(default_factory=list)
    totals: Totals = field(default_factory=Totals)
    baselines: Baselines = field(default_factory=Baselines)
    infeasible: list[Json] = field(default_factory=list)
    unplanned: list[tuple[str, str]] = field(default_factory=list)
    solver: Json = field(default_factory=lambda: dict(SOLVER))
    votes: Turnout = field(default_factory=Turnout)


@job_task(TaskName.PLAN)
def plan(job: JobContext) -> Json | None:
    """Loads, decides and saves; the result names the plan. Raises Infeasible when no object has a placement.

    Where it is time for the voters to learn, they do so first, in a job of their own.
    """
    selection, horizon, now = read_scope(job.args)
    with session_scope() as session:
        draft = Draft(store.world(session, now), horizon)
        total = store.count(session, selection)
        check_found(selection, total)
        learning = voters.wait_for(session, job, draft.world)
        bench = None if learning else Bench.open(session, now)
    if learning:
        voters.learn_first(job, learning)
        return None
    _blocks(job, draft, selection, total, bench)
    within_budget(draft)
    result: Json = {}
    row = _row(job, draft, selection)
    if row.state is PlanState.INFEASIBLE:
        with job.saving() as session:
            plans.save(session, row, (), draft.world)
        raise Infeasible(
            f"plan {row.id}: {draft.infeasible[0]['detail']}",
            errors=tuple(FieldError(f"/infeasible/{i}", entry["detail"]) for i, entry in enumerate(draft.infeasible)),
        )
    with job.finishing(result) as session:
        saved = plans.save(session, row, draft.changes, draft.world)
        result.update(_result(saved))
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


def _blocks(job: JobContext, draft: Draft, selection: Selection, total: int, bench: Bench | None) -> None:
    """Reads, asks the voters and decides block by block; no transaction is open while it decides."""
    after: int | None = 0
    while after is not None:
        job.progress(min(draft.totals.objects, total), total, "objects")
        with session_scope() as session:
            block = store.block(session, draft.world, selection, after, BLOCK)
            known = bench.look(session, draft.world.now, block.items) if bench and block.items else None
        items, said = bench.ask(draft.world, block.items, known) if bench and known else (block.items, {})
        draft.unplanned += block.unplanned
        if items:
            decide_block(draft, Problem(draft.world.options, items, draft.horizon_days))
        if said:
            with job.saving() as session:
                opinions.save(session, draft.world.voting, draft.world.now, said)
        after = block.last_id


def decide_block(draft: Draft, problem: Problem) -> list[Decision]:
    """The MILP decides; the closed form must agree on what the optimum costs. The decisions, counted in the draft."""
    costs = voted(price(problem))
    milp = solve_milp(costs)
    closed = solve(costs)
    decisions = decide(costs, milp.chosen)
    difference = float(abs(totals(costs, closed) - totals(costs, milp.chosen)).max())
    solver = draft.solver
    solver["seconds"] += milp.seconds
    solver["programs"] += milp.programs
    solver["gap"] = max(solver["gap"], milp.gap)
    solver["status"] = milp.status if milp.status != "optimal" else solver["status"]
    solver["closed_form_difference"] = max(solver["closed_form_difference"], difference)
    draft.changes += [decision for decision in decisions if decision.changes]
    draft.totals.add(decisions)
    draft.votes.add((decision.item.opinion, decision.ballot) for decision in decisions)
    draft.baselines += baselines(believing(costs, decisions), decisions)
    draft.infeasible += infeasible(problem, decisions)
    return decisions


def within_budget(draft: Draft) -> None:
    """Keeps of the changes those that the day's budget buys most with; what rules demand goes first."""
    sums, rows = draft.totals, _budget(draft)
    wanted = {Use.USD: sums.one_off, Use.BYTES: sums.bytes, Use.MOVES: sums.moves}
    if not draft.changes or all(wanted[row.use] <= row.limit for row in rows):
        return
    from app.domain.placement_coupled import solve_coupled  # scipy: not in the workers' parent
    from app.domain.placement_shortage import explain_rows

    problem = Problem(draft.world.options, tuple(d.item for d in draft.changes), draft.horizon_days)
    costs = voted(price(problem), or_stay=True)
    solution = solve_coupled(costs, rows)
    draft.solver["coupling"] = solution.document()
    if np.isfinite(solution.objective):
        left = decide(costs, solution.chosen)
        draft.solver["budget"] = "only what the day's budget buys most with is planned"
    else:
        left = [d if d.verdict is Verdict.MUST else replace(d, verdict=Verdict.HELD, moves=()) for d in draft.changes]
        draft.solver["budget"] = "the day's budget is less than what the rules demand: only that is planned"
        draft.solver["conflict"] = explain_rows(costs, rows).detail
    sums.add(draft.changes, sign=-1)
    sums.add(left)
    draft.changes = [decision for decision in left if decision.changes]


def _budget(draft: Draft) -> list[Row]:
    """The day's budgets as rows."""
    budget = draft.world.policies.document("budget")
    limits = ((use, budget.get(use.value)) for use in (Use.USD, Use.BYTES, Use.MOVES))
    return [Row(use, float(limit)) for use, limit in limits if limit is not None]


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
            "vote": draft.votes.document(draft.world.voting.model, draft.world.voting.speakers),
        },
        infeasible=draft.infeasible or None,
    )


def _unplanned(draft: Draft) -> Json:
    listed = [{"key": key, "reason": reason} for key, reason in draft.unplanned[:SHOWN]]
    return {"objects": len(draft.unplanned), "first": listed, "sites_without_prices": list(draft.world.unpriced)}


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
