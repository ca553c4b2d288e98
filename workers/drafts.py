"""What a plan comes to, block by block (step: plan): what is decided, counted, and left by the day's budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from app.db.placement import World
from app.db.tables import Json
from app.domain.placement import ReplicaSet, solve, split
from app.domain.placement_costs import Costs, price
from app.domain.placement_decisions import Decision, believing, decide
from app.domain.placement_limits import SLACK, Traffic, fitting
from app.domain.placement_milp import solve_milp
from app.domain.placement_problem import Problem
from app.domain.placement_rows import Row, Use
from app.domain.placement_votes import voted
from app.domain.plans import Baselines, Totals, baselines, infeasible, merged
from app.domain.votes import Turnout

CHECKED = 50
"""Of each block about so many objects are put to the program as well; of up to twice as many, all."""
SHOWN = 20
"""Objects that could not be planned, as a plan's document lists them."""
SOLVER: Json = {
    "name": "closed form, checked by HiGHS by PuLP",
    "status": "optimal",
    "gap": 0.0,
    "seconds": 0.0,
    "programs": 0,
    "checked": 0,
    "closed_form_difference": 0.0,
}


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
    """The first of the objects that could not be planned, each with why."""
    left_out: int = 0
    """How many there are of them."""
    solver: Json = field(default_factory=lambda: dict(SOLVER))
    votes: Turnout = field(default_factory=Turnout)
    traffic: Traffic = field(default_factory=Traffic)
    moving: dict[str, int] = field(default_factory=dict)
    """How many objects are left out since a migration has them in hand, by why."""
    unlearned: str = ""
    """Why the voters did not learn although they should have."""

    def leave_out(self, unplanned: Sequence[tuple[str, str]]) -> None:
        """Counts objects that cannot be planned; the first ones are kept."""
        self.left_out += len(unplanned)
        self.unplanned += unplanned[: SHOWN - len(self.unplanned)]


def decide_block(draft: Draft, problem: Problem) -> list[Decision]:
    """The closed form decides, and the program must agree on what the optimum costs. Counted in the draft."""
    costs = voted(price(problem))
    chosen = solve(costs)
    _check(draft.solver, costs, chosen)
    decisions = decide(costs, chosen)
    draft.changes += [decision for decision in decisions if decision.changes]
    draft.totals.add(decisions)
    draft.traffic.add(costs, decisions)
    draft.votes.add((decision.item.opinion, decision.ballot) for decision in decisions)
    draft.baselines += baselines(believing(costs, decisions), decisions)
    draft.infeasible = merged([*draft.infeasible, *infeasible(problem, decisions)])
    return decisions


def _check(solver: Json, costs: Costs, chosen: Sequence[ReplicaSet | None]) -> None:
    """Puts objects to the program as well: all of few, of many an even sample."""
    rows = range(0, len(chosen), max(1, len(chosen) // CHECKED))
    milp = solve_milp(costs, rows=rows)
    pairs = [(row, at, chosen[row]) for row, at in zip(rows, milp.chosen, strict=True)]
    difference = max(abs(_usd(costs, row, at) - _usd(costs, row, mine)) for row, at, mine in pairs)
    solver["seconds"] += milp.seconds
    solver["programs"] += milp.programs
    solver["checked"] += len(pairs)
    solver["gap"] = max(solver["gap"], milp.gap)
    solver["status"] = milp.status if milp.status != "optimal" else solver["status"]
    solver["closed_form_difference"] = max(solver["closed_form_difference"], difference)


def _usd(costs: Costs, row: int, chosen: ReplicaSet | None) -> float:
    return 0.0 if chosen is None else split(costs, row, chosen).total


def is_limited(draft: Draft) -> bool:
    """Whether anything limits changes together: the day's budget, or a site."""
    sites = draft.world.options
    return bool(_budget(draft)) or any(
        site.capacity_bytes is not None or site.max_request_rate is not None for site in sites
    )


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
