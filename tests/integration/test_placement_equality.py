"""The fleet solver beside the reference program, at length."""

from collections import Counter

from app.domain.placement_fleet import Status
from tests.unit.fleet_cases import check, check_heavy


def test_on_hundreds_of_random_problems_it_keeps_every_row_and_never_understates_its_gap():
    ended = Counter(check(seed) for seed in range(1_000, 1_250))
    found = ended[Status.FEASIBLE] + ended[Status.OPTIMAL]
    assert found >= 100
    assert ended[Status.INFEASIBLE] >= 20
    assert ended[Status.TIME_LIMIT] <= 0.2 * found, "prices alone find nothing for some small problems"


def test_on_larger_problems_too():
    ended = Counter(check(seed, objects=80) for seed in range(10))
    assert ended[Status.FEASIBLE] + ended[Status.OPTIMAL] >= 3


def test_bounds_with_the_heaviest_objects_decided_are_never_above_the_optimum():
    risen = [share for share in map(check_heavy, range(100, 160)) if share is not None]
    assert len(risen) >= 15
    assert sum(risen) / len(risen) >= 0.3
