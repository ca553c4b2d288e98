"""The placement problem as a mixed integer program, solved by PuLP with HiGHS: the reference, and coupled problems.

Loaded by workers only. The same prices and feasible region as app/domain/placement.py; objects may share rows
(app/domain/placement_rows.py), which the closed form alone cannot hold.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pulp

from app.domain.placement import ReplicaSet, breaches, split, structures, today
from app.domain.placement_costs import Costs
from app.domain.placement_rows import Row, counted
from app.domain.placement_sets import Structure

CHUNK = 100
"""Objects in one program when nothing couples them; from 10 to 200 an object takes the same 1 to 2.5 ms."""
SCALE = 1e4
"""Costs are brought to this size, far above the solver's tolerances: bills of nano-dollars are decided exactly too."""


@dataclass(frozen=True)
class MilpResult:
    """The sets found (None: infeasible), their summed cost over the horizon and how the solver ended."""

    chosen: tuple[ReplicaSet | None, ...]
    objective: float
    status: str
    gap: float
    seconds: float
    programs: int


@dataclass(frozen=True)
class _Object:
    """The variables of one object, each with its cost: copies that are read or just kept, by column, and staying."""

    row: int
    read: dict[int, tuple[Any, float]]
    kept: dict[int, tuple[Any, float]]
    stay: tuple[Any, float, ReplicaSet] | None

    @property
    def terms(self) -> list[tuple[Any, float]]:
        """Every variable with its cost."""
        return [*self.read.values(), *self.kept.values(), *([] if self.stay is None else [self.stay[:2]])]

    @property
    def scale(self) -> float:
        """Brings the largest cost to SCALE."""
        largest = max(abs(cost) for _, cost in self.terms)
        return SCALE / largest if largest > 0 else 1.0


def solve_milp(
    costs: Costs, coupling: Sequence[Row] = (), rows: Sequence[int] | None = None, seconds: float | None = None
) -> MilpResult:
    """The cheapest feasible set of each object of `rows` (all by default), proven optimal: the gap asked for is zero.

    coupling: what the objects share; without it they are solved in chunks, those with equal costs once. An object
    without any feasible set is None; when the rows leave no room for what the rules demand, status is "infeasible"
    and so is every object. seconds: a limit for each program, after which status is "feasible" or "time_limit".
    """
    started = time.perf_counter()
    wanted = range(len(costs.problem.items)) if rows is None else rows
    shapes = structures(costs)
    chosen: dict[int, ReplicaSet | None] = {}
    alike = _alike(costs, shapes, wanted) if not coupling else {row: [row] for row in wanted}
    leaders = [row for row in alike if _has_room(costs, shapes[row], row)]
    step = CHUNK if not coupling else max(1, len(leaders))
    statuses, gaps = ["optimal"], [0.0]
    for start in range(0, len(leaders), step):
        status, gap, found = _program(costs, shapes, leaders[start : start + step], coupling, seconds)
        statuses.append(status)
        gaps.append(gap)
        chosen.update({member: value for row, value in found.items() for member in alike[row]})
    result = tuple(chosen.get(row) for row in wanted)
    total = sum(split(costs, row, at).total for row, at in zip(wanted, result, strict=True) if at is not None)
    status = next((entry for entry in statuses if entry != "optimal"), "optimal")
    return MilpResult(result, total, status, max(gaps), time.perf_counter() - started, len(gaps) - 1)


def _has_room(costs: Costs, shape: Structure, row: int) -> bool:
    """Whether some feasible set has an open pair at each of its sites."""
    return any(all(_open(costs, row, site) for site in chosen) for chosen in shape.sets)


def _open(costs: Costs, row: int, site: int) -> list[int]:
    return [
        index for index, pair in enumerate(costs.pairs) if pair.site == site and np.isfinite(costs.hold[row, index])
    ]


def _alike(costs: Costs, shapes: Sequence[Structure], rows: Sequence[int]) -> dict[int, list[int]]:
    """Objects whose rules and costs are the same, by the first of them."""
    first: dict[tuple[Structure, bytes, bytes], int] = {}
    reading = costs.reading
    groups: dict[int, list[int]] = {}
    for row in rows:
        key = (shapes[row], costs.hold[row].tobytes(), reading[row].tobytes())
        groups.setdefault(first.setdefault(key, row), []).append(row)
    return groups


