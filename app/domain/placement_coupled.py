"""Where copies should lie when rows couple the objects: exact for few objects, by the fleet solver for many.

Loaded by workers and benchmarks only. What comes out names each row with its use and its dual price.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from app.domain.placement import ReplicaSet, couple, read_off, totals
from app.domain.placement_costs import Costs
from app.domain.placement_fleet import Fleet, Status, solve_fleet
from app.domain.placement_kernel import cheapest
from app.domain.placement_milp import solve_milp
from app.domain.placement_rest import SLACK
from app.domain.placement_rows import Coupled, Row, counted, used
from app.domain.pricing import Floats

SMALL = 1_000
"""Up to so many objects one program holds them all and proves its optimum."""
SECONDS = 60.0


@dataclass(frozen=True)
class RowUse:
    """A row as the outcome uses it. price: dollars over the horizon that one more unit of the limit would save."""

    name: str
    limit: float
    used: float
    price: float

    @property
    def binds(self) -> bool:
        """Whether more room would make the placement cheaper."""
        return self.price > 0


@dataclass(frozen=True)
class Solution:
    """The sets found, None for objects without any; all None where the rows cannot be kept."""

    chosen: tuple[ReplicaSet | None, ...]
    objective: float
    bound: float
    status: Status
    gap: float
    seconds: float
    method: str
    rows: tuple[RowUse, ...]
    exact: int

    def document(self) -> dict[str, Any]:
        """As plans show it."""
        found = np.isfinite(self.gap)
        return {
            "method": self.method,
            "status": self.status.value,
            "gap": self.gap if found else None,
            "seconds": self.seconds,
            "objects": len(self.chosen),
            "exact_objects": self.exact,
            "rows": [{**vars(row), "binds": row.binds} for row in self.rows],
        }


def solve_coupled(
    costs: Costs, rows: Sequence[Row], *, seconds: float = SECONDS, small: int = SMALL, seed: int = 0
) -> Solution:
    """The cheapest sets of all objects that keep every row, with a certified gap. Those without any set use nothing."""
    started = time.perf_counter()
    fleet = couple(costs, rows)
    limits, offset = net_limits(costs, rows, fleet)
    solved = solve_fleet([entry.batch for entry in fleet], limits, offset=offset, seconds=seconds, seed=seed)
    chosen: list[ReplicaSet | None] = [None] * len(costs.problem.items)
    for entry, choice in zip(fleet, solved.choices or (), strict=solved.choices is not None):
        read_off(entry, choice, chosen)
    result = _solution(costs, rows, tuple(chosen), solved, "dual prices, a mix of blocks and an exact rest")
    if len(chosen) <= small and result.status not in (Status.OPTIMAL, Status.INFEASIBLE):
        result = _exact(costs, rows, result, seconds)
    return replace(result, seconds=time.perf_counter() - started)


def net_limits(costs: Costs, rows: Sequence[Row], fleet: Sequence[Coupled]) -> tuple[Floats, float]:
    """What the limits leave to choices, and the cost that no choice changes: of objects with a feasible set."""
    none = np.zeros(len(rows))
    placed = np.zeros(len(costs.problem.items), bool)
    for entry in fleet:
        placed[entry.objects] = cheapest(entry.batch, none).placed
    base = [float(entry.base[placed].sum()) for entry in counted(costs, rows)]
    return np.array([row.limit - (row.standing or 0.0) for row in rows]) - base, float(costs.base[placed].sum())


def _solution(
    costs: Costs, rows: Sequence[Row], chosen: tuple[ReplicaSet | None, ...], solved: Fleet, method: str
) -> Solution:
    use = row_use(costs, rows, chosen)
    prices = solved.prices.tolist()
    table = tuple(RowUse(row.name, row.limit, *both) for row, *both in zip(rows, use.tolist(), prices, strict=True))
    return Solution(chosen, solved.objective, solved.bound, solved.status, solved.gap, 0.0, method, table, solved.exact)


def row_use(costs: Costs, rows: Sequence[Row], chosen: Sequence[ReplicaSet | None]) -> Floats:
    """[row] what sets use together with what stands; objects without one use nothing."""
    held, read = np.zeros(costs.keeps.shape, bool), np.zeros(costs.keeps.shape, bool)
    for row, entry in enumerate(chosen):
        if entry is not None:
            held[row, list(entry.columns)] = True
            read[row, entry.primary] = True
    total: Floats = used(costs, rows, held, read)[:, held.any(axis=1)].sum(axis=1)
    total += np.array([row.standing or 0.0 for row in rows])
    return total


def _exact(costs: Costs, rows: Sequence[Row], found: Solution, seconds: float) -> Solution:
    """The whole as one program; where its tolerance exceeds a row, again with as much less of it."""
    tight, limits = list(rows), np.array([row.limit for row in rows])
    for turn in range(3):
        milp = solve_milp(costs, tight, seconds=seconds)
        if milp.status == "infeasible" and turn == 0:
            return replace(found, status=Status.INFEASIBLE) if found.status is Status.TIME_LIMIT else found
        if milp.status not in ("optimal", "feasible"):
            return found
        use = row_use(costs, rows, milp.chosen)
        if (use - limits <= SLACK * np.abs(limits)).all():
            return _better(costs, found, milp.chosen, use, proven=milp.status == "optimal" and turn == 0)
        over = np.maximum(use - limits, 0.0)
        tight = [replace(row, limit=row.limit - 2 * float(more)) for row, more in zip(tight, over, strict=True)]
    return found


def _better(
    costs: Costs, found: Solution, chosen: tuple[ReplicaSet | None, ...], use: Floats, *, proven: bool
) -> Solution:
    """What the program found, where it is cheaper than what stood before; `proven`: nothing is cheaper still."""
    objective = float(totals(costs, chosen).sum())
    if objective < found.objective:
        table = tuple(replace(row, used=value) for row, value in zip(found.rows, use.tolist(), strict=True))
        gap = max(0.0, objective - found.bound) / max(abs(objective), 1e-300)
        found = replace(found, chosen=chosen, objective=objective, gap=gap, rows=table, status=Status.FEASIBLE)
    return replace(found, status=Status.OPTIMAL, gap=0.0) if proven else found
