from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.domain.demand import Demand, RegionReads
from app.domain.placement import solve, split, structures, totals
from app.domain.placement_costs import price
from app.domain.placement_decisions import decide
from app.domain.placement_milp import solve_milp
from app.domain.placement_problem import Held, Item, Problem, SiteOption
from app.domain.placement_rows import Row, Use
from app.domain.policies import Readers, Rules
from app.domain.price_books import shipped
from app.domain.prices import GB
from app.domain.states import SiteState
from tests.unit.placement_cases import DIRECT, ROUTED, SITES, item, problem

REGIONS = ("eu-west-1", "westeurope", "europe-west1", "")


@st.composite
def sites(draw):
    providers = draw(st.lists(st.sampled_from(["aws", "azure", "gcp", "cloudflare"]), min_size=1, max_size=4))
    return tuple(
        SiteOption(
            f"site-{index}",
            provider,
            draw(st.sampled_from(REGIONS[:3])),
            draw(st.sampled_from([10.0, 40.0, 90.0])),
            tuple(entry.name for entry in shipped(provider).classes),
            shipped(provider),
            draw(st.sampled_from([SiteState.READY] * 5 + [SiteState.DRAINING, SiteState.UNREACHABLE])),
            draw(st.booleans()),
        )
        for index, provider in enumerate(providers)
    )


@st.composite
def items(draw, options, number):
    names = [site.name for site in options]
    held = tuple(
        Held(site.name, draw(st.sampled_from(site.classes)), draw(st.floats(0, 400)), draw(st.booleans()))
        for site in options
        if site.name in draw(st.sets(st.sampled_from(names), min_size=1))
    )
    size = draw(st.sampled_from([0, 900, 200_000, 30_000_000, 50 * GB]))
    reads = draw(st.sampled_from([0.0, 0.001, 0.1, 3.0, 400.0]))
    region = draw(st.sampled_from(REGIONS))
    rules = Rules(
        rf=draw(st.integers(1, 3)),
        sla_ms=draw(st.sampled_from([None, 20.0, 50.0])),
        diversity=draw(st.booleans()),
        readers=draw(st.sampled_from(list(Readers))),
        pinned=draw(st.sampled_from([False] * 6 + [True])),
        allow_restore=draw(st.booleans()),
        never_archive=draw(st.booleans()),
        sites=draw(st.sampled_from([None, None, frozenset(names[:2])])),
        encrypted_only=draw(st.booleans()),
    )
    return Item(number, f"k{number}", 1, size, held or (Held(names[0], options[0].classes[0], 1.0),),
                Demand((RegionReads(region, reads, reads * size),), 10.0, 5.0, 0.5), rules)  # fmt: skip


@st.composite
def problems(draw):
    options = draw(sites())
    return Problem(options, tuple(draw(items(options, number)) for number in range(draw(st.integers(1, 2)))))


@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(problems())
def test_the_closed_form_equals_the_milp(whole):
    costs = price(whole)
    closed, milp = solve(costs), solve_milp(costs)
    assert milp.status == "optimal"
    shapes, now = structures(costs), [decision.today for decision in decide(costs, closed)]
    assert totals(costs, closed) == pytest.approx(totals(costs, milp.chosen), rel=1e-9, abs=1e-15)
    for row, (ours, theirs) in enumerate(zip(closed, milp.chosen, strict=True)):
        assert (ours is None) == (theirs is None)
        if theirs is not None and theirs.columns != now[row].columns:
            assert not shapes[row].violated([costs.pairs[column].site for column in theirs.columns])


def test_equal_objects_are_solved_once():
    alike = [item(reads=0.001, rules=DIRECT, number=number) for number in range(50)]
    result = solve_milp(price(problem(*alike)))
    assert len(set(result.chosen)) == 1
    assert (result.status, result.gap, result.programs) == ("optimal", 0.0, 1)


def test_a_budget_is_spent_where_it_saves_most():
    whole = problem(*(item(reads=0.001, size=size * GB, rules=DIRECT, number=size) for size in (1, 5, 20, 100)))
    costs = price(whole)
    free = solve_milp(costs)
    one = solve_milp(costs, [Row(Use.MOVES, 1)])
    kept = [chosen == decide(costs)[row].today for row, chosen in enumerate(one.chosen)]
    assert kept == [True, True, True, False]
    assert one.objective > free.objective
    fewer_bytes = solve_milp(costs, [Row(Use.BYTES, 6 * GB)])
    assert sum(chosen != decide(costs)[row].today for row, chosen in enumerate(fewer_bytes.chosen)) == 2
    assert solve_milp(costs, [Row(Use.USD, 1e9)]).objective == pytest.approx(free.objective, rel=1e-12)


def test_a_budget_too_small_for_what_rules_demand_is_infeasible():
    costs = price(problem(item(rules=replace(ROUTED, rf=3))))
    result = solve_milp(costs, [Row(Use.MOVES, 1)])
    assert result.status == "infeasible"
    assert result.chosen == (None,)


def test_what_has_no_feasible_set_does_not_spoil_the_rest():
    costs = price(problem(item(reads=1000), item(rules=replace(ROUTED, rf=5), number=2)))
    first, second = solve_milp(costs).chosen
    assert first == solve(costs)[0]
    assert second is None


def test_nano_dollars_are_decided_exactly():
    costs = price(problem(*(item(reads=0.01 * n, size=1000 * n, number=n) for n in range(1, 30)), sites=SITES))
    for row, chosen in enumerate(solve_milp(costs).chosen):
        assert split(costs, row, chosen).total == pytest.approx(split(costs, row, solve(costs)[row]).total, rel=1e-9)
