"""What a plan adds up to: money before and after, beside its baselines, and the objects that have no placement."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from app.domain import placement_conflicts
from app.domain.placement import monthly, solve, split, structures, today
from app.domain.placement_conflicts import Conflict
from app.domain.placement_costs import Costs, price
from app.domain.placement_decisions import Decision, Verdict
from app.domain.placement_problem import Problem
from app.domain.policies import Readers
from app.domain.prices import MONTH_DAYS

WARM_AFTER_DAYS, COLD_AFTER_DAYS = 30, 90
KEYS_SHOWN = 5


@dataclass(frozen=True)
class Baselines:
    """$ a month of what might be done instead.

    all_hot: every copy in its site's first class; lifecycle: the common rule of 30 and 90 idle days; ungated: the
    cheapest sets without the gate; routed: those if every prefix were routed.
    """

    all_hot: float = 0.0
    lifecycle: float = 0.0
    ungated: float = 0.0
    routed: float = 0.0

    def __add__(self, other: Baselines) -> Baselines:
        """Of two blocks of objects together."""
        return Baselines(
            self.all_hot + other.all_hot,
            self.lifecycle + other.lifecycle,
            self.ungated + other.ungated,
            self.routed + other.routed,
        )


@dataclass
class Totals:
    """Sums over decisions, block by block; money in $ a month but for `one_off`."""

    objects: int = 0
    cost_before: float = 0.0
    cost_after: float = 0.0
    one_off: float = 0.0
    moves: int = 0
    bytes: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)

    def add(self, decisions: Iterable[Decision], sign: int = 1) -> None:
        """Counts some decisions in; with sign -1 out again."""
        for decision in decisions:
            month = sign * MONTH_DAYS / decision.horizon_days
            self.objects += sign
            self.verdicts[decision.verdict.value] += sign
            self.cost_before += month * decision.today_cost.recurring
            self.cost_after += month * decision.cost.recurring
            self.one_off += sign * sum(move.one_off for move in decision.moves)
            self.moves += sign * len(decision.moves)
            self.bytes += sign * sum(move.bytes for move in decision.moves)


def baselines(costs: Costs, decisions: Sequence[Decision]) -> Baselines:
    """The baselines of one block of objects."""
    ungated = [decision.today_cost if decision.best_cost is None else decision.best_cost for decision in decisions]
    return Baselines(
        all_hot=monthly(_in_place(costs, always_hot=True), costs),
        lifecycle=monthly(_in_place(costs, always_hot=False), costs),
        ungated=sum(entry.recurring for entry in ungated) * MONTH_DAYS / costs.horizon_days,
        routed=_routed(costs, decisions),
    )


def _in_place(costs: Costs, *, always_hot: bool) -> float:
    """What today's copies cost over the horizon in the class that a rule by idle days alone gives them."""
    column = {(pair.site, pair.name): index for index, pair in enumerate(costs.pairs)}
    classes = {site: _by_idle(costs, site) for site in range(len(costs.problem.sites))}
    total = 0.0
    for row, shape in enumerate(structures(costs)):
        idle = 0.0 if always_hot else costs.problem.items[row].demand.idle_days
        step = 0 if idle < WARM_AFTER_DAYS else 1 if idle < COLD_AFTER_DAYS else 2
        held = today(costs, row, shape)
        for copy in held.columns:
            site = costs.pairs[copy].site
            at = column[site, classes[site][step]]
            total += float(costs.storage[row, at])
            total += float(costs.serve[row, at]) if copy == held.primary else 0.0
    return total


def _by_idle(costs: Costs, site: int) -> tuple[str, str, str]:
    """A site's classes for busy, 30 days idle and 90 days idle; those that must be restored are left out."""
    option = costs.problem.sites[site]
    plain = [option.book.storage_class(name) for name in option.classes]
    plain = [entry for entry in plain if not entry.idle_steps and not entry.restore and not entry.archive] or plain[:1]
    warm = [entry for entry in plain if entry.min_days <= WARM_AFTER_DAYS]
    cold = [entry for entry in plain if entry.min_days <= COLD_AFTER_DAYS]
    coldest = [min(some or plain, key=lambda entry: entry.first_usd).name for some in (warm, cold)]
    return plain[0].name, coldest[0], coldest[1]


def _routed(costs: Costs, decisions: Sequence[Decision]) -> float:
    """$ a month of the cheapest sets if readers everywhere followed the copies: what `direct` leaves on the table."""
    direct = [decision for decision in decisions if decision.item.rules.readers is Readers.DIRECT]
    month = MONTH_DAYS / costs.horizon_days
    total = sum(decision.cost.recurring for decision in decisions if decision.item.rules.readers is Readers.ROUTED)
    if direct:
        freed = {id(d.item.rules): replace(d.item.rules, readers=Readers.ROUTED) for d in direct}
        items = tuple(replace(d.item, rules=freed[id(d.item.rules)]) for d in direct)
        free = price(replace(costs.problem, items=items))
        for row, (decision, chosen) in enumerate(zip(direct, solve(free), strict=True)):
            cost = decision.cost if chosen is None else split(free, row, chosen)
            total += cost.recurring if cost.total < decision.cost.total else decision.cost.recurring
    return total * month


def infeasible(problem: Problem, decisions: Iterable[Decision]) -> list[dict[str, Any]]:
    """The objects without a placement, grouped by the rules that conflict, each group with its relaxations."""
    groups: dict[object, list[Decision]] = {}
    for decision in decisions:
        if decision.verdict is Verdict.INFEASIBLE:
            held = tuple((copy.site, copy.storage_class) for copy in decision.item.held)
            groups.setdefault((id(decision.item.rules), held), []).append(decision)
    return [_group(placement_conflicts.explain(problem, some[0].item), some) for some in groups.values()]


def merged(groups: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Groups of several blocks: those with the same conflict and the same relaxations are one."""
    found: dict[object, dict[str, Any]] = {}
    for group in groups:
        ways = tuple(entry["change"] for entry in group["relaxations"])
        key = (tuple(group["rules"]), group["detail"], ways)
        first = found.setdefault(key, {**group, "objects": 0, "keys": []})
        first["objects"] += group["objects"]
        first["keys"] = [*first["keys"], *group["keys"]][:KEYS_SHOWN]
    return list(found.values())


def _group(conflict: Conflict, decisions: Sequence[Decision]) -> dict[str, Any]:
    return {
        "rules": list(conflict.rules),
        "detail": conflict.detail,
        "relaxations": [
            {"rules": list(entry.rules), "change": entry.words, "usd_a_month": entry.usd_a_month}
            for entry in conflict.relaxations
        ],
        "objects": len(decisions),
        "keys": [decision.item.key for decision in decisions[:KEYS_SHOWN]],
    }
