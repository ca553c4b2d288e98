"""Why an object has no feasible placement: the rules that conflict, and what each relaxation would cost.

Every rule is relaxed alone, then in pairs, and the problem solved again; a rule whose relaxation helps is in conflict.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

from app.domain.placement import monthly, solve, split
from app.domain.placement_costs import price
from app.domain.placement_problem import Item, Problem
from app.domain.policies import Readers, Rules

Change = dict[str, Any]


@dataclass(frozen=True)
class Relaxation:
    """A change of rules that makes a placement possible, in words, and what that placement costs."""

    rules: tuple[str, ...]
    words: str
    usd_a_month: float


@dataclass(frozen=True)
class Conflict:
    """The rules that exclude each other, in words, and the relaxations, the cheapest first."""

    rules: tuple[str, ...]
    detail: str
    relaxations: tuple[Relaxation, ...]


def explain(problem: Problem, item: Item) -> Conflict:
    """Explains an object for which `solve` found nothing. Of one rule, the least relaxation that helps is named."""
    changes = list(_changes(problem, item.rules))
    found: dict[tuple[str, ...], Relaxation] = {}
    for many in (1, 2):
        for some in combinations(changes, many):
            names = tuple(words.split()[0] for words, _ in some)
            if names in found or len(set(names)) < many:
                continue
            cost = _cost(problem, item, {key: value for _, change in some for key, value in change.items()})
            if cost is not None:
                found[names] = Relaxation(names, " and ".join(words for words, _ in some), cost)
        if found:
            break
    return _conflict(problem, item, sorted(found.values(), key=lambda entry: entry.usd_a_month))


def _changes(problem: Problem, rules: Rules) -> Iterator[tuple[str, Change]]:
    """Each rule in force with what relaxing it means; the first word is the rule's name."""
    if rules.sla_ms is not None:
        slowest = max(site.latency_ms for site in problem.sites)
        at_reach = min((site.latency_ms for site in problem.sites if site.latency_ms > rules.sla_ms), default=slowest)
        yield f"sla_ms {at_reach:g}", {"sla_ms": at_reach}
        if slowest > at_reach:
            yield f"sla_ms {slowest:g}", {"sla_ms": slowest}
    if rules.diversity and rules.rf > 1:
        yield "diversity off", {"diversity": False}
    if rules.sites is not None:
        yield "residency lifted", {"sites": None}
    if rules.readers is Readers.DIRECT:
        yield "readers routed", {"readers": Readers.ROUTED}
    if rules.encrypted_only:
        yield "encryption not enforced", {"encrypted_only": False}
    if rules.pinned and not rules.legal_hold:
        yield "pinned lifted", {"pinned": False}
    for copies in range(rules.rf - 1, 0, -1):
        yield f"rf {copies}", {"rf": copies}


def _cost(problem: Problem, item: Item, change: Change) -> float | None:
    """$ a month of the cheapest placement under changed rules; None when there is still none."""
    changed = replace(problem, items=(replace(item, rules=replace(item.rules, **change)),))
    costs = price(changed)
    chosen = solve(costs)[0]
    return None if chosen is None else monthly(split(costs, 0, chosen).recurring, costs)


def _conflict(problem: Problem, item: Item, found: Sequence[Relaxation]) -> Conflict:
    rules, sites = item.rules, problem.sites
    words = [
        f"rf {rules.rf}",
        "diversity" if rules.diversity and rules.rf > 1 else "",
        "" if rules.sla_ms is None else f"sla_ms {rules.sla_ms:g}",
        "" if rules.sites is None else "residency",
        "encryption" if rules.encrypted_only else "",
        f"readers {rules.readers}",
        "legal_hold" if rules.legal_hold else "pinned" if rules.pinned else "",
    ]
    blamed = {name for entry in found for name in entry.rules}
    in_force = tuple(word for word in words if word)
    named = tuple(word for word in in_force if word.split()[0] in blamed) or in_force
    fast = sum(rules.sla_ms is None or site.latency_ms <= rules.sla_ms for site in sites)
    facts = f"{len(sites)} sites of {len({site.provider for site in sites})} providers"
    facts += "" if rules.sla_ms is None else f", {fast} of them within the SLA"
    cheapest = f"; the cheapest relaxation is {found[0].words}, at ${found[0].usd_a_month:.3g} a month" if found else ""
    return Conflict(named, f"no placement keeps {', '.join(named)} at once with {facts}{cheapest}", tuple(found))
