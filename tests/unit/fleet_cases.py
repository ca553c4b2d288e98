"""Random problems whose objects share rows, and what the fleet solver must keep to on each."""

import time
from dataclasses import replace

import numpy as np
import pytest

from app.domain.demand import Demand, RegionReads
from app.domain.placement import breaches, couple, solve, structures, today, totals
from app.domain.placement_blocks import Blocks
from app.domain.placement_costs import price
from app.domain.placement_coupled import net_limits, row_use, solve_coupled
from app.domain.placement_fleet import Status
from app.domain.placement_heavy import decide
from app.domain.placement_kernel import account
from app.domain.placement_milp import solve_milp
from app.domain.placement_problem import Held, Item, Problem
from app.domain.placement_rest import chosen, improved, kept, made_whole
from app.domain.placement_rows import Row, Use
from app.domain.policies import Readers, Rules
from tests.unit.placement_cases import AWS, AZURE, GCP

ALL = (AWS, AZURE, GCP, replace(AWS, name="aws-us", region="us-east-1", latency_ms=90.0))


def random_problem(seed, objects=None):
    """Some objects of a few rules over some sites."""
    rng = np.random.default_rng(seed)
    sites = tuple(ALL[index] for index in sorted(rng.choice(4, rng.integers(2, 5), replace=False)))
    rules = [
        Rules(
            rf=int(rng.integers(1, 3)),
            sla_ms=[None, 50.0, 70.0][rng.integers(3)],
            diversity=bool(rng.integers(2)),
            readers=[Readers.ROUTED, Readers.ROUTED, Readers.DIRECT][rng.integers(3)],
            never_archive=bool(rng.integers(2)),
        )
        for _ in range(2)
    ]
    count = int(rng.integers(2, 14)) if objects is None else objects
    return Problem(sites, tuple(_item(rng, number, sites, rules) for number in range(count)))


def _item(rng, number, sites, rules):
    size, reads = int(rng.lognormal(20, 2)), float(rng.lognormal(-2, 3))
    copies = rng.choice(len(sites), rng.integers(1, min(3, len(sites)) + 1), replace=False)
    held = tuple(
        Held(sites[at].name, str(rng.choice(sites[at].classes[:3])), float(rng.uniform(0, 200)), turn == 0)
        for turn, at in enumerate(copies)
    )
    region = ["eu-west-1", "westeurope", "us-east-1"][rng.integers(3)]
    demand = Demand((RegionReads(region, reads, reads * size),), 10.0, float(rng.uniform(0, 90)))
    return Item(number, f"k{number}", 1, size, held, demand, rules[rng.integers(len(rules))])


def random_rows(seed, costs):
    """Rows around what the objects use when nothing couples them, and around what they use today."""
    rng = np.random.default_rng(seed + 1)
    names = [site.name for site in costs.problem.sites]
    rows = [Row(Use.CAPACITY, 0.0, name) for name in names] + [Row(Use.REQUESTS, 0.0, name) for name in names]
    rows += [Row(Use.CAPACITY, 0.0, costs.problem.sites[0].name, costs.problem.sites[0].classes[0])]
    rows += [Row(use, 0.0) for use in (Use.USD, Use.BYTES, Use.MOVES)]
    rows = [rows[index] for index in sorted(rng.choice(len(rows), rng.integers(1, len(rows) + 1), replace=False))]
    free = row_use(costs, rows, solve(costs))
    shapes = structures(costs)
    now = [None if breaches(costs, at, shape) else today(costs, at, shape) for at, shape in enumerate(shapes)]
    still = row_use(costs, rows, now)
    share, room = rng.uniform(0.0, 1.0, len(rows)), rng.choice([0.0, 0.1, 0.5], len(rows))
    limits = share * free + (1 - share) * still + room * (np.abs(free) + np.abs(still))
    return [replace(row, limit=float(limit)) for row, limit in zip(rows, limits, strict=True)]


def check(seed, objects=None):
    """The fleet solver beside the reference; how it ended."""
    costs = price(random_problem(seed, objects))
    rows = random_rows(seed, costs)
    exact = solve_milp(costs, rows)
    fleet = solve_coupled(costs, rows, small=0, seconds=20.0)
    if fleet.status is Status.INFEASIBLE:
        assert exact.status == "infeasible"
    if exact.status == "infeasible":
        assert fleet.status in (Status.INFEASIBLE, Status.TIME_LIMIT)
        assert set(fleet.chosen) == {None}
        return fleet.status
    if fleet.status is Status.TIME_LIMIT:
        return fleet.status
    tolerance = 1e-6 * max(abs(exact.objective), 1e-9)  # what HiGHS itself allows of a row and of the optimum
    assert fleet.objective == pytest.approx(totals(costs, fleet.chosen).sum(), rel=1e-9, abs=1e-12)
    assert [entry is None for entry in fleet.chosen] == [entry is None for entry in exact.chosen]
    assert fleet.objective >= exact.objective - tolerance
    assert fleet.objective - fleet.gap * abs(fleet.objective) <= exact.objective + tolerance, "the gap is understated"
    for row, use in zip(rows, row_use(costs, rows, fleet.chosen), strict=True):
        assert use <= row.limit + 1e-9 * max(abs(row.limit), 1e-9), row.name
    return fleet.status


def check_heavy(seed):
    """The bound with the heaviest objects decided exactly beside the reference; by how much of the gap it rises."""
    costs = price(random_problem(seed, 40))
    rows = random_rows(seed, costs)
    fleet = couple(costs, rows)
    limits, offset = net_limits(costs, rows, fleet)
    batches, until = [entry.batch for entry in fleet], time.perf_counter() + 60
    blocks = Blocks(batches, limits, np.arange(len(costs.problem.items)), [np.zeros(len(rows))])
    dear = 10 * (abs(blocks.best) or 1.0) / blocks.scale
    mix = blocks.climb(dear, 1e-9, until)
    whole, _ = improved(blocks, made_whole(blocks, mix, dear, until), 0.0, np.random.default_rng(0), until)
    gap = whole.cost - blocks.best
    if not kept(blocks, whole) or gap <= 1e-7 * abs(whole.cost):
        return None
    heavy = decide(blocks, gap, gap / 100, dear, until, many=12)
    if heavy is None:
        return None
    exact = solve_milp(costs, rows).objective
    assert heavy.bound + offset <= exact + 1e-6 * max(abs(exact), 1e-9)
    rest = made_whole(heavy.others, heavy.mix, dear, until)
    choices = heavy.joined(batches, chosen(heavy.others, rest))
    sums = [account(batch, choice, len(rows)) for batch, choice in zip(batches, choices, strict=True)]
    assert sum(cost.sum() for cost, _ in sums) == pytest.approx(heavy.cost + rest.cost, rel=1e-9)
    assert np.sum([use.sum(axis=1) for _, use in sums], axis=0) == pytest.approx(heavy.used + rest.used, rel=1e-9)
    return (heavy.bound - blocks.best) / gap
