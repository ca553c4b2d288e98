from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.domain.placement import solve, totals
from app.domain.placement_costs import price
from app.domain.placement_coupled import row_use, solve_coupled
from app.domain.placement_fleet import Status, solve_fleet
from app.domain.placement_kernel import Batch, Term, account, cheapest
from app.domain.placement_rows import Row, Use
from app.domain.placement_shortage import explain_rows
from app.domain.prices import GB
from tests.unit.fleet_cases import check, check_heavy, random_problem
from tests.unit.placement_cases import ROUTED, item, problem


@settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 2**31))
def test_it_lies_within_its_gap_of_the_reference_and_keeps_every_row(seed):
    check(seed)


def test_deciding_the_heaviest_objects_raises_the_bound_and_never_above_the_optimum():
    assert max(check_heavy(seed) or 0.0 for seed in (8, 10, 11)) >= 0.3


def test_without_a_row_in_the_way_it_is_the_closed_form():
    costs = price(random_problem(3))
    fleet = solve_coupled(costs, [Row(Use.MOVES, 1e9), Row(Use.CAPACITY, 1e18, costs.problem.sites[0].name)])
    assert fleet.status is Status.OPTIMAL
    assert list(fleet.chosen) == solve(costs)
    assert [row.price for row in fleet.rows] == [0.0, 0.0]


def test_a_full_site_keeps_what_would_lose_most_by_leaving():
    small, large = item(reads=1, size=GB, number=1), item(reads=100, size=3 * GB, number=2)
    whole = problem(small, large)
    costs = price(whole)
    free = solve(costs)
    site = costs.problem.sites[costs.pairs[free[1].primary].site].name
    fleet = solve_coupled(costs, [Row(Use.CAPACITY, 3 * GB, site)])
    at = [costs.problem.sites[costs.pairs[chosen.primary].site].name for chosen in fleet.chosen]
    assert at[1] == site
    assert at[0] != site
    assert fleet.status is Status.OPTIMAL
    assert fleet.rows[0].used <= 3 * GB


def test_more_than_rules_demand_is_infeasible():
    costs = price(problem(*(item(rules=replace(ROUTED, rf=3), number=n) for n in range(5))))
    fleet = solve_coupled(costs, [Row(Use.MOVES, 9)])
    assert fleet.status is Status.INFEASIBLE
    assert set(fleet.chosen) == {None}
    assert solve_coupled(costs, [Row(Use.MOVES, 10)]).status is Status.OPTIMAL


def test_rows_that_cannot_be_kept_are_named_with_the_cheapest_relaxation():
    costs = price(problem(*(item(rules=replace(ROUTED, rf=3), number=n) for n in range(5))))
    conflict = explain_rows(costs, [Row(Use.MOVES, 9), Row(Use.BYTES, 100 * GB)])
    assert conflict.rules == ("moves_per_day",)
    assert conflict.relaxations[0].words == "moves_per_day 10 instead of 9"
    assert conflict.relaxations[0].usd_a_month > 0
    both = explain_rows(costs, [Row(Use.MOVES, 9), Row(Use.BYTES, 9 * GB)])
    assert [entry.rules for entry in both.relaxations] == [("moves_per_day", "bytes_per_day")]


def test_objects_without_a_set_use_nothing():
    costs = price(problem(item(), item(rules=replace(ROUTED, rf=5), number=2)))
    fleet = solve_coupled(costs, [Row(Use.MOVES, 0)])
    assert fleet.chosen[0] is not None
    assert fleet.chosen[1] is None
    assert fleet.rows[0].used == 0


def fleet_of(count, seed=0):
    """A batch of two sites with two classes each, and a row on the bytes of each site and on the reads of the first."""
    rng = np.random.default_rng(seed)
    size, reads = rng.lognormal(0, 1.5, count), rng.lognormal(-1, 2, count)
    hold = np.multiply.outer(np.array([23.0, 4.0, 20.0, 5.0]), size)
    serve = np.multiply.outer(np.array([1.0, 30.0, 2.0, 20.0]), size * reads)
    first, second = np.array([1.0, 1.0, 0.0, 0.0]), np.array([0.0, 0.0, 1.0, 1.0])
    terms = (Term(0, first, size), Term(1, second, size), Term(2, first, reads, read=True))
    return Batch(((0,), (1,)), ((0,), (1,)), ((0, 1), (2, 3)), hold, serve, terms)


def test_thousands_of_objects_are_decided_within_a_small_certified_gap():
    batch = fleet_of(5_000)
    free = account(batch, cheapest(batch, np.zeros(3)), 3)[1].sum(axis=1)
    limits = np.array([0.8 * free[0], 1.5 * free[1] + free[0], 0.7 * free[2]])
    fleet = solve_fleet([batch], limits)
    assert fleet.status in (Status.FEASIBLE, Status.OPTIMAL)
    assert fleet.gap <= 5e-5
    assert (fleet.used <= limits * (1 + 1e-9)).all()
    assert fleet.exact < 5_000
    again = solve_fleet([batch], limits)
    assert again.objective == fleet.objective, "the same seed decides the same"


def test_thousands_of_objects_that_cannot_fit_are_proven_infeasible():
    batch = fleet_of(5_000)
    size = batch.terms[0].weight.sum()
    assert solve_fleet([batch], np.array([0.4 * size, 0.5 * size, 1e9])).status is Status.INFEASIBLE


def test_without_rows_it_costs_what_the_closed_form_costs():
    costs = price(random_problem(11, 40))
    assert totals(costs, solve(costs)).sum() == pytest.approx(solve_coupled(costs, []).objective, rel=1e-12)


def test_no_choice_is_cheaper_at_the_prices_than_the_kernels():
    batch, rng = fleet_of(100), np.random.default_rng(5)
    prices = np.array([3.0, 0.0, 1.0])
    cost, used = account(batch, cheapest(batch, prices), 3)
    for _ in range(50):
        other, use = account(batch, cheapest(batch, prices * rng.uniform(0, 2, 3)), 3)
        assert (cost + prices @ used <= other + prices @ use + 1e-9).all()


def test_what_rows_use_is_what_the_sets_hold():
    costs = price(problem(item(size=2 * GB, reads=86_400 * 30)))
    chosen = solve(costs)
    site = costs.problem.sites[costs.pairs[chosen[0].primary].site].name
    use = row_use(costs, [Row(Use.CAPACITY, 0, site), Row(Use.REQUESTS, 0, site), Row(Use.MOVES, 0)], chosen)
    assert use[:2] == pytest.approx([2 * GB, 1.0])
