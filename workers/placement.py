"""The plan task: loads objects block by block, decides where their copies should lie, and saves a plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np

from app import clock
from app.db import opinions, plans
from app.db import placement as store
from app.db.placement import Selection, World
from app.db.session import session_scope
from app.db.tables import Json, Plan
from app.domain.placement import solve, totals
from app.domain.placement_costs import price
from app.domain.placement_decisions import Decision, Verdict, believing, decide
from app.domain.placement_limits import SLACK, Traffic, fitting
from app.domain.placement_milp import solve_milp
from app.domain.placement_problem import DEFAULT_HORIZON_DAYS, Problem
from app.domain.placement_rows import Row, Use
from app.domain.placement_votes import voted
from app.domain.plans import Baselines, Totals, baselines, infeasible
from app.domain.policy_documents import validate
from app.domain.prices import to_usd
from app.domain.states import PlanState
from app.domain.votes import Turnout
from app.errors import BadRequest, FieldError, Infeasible, Invalid, NotFound
from app.queue import TaskName
from workers import voters
from workers.base import JobContext, job_task
from workers.bench import Bench

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
    traffic: Traffic = field(default_factory=Traffic)
    moving: dict[str, int] = field(default_factory=dict)
    """How many objects are left out since a migration has them in hand, by why."""
    unlearned: str = ""
    """Why the voters did not learn although they should have."""


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
    _blocks(job, draft, selection, total, Bench.open(now))
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
    """Reads, asks the voters and decides block by block; no transaction is open while it builds or decides."""
    after: int | None = 0
    while after is not None:
        job.progress(min(draft.totals.objects, total), total, "objects")
        with session_scope() as session:
            rows = store.rows(session, draft.world, selection, after, BLOCK)
        block = rows.block()
        known = bench.look(draft.world.now, block.items) if bench and block.items else None
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
    draft.traffic.add(costs, decisions)
    draft.votes.add((decision.item.opinion, decision.ballot) for decision in decisions)
    draft.baselines += baselines(believing(costs, decisions), decisions)
    draft.infeasible += infeasible(problem, decisions)
    return decisions


def within_budget(draft: Draft) -> None:
    """Keeps of the changes those that the day's budget and the sites' limits buy most with; what rules demand first."""
    sums, budget, sites = draft.totals, _budget(draft), draft.world.options
    wanted = {Use.USD: sums.one_off, Use.BYTES: sums.bytes, Use.MOVES: sums.moves}
    if not draft.changes or (all(wanted[row.use] <= row.limit for row in budget) and draft.traffic.keeps(sites)):
        return
    left, held = draft.changes, []
    while left:
        found, fits = _coupled(draft, budget, left)
        held += [decision for decision in found if not decision.changes]
        left = [decision for decision in found if decision.changes]
        if fits:
            break
    sums.add(draft.changes, sign=-1)
    sums.add([*held, *left])
    draft.changes = left


def _coupled(draft: Draft, budget: Sequence[Row], some: Sequence[Decision]) -> tuple[list[Decision], bool]:
    """Decides some changes again under the rows they share; whether these are kept by what the gate lets pass.

    What the gate holds stays where it stands, which may leave less of a row to the others: they are decided once more.
    """
    from app.domain.placement_coupled import row_use, solve_coupled  # scipy: not in the workers' parent
    from app.domain.placement_shortage import explain_rows

    problem = Problem(draft.world.options, tuple(decision.item for decision in some), draft.horizon_days)
    costs, own = voted(price(problem), or_stay=True), Traffic()
    own.add(costs, decide(costs))
    rows = [*budget, *draft.traffic.rows(draft.world.options, own)]
    solution = solve_coupled(costs, rows)
    draft.solver["coupling"] = solution.document()
    if not np.isfinite(solution.objective):
        draft.solver["budget"] = "the rows leave less than what the rules demand: only what of that fits is planned"
        draft.solver["conflict"] = explain_rows(costs, rows).detail
        return fitting(some, draft.world.options, budget), True
    draft.solver["budget"] = "only what the day's budget and the sites' limits buy most with is planned"
    found = decide(costs, solution.chosen)
    used = row_use(costs, rows, [decision.chosen for decision in found])
    fits = all(use <= row.limit * (1 + SLACK) for use, row in zip(used.tolist(), rows, strict=True))
    return found, fits or all(decision.changes for decision in found)


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
            "no_harm": {"no_demotions": dict(draft.world.no_demotions)},
            "vote": draft.votes.document(draft.world.voting.model, draft.world.voting.speakers, draft.unlearned),
        },
        infeasible=draft.infeasible or None,
    )


def _unplanned(draft: Draft) -> Json:
    listed = [{"key": key, "reason": reason} for key, reason in draft.unplanned[:SHOWN]]
    return {
        "objects": len(draft.unplanned),
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
