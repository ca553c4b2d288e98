"""One object's placement: the closed form over many objects against a PuLP program each, with equal objectives."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

import numpy as np

from app.domain.demand import Demand, RegionReads
from app.domain.placement import ReplicaSet, solve, split
from app.domain.placement_milp import solve_milp
from app.domain.placement_problem import Costs, Held, Item, Problem, SiteOption, price
from app.domain.policies import Readers, Rules
from app.domain.price_books import shipped
from bench.result import Result, more
from bench.rig import Rig

OBJECTS = 20_000
PROGRAMS = 40
BAR = 10_000.0


def measure(rig: Rig) -> Iterator[Result]:
    """Objects placed a second."""
    costs = price(_problem())
    started = time.perf_counter()
    chosen = solve(costs)
    ours = OBJECTS / (time.perf_counter() - started)
    started = time.perf_counter()
    peers = [solve_milp(costs, rows=[row]) for row in range(PROGRAMS)]
    peer = PROGRAMS / (time.perf_counter() - started)
    for row, (mine, program) in enumerate(zip(chosen, peers, strict=False)):
        assert mine is not None
        assert math.isclose(_total(costs, row, mine), program.objective, rel_tol=1e-6), "equal objectives"
    rig.tell(f"placement: {PROGRAMS} programs have the closed form's objectives")
    yield more("placement", ours, peer, "objects/s", BAR)


def _total(costs: Costs, row: int, chosen: ReplicaSet) -> float:
    return split(costs, row, chosen).total


def _problem() -> Problem:
    rng = np.random.default_rng(1)
    rules = Rules(rf=2, sla_ms=80, readers=Readers.ROUTED)
    items = []
    for number in range(OBJECTS):
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
