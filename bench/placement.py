"""Placement: one object's closed form and the fleet solver, beside PuLP programs and HiGHS alone.

Ours is the best of several turns, in seconds of the processor: it runs on one core, whatever else the machine does.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from itertools import combinations
from typing import Any

import numpy as np
import pulp

from app.domain.demand import Demand, RegionReads
from app.domain.placement import couple, solve, split
from app.domain.placement_costs import Costs, price
from app.domain.placement_coupled import solve_coupled
from app.domain.placement_fleet import Fleet, solve_fleet
from app.domain.placement_kernel import Batch, Term, account, cheapest
from app.domain.placement_milp import solve_milp
from app.domain.placement_problem import Held, Item, Problem, SiteOption
from app.domain.placement_rows import Row, Use
from app.domain.policies import Readers, Rules
from app.domain.price_books import shipped
from app.domain.pricing import Floats
from bench import replays
from bench.result import Result, less, more
from bench.rig import Rig

OBJECTS = 20_000
PROGRAMS = 40
TURNS = 5
BAR = 10_000.0
FEW, HIGHS_S = 5_000, 45.0
MANY, MANY_S, MANY_GAP = 1_000_000, 20.0, 2e-4
SITES, CLASSES, ROWS = 4, 4, 13


def measure(rig: Rig) -> Iterator[Result]:
    """Objects placed a second; the fleet's time and gap against HiGHS's and against their limits; replays."""
    yield from _one(rig)
    yield from _few(rig)
    yield from _many(rig)
    yield from replays.measure(rig)


def _best(act: Callable[[], object]) -> float:
    """Seconds of the processor that the fastest of several turns takes."""
    times = []
    for _ in range(TURNS):
        started = time.process_time()
        act()
        times.append(time.process_time() - started)
    return min(times)


def _processor() -> float:
    """Seconds of the processor so far, those of solvers in processes of their own included."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _one(rig: Rig) -> Iterator[Result]:
    """The closed form over arrays against one program for each object, by CBC and by HiGHS."""
    costs, few = price(_problem(OBJECTS)), price(_problem(PROGRAMS))
    batches = [entry.batch for entry in couple(costs)]
    ours = OBJECTS / _best(lambda: [cheapest(batch, np.zeros(0)) for batch in batches])
    chosen = solve(costs)
    started = _processor()
    totals = [_cbc(few, row) for row in range(PROGRAMS)]
    peer = PROGRAMS / (_processor() - started)
    started = _processor()
    totals += [solve_milp(few, rows=[row]).objective for row in range(PROGRAMS)]
    second = PROGRAMS / (_processor() - started)
    for row, program in enumerate(totals):
        mine = chosen[row % PROGRAMS]
        assert mine is not None
        assert math.isclose(split(costs, row % PROGRAMS, mine).total, program, rel_tol=1e-6), "equal objectives"
    rig.tell(f"placement: {PROGRAMS} programs have the objectives of ours, which takes {1e6 / ours:.3f} µs an object")
    yield more("placement", ours, peer, "objects/s", BAR)
    yield more("placement, HiGHS instead of CBC", ours, second, "objects/s", 1.0)


def _cbc(costs: Costs, row: int) -> float:
    """The cost of the cheapest two copies at two sites, as a plain PuLP program that CBC solves."""
    program: Any = pulp.LpProblem("placement", pulp.LpMinimize)
    columns = range(len(costs.pairs))
    held = [program.add_variable(f"held_{column}", cat=pulp.LpBinary) for column in columns]
    read = [program.add_variable(f"read_{column}", cat=pulp.LpBinary) for column in columns]
    usable = [column for column in columns if np.isfinite(costs.hold[row, column])]
    cost = [costs.hold[row, column] if column in usable else 0.0 for column in columns]
    scale = 1e4 / max(abs(costs.hold[row, usable]).max(), costs.serve[row].max())
    program += pulp.lpSum(
        scale * float(cost[column]) * held[column] + scale * float(costs.serve[row, column]) * read[column]
        for column in columns
    )
    program += pulp.lpSum(held) == 2
    program += pulp.lpSum(read) == 1
    for column in columns:
        program += read[column] <= held[column]
        if column not in usable:
            program += held[column] == 0
    for site in range(len(costs.problem.sites)):
        program += pulp.lpSum(held[column] for column in columns if costs.pairs[column].site == site) <= 1
    program.solve(pulp.PULP_CBC_CMD(msg=False, threads=1, gapRel=0.0, gapAbs=0.0))
    return float(pulp.value(program.objective)) / scale + float(costs.base[row])


def _few(rig: Rig) -> Iterator[Result]:
    """Five thousand objects with coupling rows against HiGHS on the whole program."""
    costs = price(_problem(FEW))
    rows = _rows(costs)
    started = time.process_time()
    ours = solve_coupled(costs, rows)
    seconds = time.process_time() - started
    started = time.process_time()
    whole = solve_milp(costs, rows, seconds=HIGHS_S)
    peer = time.process_time() - started
    best = whole.objective if whole.status in ("optimal", "feasible") else math.inf
    gap = min(whole.gap, 1.0) if math.isfinite(best) else 1.0
    rig.tell(
        f"placement: {FEW} objects, {len(rows)} rows: gap {ours.gap:.2g} in {seconds:.1f} s; HiGHS alone "
        f"{whole.status}, gap {gap:.2g} in {peer:.1f} s; ours costs {ours.objective / best:.6f} of its placement"
    )
    yield less("placement of 5,000 against HiGHS, time", seconds, peer, "s", 10.0)
    yield less("placement of 5,000 against HiGHS, gap", max(ours.gap, 1e-9), gap, "of the cost", 10.0)


