"""To which site a read goes: what each policy does with what it knows, and what it never does."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain import breakers
from app.domain.balancing import (
    COLD,
    HEDGE_EVERY,
    HEDGE_MOST_MS,
    POLICIES,
    RISK_OLD_S,
    Balancer,
    Foresight,
    Fresh,
    PeakEwmaReactive,
    SourceRule,
)
from app.domain.breakers import OPEN_S, most_open
from app.domain.endpoint_state import SLOW_ERROR_MS, EndpointState

ALL = (0, 1, 2)


def warm(balancer: Balancer, latencies: tuple[float, ...], seconds: int = 12) -> float:
    """Ten answers a second of every site until a time, which is returned."""
    now = 0.0
    for step in range(seconds * 10):
        now = step / 10
        for site, latency in enumerate(latencies):
            balancer.sent(site)
            balancer.learned(site, now, latency, ok=True)
        if step % 10 == 9:
            balancer.tick(now)
    return now


@pytest.mark.parametrize("name", POLICIES)
def test_cold_sites_take_turns(name: str):
    balancer = POLICIES[name](3, seed=1)
    asked = []
    for _ in range(3 * COLD):
        site = balancer.choose(0.0, ALL).site
        asked.append(site)
        balancer.sent(site)
        balancer.learned(site, 0.0, 50.0, ok=True)
    assert {asked.count(site) for site in ALL} == {COLD}


@pytest.mark.parametrize("name", POLICIES)
@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_every_policy_chooses_among_what_holds_the_object(name: str, data: st.DataObject):
    sites = data.draw(st.integers(1, 6))
    balancer = POLICIES[name](sites, data.draw(st.integers(0, 1000)))
    now = 0.0
    for _ in range(data.draw(st.integers(0, 60))):
        now += data.draw(st.floats(0, 3))
        among = data.draw(st.lists(st.integers(0, sites - 1), min_size=1, unique=True))
        site = balancer.choose(now, among).site
        assert site in among
        hedge = balancer.hedge(now, site, among)
        assert hedge is None or (hedge.site in among and hedge.site != site and 0 <= hedge.after_ms <= HEDGE_MOST_MS)
        balancer.sent(site)
        if data.draw(st.booleans()):
            balancer.learned(site, now, data.draw(st.floats(0, 5000)), ok=data.draw(st.booleans()))
        balancer.tick(now)
        assert sum(breaker.is_open for breaker in balancer.breakers) <= most_open(sites)


def test_the_default_takes_the_best_while_answers_are_fresh():
    balancer = Fresh(3, seed=1)
    now = warm(balancer, (90.0, 40.0, 60.0))
    assert [balancer.choose(now, ALL).site for _ in range(5)] == [1] * 5
    assert balancer.choose(now, (0, 2)).site == 2


def test_with_slow_feedback_the_default_spreads():
    balancer = Fresh(3, seed=1)
    now = warm(balancer, (45.0, 40.0, 60.0))
    for _ in range(200):  # far more in flight than answers come in a second
        balancer.sent(balancer.choose(now, ALL).site)
    assert balancer.choose(now, ALL).why == "two"
    assert min(state.in_flight for state in balancer.states) > 20


def test_two_errors_in_a_row_open_a_breaker_which_probes_close_again():
    balancer = PeakEwmaReactive(3, seed=1)
    now = warm(balancer, (40.0, 40.0, 40.0))
    for _ in range(2):
        balancer.sent(1)
        balancer.learned(1, now, 5.0, ok=False)
    probes = balancer.tick(now)
    assert balancer.breakers[1].is_open
    assert probes == [1]
    assert all(balancer.choose(now, ALL).site != 1 for _ in range(50))
    for second in range(1, int(OPEN_S) + 12):
        for site in balancer.tick(now + second):
            balancer.learned(site, now + second, 40.0, ok=True, was_sent=False)
        for site in (0, 2):
            balancer.learned(site, now + second, 40.0, ok=True, was_sent=False)
    assert not balancer.breakers[1].is_open


def test_a_slow_site_is_left_but_not_when_all_are_slow():
    one, all_slow = PeakEwmaReactive(3, seed=1), PeakEwmaReactive(3, seed=1)
    now = warm(one, (40.0, 400.0, 40.0))
    one.tick(now + 1)
    assert one.breakers[1].is_open
    assert "400 ms" in one.breakers[1].reason
    now = warm(all_slow, (400.0, 400.0, 400.0))
    all_slow.tick(now + 1)
    assert not any(breaker.is_open for breaker in all_slow.breakers)


@pytest.mark.parametrize(("sites", "most"), [(1, 0), (2, 1), (3, 1), (5, 1), (6, 2), (9, 3)])
def test_never_more_than_a_third_of_the_sites_is_left(sites: int, most: int):
    assert most_open(sites) == most
    balancer = PeakEwmaReactive(sites, seed=1)
    for site in range(sites):
        for _ in range(5):
            balancer.learned(site, 1.0, 1.0, ok=False, was_sent=False)
    breakers.tick(balancer.breakers, balancer.states, 1.0)
    assert sum(breaker.is_open for breaker in balancer.breakers) == most


def test_hedges_are_as_rare_as_they_are_saved_up():
    balancer = Fresh(2, seed=1)
    for _ in range(1000):
        balancer.sent(0)
    spent = sum(balancer.spend() for _ in range(1000))
    assert spent == 20
    for _ in range(100):
        balancer.sent(0)
    assert sum(balancer.spend() for _ in range(1000)) == 100 // HEDGE_EVERY


def test_no_hedge_goes_where_it_would_come_too_late():
    balancer = Fresh(2, seed=1)
    now = warm(balancer, (40.0, 200.0))
    assert balancer.hedge(now, 0, (0, 1)) is None
    assert balancer.hedge(now, 1, (0, 1)) is not None
    assert balancer.hedge(now, 1, (1,)) is None


def test_risk_makes_a_site_dearer_until_it_grows_old():
    balancer = Foresight(2, seed=1)
    now = warm(balancer, (40.0, 60.0))
    assert balancer.choose(now, (0, 1)).site == 0
    balancer.foresee([1.0, 0.0], now)
    assert balancer.choose(now, (0, 1)).site == 1
    assert balancer.avoids(0, now)
    assert not balancer.avoids(1, now)
    assert not any(breaker.is_open for breaker in balancer.breakers)
    balancer.tick(now + RISK_OLD_S + 1)
    assert balancer.choose(now, (0, 1)).site == 0


def test_risk_that_all_share_changes_nothing():
    balancer = Foresight(2, seed=1)
    now = warm(balancer, (40.0, 60.0))
    balancer.foresee([1.0, 1.0], now)
    assert balancer.choose(now, (0, 1)).site == 0


def test_the_source_rule_leaves_the_primary_only_past_its_threshold():
    balancer = SourceRule(3, seed=1)
    now = warm(balancer, (50.0, 60.0, 70.0))
    assert balancer.choose(now, ALL).why == "primary"
    balancer.expect([301.0, 90.0, 80.0])
    assert balancer.choose(now, ALL) == type(balancer.choose(now, ALL))(2, "reroute")
    balancer.expect([100.0, 90.0, 80.0])
    assert balancer.choose(now, ALL).site == 0


def test_an_error_counts_as_slow_and_silence_lets_the_peak_fall():
    state = EndpointState()
    for second in range(10):
        state.learned(float(second), 50.0, ok=True, was_sent=False)
    state.learned(10.0, 3.0, ok=False, was_sent=False)
    assert state.peak_ms == SLOW_ERROR_MS
    assert state.errors_in_row == 1
    assert state.peak_at(14.0) == SLOW_ERROR_MS
    assert 50.0 < state.peak_at(40.0) < 200.0
    assert state.recent(10.5) == (10, pytest.approx((9 * 50.0 + SLOW_ERROR_MS) / 10), 1)
    assert state.recent(25.0) == (0, 0.0, 0)