def _program(
    costs: Costs, shapes: Sequence[Structure], rows: Sequence[int], coupling: Sequence[Row], seconds: float | None
) -> tuple[str, float, dict[int, ReplicaSet]]:
    """One program over some objects: its status, its gap and the sets found."""
    program = pulp.LpProblem("placement", pulp.LpMinimize)
    objects = [_variables(program, costs, shapes[row], row) for row in rows]
    scales = [entry.scale for entry in objects]
    if coupling:  # objects that compete for a limit are weighed in one currency
        scales = [min(scales)] * len(scales)
    program += pulp.lpSum(
        scale * cost * variable for scale, entry in zip(scales, objects, strict=True) for variable, cost in entry.terms
    )
    for entry in objects:
        for constraint in _constraints(costs, shapes[entry.row], entry):
            program += constraint
    for constraint in _coupling(costs, objects, coupling):
        program += constraint
    limit = {} if seconds is None else {"timeLimit": seconds}
    program.solve(pulp.HiGHS(msg=False, gapRel=0.0, gapAbs=0.0, threads=1, dual_feasibility_tolerance=1e-10, **limit))
    status = pulp.LpStatus[program.status].lower()
    if program.sol_status not in (pulp.LpSolutionOptimal, pulp.LpSolutionIntegerFeasible):
        return "infeasible" if status == "infeasible" else "time_limit", float("inf"), {}
    proven = program.solverModel.getModelStatus().name == "kOptimal"  # PuLP calls a limit of time optimal as well
    status = "optimal" if proven else "feasible"
    return status, float(program.solverModel.getInfo().mip_gap), {entry.row: _read_off(entry) for entry in objects}


def _variables(program: Any, costs: Costs, shape: Structure, row: int) -> _Object:
    usable = [column for site in (*shape.forced, *shape.free) for column in _open(costs, row, site)]
    hold, serve = costs.hold[row], costs.reading[row]
    reading = [
        column for column in usable if costs.pairs[column].site in shape.primaries and np.isfinite(serve[column])
    ]
    several = len(shape.forced) + shape.add > 1
    now = None if breaches(costs, row, shape) else today(costs, row, shape)
    now = now if now is not None and np.isfinite(serve[now.primary]) else None
    lowest = min(float(hold[column] + serve[column]) for column in reading)
    read = {column: float(hold[column] + serve[column]) - lowest for column in reading}
    kept = {column: float(hold[column]) for column in usable} if several else {}
    stay = None if now is None else float(hold[list(now.columns)].sum() + serve[now.primary]) - lowest
    return _Object(
        row,
        {column: (_binary(program, "read", row, column), cost) for column, cost in read.items()},
        {column: (_binary(program, "kept", row, column), cost) for column, cost in kept.items()},
        None if stay is None or now is None else (_binary(program, "stay", row, 0), stay, now),
    )


def _binary(program: Any, kind: str, row: int, column: int) -> Any:
    return program.add_variable(f"{kind}_{row}_{column}", cat=pulp.LpBinary)


def _constraints(costs: Costs, shape: Structure, entry: _Object) -> Iterator[Any]:
    """The feasible region of one object: `go` is 1 unless it stays as today."""
    go = 1 if entry.stay is None else 1 - entry.stay[0]
    at: dict[int, list[Any]] = {site: [] for site in (*shape.forced, *shape.free)}
    for column, (variable, _) in (*entry.read.items(), *entry.kept.items()):
        at[costs.pairs[column].site].append(variable)
    yield pulp.lpSum(variable for variable, _ in entry.read.values()) == go
    for site in shape.forced:
        yield pulp.lpSum(at[site]) == go
    for site in shape.free if entry.kept else ():
        yield pulp.lpSum(at[site]) <= 1
    if entry.kept:  # a single copy is counted by the first row already
        yield pulp.lpSum(variable for site in shape.free for variable in at[site]) == shape.add * go
    for group in shape.exclusive:
        yield pulp.lpSum(variable for site in group for variable in at[site]) <= 1
    if shape.fast is not None:
        yield pulp.lpSum(variable for site in shape.fast if site in at for variable in at[site]) >= go


def _coupling(costs: Costs, objects: Sequence[_Object], coupling: Sequence[Row]) -> Iterator[Any]:
    """What all objects together may use, each row brought near 1."""
    for row, entry in zip(coupling, counted(costs, coupling) if coupling else (), strict=True):
        table, terms = entry.table, []
        base = float(entry.base[[thing.row for thing in objects]].sum()) + (row.standing or 0.0)
        for thing in objects:
            columns = [*thing.read.items(), *(() if entry.read else thing.kept.items())]
            terms += [(float(table[thing.row, column]), variable) for column, (variable, _) in columns]
            if thing.stay is not None:
                now = thing.stay[2]
                used = table[thing.row, [now.primary] if entry.read else list(now.columns)]
                terms.append((float(used.sum()), thing.stay[0]))
        scale = max(abs(row.limit - base), *(abs(factor) for factor, _ in terms), 1e-300)
        yield pulp.lpSum(factor / scale * variable for factor, variable in terms) <= (row.limit - base) / scale


def _read_off(entry: _Object) -> ReplicaSet:
    """The set that the solver chose for one object."""
    if entry.stay is not None and entry.stay[0].value() > 0.5:
        return entry.stay[2]
    primary = next(column for column, (variable, _) in entry.read.items() if variable.value() > 0.5)
    others = [column for column, (variable, _) in entry.kept.items() if variable.value() > 0.5]
    return ReplicaSet(tuple(sorted((primary, *others))), primary)
