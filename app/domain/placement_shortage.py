"""Why no placement keeps the rows that objects share: which rows are short, and what the cheapest relaxation costs.

Loaded by workers only: each row is relaxed alone, then in pairs, then all, and the least limit sought that suffices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np

from app.domain.placement import couple, monthly, split
from app.domain.placement_conflicts import Conflict, Relaxation
from app.domain.placement_costs import Costs
from app.domain.placement_coupled import net_limits, solve_coupled
from app.domain.placement_fleet import solve_fleet
from app.domain.placement_kernel import CLOSED, Batch, account
from app.domain.placement_rows import Row
from app.domain.pricing import Floats

ROOM = 1e-9
"""More room than needed, relative to it, so that rounding does not take it away again."""


def explain_rows(costs: Costs, rows: Sequence[Row], seconds: float = 60.0) -> Conflict:
    """Explains rows that `solve_coupled` could not keep. Each relaxation names the least limit found that suffices."""
    found: list[Relaxation] = []
    for many in sorted({1, min(2, len(rows)), len(rows)}):
        for some in combinations(range(len(rows)), many):
            relaxed = _least(costs, rows, some, seconds)
            if relaxed is not None:
                found.append(_relaxation(costs, rows, relaxed, some, seconds))
        if found:
            break
    found.sort(key=lambda entry: entry.usd_a_month)
    short = tuple(row.name for row in rows if any(row.name in entry.rules for entry in found))
    names = short or tuple(row.name for row in rows)
    cheapest = f"; the cheapest relaxation is {found[0].words}, at ${found[0].usd_a_month:.3g} a month" if found else ""
    limits = ", ".join(f"{row.name} {row.limit:g}" for row in rows if row.name in names)
    objects = len(costs.problem.items)
    return Conflict(names, f"no placement of {objects} objects keeps {limits} at once{cheapest}", tuple(found))


def _least(costs: Costs, rows: Sequence[Row], some: Sequence[int], seconds: float) -> list[Row] | None:
    """The rows with limits of `some` so high that a placement exists; None when the others are short as well."""
    fleet = couple(costs, rows)
    limits, _ = net_limits(costs, rows, fleet)
    base = np.array([row.limit for row in rows]) - limits
    scale = np.where(np.abs(limits) > 0, np.abs(limits), 1.0)
    free = limits.copy()
    free[list(some)] = 0.0
    batches = [_by_use(entry.batch, some, scale) for entry in fleet]
    solved = solve_fleet(batches, free, seconds=seconds)
    if solved.choices is None:
        return None
    use = base.copy()
    for entry, choice in zip(fleet, solved.choices, strict=True):
        use += account(entry.batch, choice, len(rows))[1].sum(axis=1)
    need = use + ROOM * np.maximum(np.abs(use), np.abs(base))
    return [replace(row, limit=max(row.limit, float(need[at]))) if at in some else row for at, row in enumerate(rows)]


def _by_use(batch: Batch, some: Sequence[int], scale: Floats) -> Batch:
    """The same objects where what some rows count is the cost, and those rows hold no more."""
    hold, serve = np.where(batch.hold >= CLOSED / 2, CLOSED, 0.0), np.zeros_like(batch.serve)
    for term in batch.terms:
        if term.row in some:
            at = term.at if term.at.ndim == 2 else term.at[:, None]
            (serve if term.read else hold)[...] += at * term.weight / scale[term.row]
    return replace(batch, hold=hold, serve=serve, terms=tuple(term for term in batch.terms if term.row not in some))


def _relaxation(
    costs: Costs, rows: Sequence[Row], relaxed: Sequence[Row], some: Sequence[int], seconds: float
) -> Relaxation:
    """In words, with what the cheapest placement within the relaxed rows costs."""
    words = " and ".join(f"{relaxed[at].name} {relaxed[at].limit:.6g} instead of {rows[at].limit:.6g}" for at in some)
    solved = solve_coupled(costs, relaxed, seconds=seconds)
    sets = (split(costs, at, chosen) for at, chosen in enumerate(solved.chosen) if chosen is not None)
    return Relaxation(tuple(rows[at].name for at in some), words, monthly(sum(cost.recurring for cost in sets), costs))