def _many(rig: Rig) -> Iterator[Result]:
    """A million objects with thirteen rows against the limits of time and gap."""
    batch, limits = fleet(MANY)
    fleets: list[Fleet] = []
    seconds = []
    for _ in range(2):
        started = time.process_time()
        fleets.append(solve_fleet([batch], limits, seconds=300.0))
        seconds.append(time.process_time() - started)
    worst = max(fleets, key=lambda entry: entry.gap)
    assert (worst.used <= limits * (1 + 1e-9)).all(), "every row is kept"
    binding = int((worst.prices > 0).sum())
    rig.tell(
        f"placement: {MANY} objects, {ROWS} rows of which {binding} bind: {worst.status}, gap {worst.gap:.2g}, "
        f"{min(seconds):.1f} s of the processor ({min(entry.seconds for entry in fleets):.1f} s of the clock)"
    )
    yield less("placement of 1,000,000, time", min(seconds), MANY_S, "s")
    yield less("placement of 1,000,000, gap", max(worst.gap, 1e-9), MANY_GAP, "of the cost")


def fleet(count: int, seed: int = 0) -> tuple[Batch, Floats]:
    """Objects with two copies at two of four sites in one of four classes, and rows of which about half are in the way.

    Capacity and request rate by site, two capacities by class, and the day's dollars, bytes and moves.
    """
    rng, pairs = np.random.default_rng(seed), SITES * CLASSES
    size, reads = rng.lognormal(0, 1.5, count), rng.lognormal(-1, 2, count)
    storage = rng.uniform(0.8, 1.2, pairs) * np.tile([23.0, 12.0, 4.0, 1.5], SITES) / 1000
    retrieval = rng.uniform(0.8, 1.2, pairs) * np.tile([0.0, 10.0, 30.0, 50.0], SITES) / 1000
    brought = np.ones((pairs, count))
    brought[rng.integers(0, SITES, count) * CLASSES, np.arange(count)] = 0.0
    money = brought * (0.02 * size + 1e-5)
    hold = np.multiply.outer(storage, size) + money
    serve = np.multiply.outer(retrieval, size * reads) + np.multiply.outer(rng.uniform(0.5, 1.5, pairs) / 1000, reads)
    at_site = np.repeat(np.eye(SITES), CLASSES, axis=1)
    one = np.ones(count)
    terms = [Term(site, at_site[site], size) for site in range(SITES)]
    terms += [Term(SITES + site, at_site[site], reads, read=True) for site in range(SITES)]
    terms += [Term(8, np.eye(pairs)[2], size), Term(9, np.eye(pairs)[6], size)]
    terms += [Term(10, money, one), Term(11, brought, size), Term(12, brought, one)]
    sets = tuple(combinations(range(SITES), 2))
    columns = tuple(tuple(range(site * CLASSES, (site + 1) * CLASSES)) for site in range(SITES))
    batch = Batch(sets, sets, columns, hold, serve, tuple(terms))
    free = account(batch, cheapest(batch, np.zeros(ROWS)), ROWS)[1].sum(axis=1)
    capacity = size.sum() * np.array([0.4, 0.55, 0.65, 0.75])
    rate = reads.sum() * np.array([0.25, 0.3, 0.4, 0.45])
    return batch, np.concatenate([capacity, rate, np.maximum(0.7 * free[8:10], 0.02 * size.sum()), 0.95 * free[10:]])


def _rows(costs: Costs) -> list[Row]:
    """Rows of which several are in the way of what the closed form takes."""
    items, names = costs.problem.items, [site.name for site in costs.problem.sites]
    size, reads = sum(item.size for item in items), sum(item.demand.reads for item in items) / 86_400
    rows = [Row(Use.CAPACITY, share * size, name) for share, name in zip((0.85, 0.6, 0.75), names, strict=True)]
    rows += [Row(Use.REQUESTS, share * reads, name) for share, name in zip((0.7, 0.5, 0.4), names, strict=True)]
    return [*rows, Row(Use.BYTES, 1.3 * size), Row(Use.MOVES, 1.3 * len(items))]


def _problem(count: int) -> Problem:
    rng = np.random.default_rng(1)
    rules = Rules(rf=2, sla_ms=80, readers=Readers.ROUTED)
    items = []
    for number in range(count):
        size, reads = int(rng.lognormal(14, 2)) + 1, float(rng.lognormal(-2, 2))
        demand = Demand((RegionReads("eu-west-1", reads, reads * size),))
        items.append(Item(number, f"k{number}", 1, size, (Held("aws", "STANDARD", 100.0, True),), demand, rules))
    return Problem(
        (_site("aws", "eu-west-1"), _site("azure", "westeurope"), _site("gcp", "europe-west1")), tuple(items)
    )


def _site(provider: str, region: str) -> SiteOption:
    book = shipped(provider)
    classes = tuple(entry.name for entry in book.classes)
    return SiteOption(provider, provider, region, 30.0, classes, book)
