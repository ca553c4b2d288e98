"""Why an object lies where it lies: every candidate set with its cost, what rules it out, how near the runner-up is.

The document of GET /v1/explanation and, with its first fields, of the sources' GET /explain/{key}.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from app.domain import placement_conflicts
from app.domain.demand import RegionReads
from app.domain.placement import ReplicaSet, Split, gamma_quantile, monthly, split, structures
from app.domain.placement_costs import Costs, price
from app.domain.placement_decisions import Decision, Verdict, believing, decide, describe, usd
from app.domain.placement_problem import Item, Problem
from app.domain.placement_sets import Structure
from app.domain.prices import MONTH_DAYS

SCORE_WEIGHT = 1.0
LATE_USD_PER_MS = 0.001
SHOWN = 200
QUANTILES = (0.1, 0.5, 0.9)


@dataclass(frozen=True)
class Candidate:
    """A set that could have been chosen, and what speaks against it; nothing when only its cost does."""

    chosen: ReplicaSet
    cost: Split
    ruled_out: tuple[str, ...]


def explain(problem: Problem) -> dict[str, Any]:
    """The explanation of a problem of one object, all money in $ a month unless the name says otherwise."""
    costs = price(problem)
    (decision,) = decide(costs)
    costs = believing(costs, [decision])
    (shape,) = structures(costs)
    found = sorted(candidates(costs, shape), key=lambda entry: (bool(entry.ruled_out), entry.cost.total))
    sites = [problem.sites[costs.pairs[column].site] for column in decision.chosen.columns]
    rules = decision.item.rules
    return {
        "key": decision.item.key,
        "objective": monthly(decision.cost.recurring, costs),
        "objective_source": _source_objective(costs, decision),
        "chosen": [site.name for site in sites],
        "sla_ms": rules.sla_ms,
        "rf": rules.rf,
        "p_hot": decision.item.demand.p_hot,
        "p_hot_band": None if (band := decision.item.demand.p_band) is None else list(band),
        "vote": None if decision.item.opinion is None else decision.item.opinion.document(),
        "scores": {site.name: rules.preferences.get(site.name, 0.0) for site in problem.sites},
        "sites": [_site(costs, decision, index) for index in range(len(problem.sites))],
        "verdict": decision.verdict.value,
        "reason": decision.reason,
        "today": describe(costs, decision.today),
        "probability": decision.probability,
        "gate": list(decision.gate),
        "breaches": list(decision.breaches),
        "moves": [{**asdict(move), "kind": move.kind.value} for move in decision.moves],
        "horizon_days": costs.horizon_days,
        "demand": _demand(decision.item),
        "rules": _rules(decision.item),
        "candidates": [_candidate(costs, decision, entry) for entry in found[:SHOWN]],
        "candidates_left_out": max(0, len(found) - SHOWN),
        **_runner_up(costs, decision, found),
        "conflict": _conflict(problem, decision),
        "prices": {
            site.name: {"book": site.book.name, "as_of": str(site.book.as_of), "source": site.book.source}
            for site in problem.sites
        },
    }


def candidates(costs: Costs, shape: Structure) -> Iterator[Candidate]:
    """Every set of as many sites as the rules ask for, with each class that could be read and the others cheapest."""
    everywhere = range(len(costs.problem.sites))
    for chosen in combinations(everywhere, min(len(shape.forced) + shape.add, len(everywhere))):
        broken = shape.violated(chosen)
        for primary, pair in enumerate(costs.pairs):
            if pair.site not in chosen:
                continue
            columns = [primary, *(_cheapest(costs, site) for site in chosen if site != pair.site)]
            closed = tuple(
                f"{_name(costs, column)}: {costs.why_not[0][column]}" for column in columns if costs.why_not[0][column]
            )
            reading = () if pair.site in shape.primaries else ("readers use another copy's address",)
            made = ReplicaSet(tuple(sorted(columns)), primary)
            yield Candidate(made, split(costs, 0, made), (*broken, *reading, *closed))


def _cheapest(costs: Costs, site: int) -> int:
    """The class in which a copy that is not read costs least; open ones first."""
    columns = [index for index, pair in enumerate(costs.pairs) if pair.site == site]
    held = costs.storage[0] + costs.move[0] + costs.end[0]
    return min(columns, key=lambda column: (bool(costs.why_not[0][column]), float(costs.hold[0, column]), held[column]))


def _name(costs: Costs, column: int) -> str:
    return f"{costs.pairs[column].name} at {costs.problem.sites[costs.pairs[column].site].name}"


def _candidate(costs: Costs, decision: Decision, entry: Candidate) -> dict[str, Any]:
    against = list(entry.ruled_out)
    is_chosen = entry.chosen == decision.chosen
    if not against and not is_chosen:
        more = entry.cost.total - decision.cost.total
        unsaid = ["not what the voters say"] if decision.ballot is not None else []
        against = (
            [f"costs {usd(more)} more in {costs.horizon_days:.0f} days"] if more > 0 else [*decision.gate] or unsaid
        )
    return {
        "copies": describe(costs, entry.chosen),
        "chosen": is_chosen,
        "ruled_out": against,
        "total_usd": _finite(entry.cost.total),
        "usd_a_month": monthly(entry.cost.recurring, costs),
        "one_off_usd": _finite(entry.cost.one_off),
        "split_usd": {name: _finite(value) for name, value in vars(entry.cost).items()},
    }


def _finite(value: float) -> float | None:
    """None for what cannot be bought: no copy that could be read to make it."""
    return value if np.isfinite(value) else None


def _runner_up(costs: Costs, decision: Decision, found: Sequence[Candidate]) -> dict[str, Any]:
    """The next best set that no rule forbids, how much dearer it is, at how many reads a month the two are equal."""
    rest = [entry for entry in found if not entry.ruled_out and entry.chosen != decision.chosen]
    if not rest or decision.verdict is Verdict.INFEASIBLE:
        return {"runner_up": None, "margin_usd": None, "flips_at_reads_a_month": None}
    best = rest[0]
    return {
        "runner_up": describe(costs, best.chosen),
        "margin_usd": best.cost.total - decision.cost.total,
        "flips_at_reads_a_month": _flip(costs, decision, best),
    }


def _flip(costs: Costs, decision: Decision, other: Candidate) -> float | None:
    """Reads a month, of the same sizes and regions, at which both sets would cost the same; None if never."""
    unit = price(replace(costs.problem, items=(_one_read_a_month(decision.item),)))
    per_read = unit.serve[0, decision.chosen.primary] - unit.serve[0, other.chosen.primary]
    fixed = (other.cost.total - other.cost.serve) - (decision.cost.total - decision.cost.serve)
    reads = float(fixed / per_read) if abs(per_read) > 0 else -1.0
    return reads if reads > 0 else None


def _one_read_a_month(item: Item) -> Item:
    """The object as if it were read once a month, in the shares in which it is read, or whole when it is not."""
    demand = item.demand
    if demand.reads > 0:
        scale = 1 / (MONTH_DAYS * demand.reads)
        regions = tuple(RegionReads(e.region, e.reads * scale, e.bytes * scale) for e in demand.regions)
    else:
        regions = (RegionReads("", 1 / MONTH_DAYS, item.size / MONTH_DAYS),)
    return replace(item, demand=replace(demand, regions=regions))


def _source_objective(costs: Costs, decision: Decision) -> float:
    """Source 004's own formula: Σ $/GB + 0.001·Σ max(0, latency − SLA) − weight·Σ score, over the chosen sites."""
    sites = [(costs.pairs[column], costs.problem.sites[costs.pairs[column].site]) for column in decision.chosen.columns]
    rules = decision.item.rules
    per_gb = sum(pair.entry.first_usd for pair, _ in sites)
    late = sum(0.0 if rules.sla_ms is None else max(0.0, site.latency_ms - rules.sla_ms) for _, site in sites)
    return (
        per_gb + LATE_USD_PER_MS * late - SCORE_WEIGHT * sum(rules.preferences.get(site.name, 0.0) for _, site in sites)
    )


def _site(costs: Costs, decision: Decision, index: int) -> dict[str, Any]:
    site = costs.problem.sites[index]
    here = next((column for column in decision.chosen.columns if costs.pairs[column].site == index), None)
    entry = site.book.storage_class(site.classes[0]) if here is None else costs.pairs[here].entry
    return {
        "name": site.name,
        "provider": site.provider,
        "region": site.region,
        "latency_ms": site.latency_ms,
        "cost_per_gb": entry.first_usd,
        "storage_class": entry.name,
        "state": site.state.value,
        "encrypted": site.encrypted,
        "chosen": here is not None,
        "read": here == decision.chosen.primary and here is not None,
    }


def _demand(item: Item) -> dict[str, Any]:
    return {
        "reads_a_month": item.demand.reads * MONTH_DAYS,
        "reads_a_month_quantiles": {
            f"p{round(100 * p)}": item.demand.reads * MONTH_DAYS * gamma_quantile(item.demand.shape, p)
            for p in QUANTILES
        },
        "bytes_a_month": item.demand.bytes * MONTH_DAYS,
        "idle_days": item.demand.idle_days,
        "shape": item.demand.shape,
        "forecast": None if item.demand.forecast is None else asdict(item.demand.forecast),
        "regions": {entry.region: entry.reads * MONTH_DAYS for entry in item.demand.regions},
    }


def _rules(item: Item) -> dict[str, Any]:
    rules = vars(item.rules)
    plain = {name: value for name, value in rules.items() if name not in ("sites", "preferences")}
    return {**plain, "sites": None if item.rules.sites is None else sorted(item.rules.sites)}


def _conflict(problem: Problem, decision: Decision) -> dict[str, Any] | None:
    if decision.verdict is not Verdict.INFEASIBLE:
        return None
    conflict = placement_conflicts.explain(problem, decision.item)
    relaxations = [{**vars(entry), "rules": list(entry.rules)} for entry in conflict.relaxations]
    return {"rules": list(conflict.rules), "detail": conflict.detail, "relaxations": relaxations}
