"""The flow to a site: what each part lets through, by a clock that the test turns."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.flow import (
    BREAKER_FAILURES,
    BREAKER_PAUSE_S,
    RETRY_CAP,
    RETRY_PER_S,
    RETRY_SHARE,
    AdaptiveLimit,
    RetryBudget,
    SiteBreaker,
    TokenBucket,
)
from app.domain.limits import Limits, SiteLimits, Wave, may_start, too_many_errors


@settings(deadline=None)  # how busy the machine is shows nothing
@given(st.lists(st.tuples(st.floats(0, 3), st.floats(0.1, 20)), max_size=60), st.floats(0.5, 50))
def test_a_token_bucket_never_lets_more_through_than_its_rate_and_one_second_at_once(steps, rate):
    bucket, now, used = TokenBucket(rate), 0.0, []
    for pause, units in steps:
        now += pause
        used.append((now + bucket.take(units, now), units))
    for start, _ in used:
        within = sum(units for when, units in used if start <= when < start + 10)
        largest = max(units for _, units in used)
        assert within <= rate * 10 + max(rate, 1) + largest + 1e-6


def test_without_a_rate_nobody_waits():
    assert TokenBucket(None).take(10**9, 0.0) == 0


def test_concurrency_halves_when_the_site_pushes_back_and_grows_again_by_one_a_round():
    limit = AdaptiveLimit(16)
    limit.pushed_back(10.0)
    limit.pushed_back(10.5)  # the same round
    assert limit.allowed == 8
    for _ in range(9):
        limit.went_well()
    assert limit.allowed == 9
    for second in range(12):
        limit.pushed_back(20.0 + second)
    assert limit.allowed == 1
    for _ in range(1000):
        limit.went_well()
    assert limit.allowed == 16


def test_a_breaker_opens_after_failures_in_a_row_and_lets_one_try():
    breaker = SiteBreaker()
    for _ in range(BREAKER_FAILURES - 1):
        breaker.not_reached(0.0)
    assert not breaker.refuses(0.0)
    breaker.reached()
    for _ in range(BREAKER_FAILURES):
        breaker.not_reached(0.0)
    assert breaker.refuses(BREAKER_PAUSE_S - 0.01)
    assert not breaker.refuses(BREAKER_PAUSE_S)
    assert breaker.refuses(BREAKER_PAUSE_S), "one is trying already"
    breaker.reached()
    assert not breaker.refuses(BREAKER_PAUSE_S)


def test_retries_are_a_fifth_of_the_requests_and_ten_a_second():
    budget, now = RetryBudget(), 0.0
    assert sum(budget.take(now) for _ in range(200)) == RETRY_CAP
    for _ in range(100):
        budget.requested()
    assert sum(budget.take(now) for _ in range(200)) == pytest.approx(100 * RETRY_SHARE, abs=1)
    assert sum(budget.take(now + 1) for _ in range(200)) == pytest.approx(RETRY_PER_S, abs=1)


@pytest.mark.parametrize(
    ("wave", "allowed"),
    [
        (Wave(moves=16, started=0, gone=0, failing=0), None),
        (Wave(moves=100, started=0, gone=0, failing=0), 16),
        (Wave(moves=100, started=10, gone=3, failing=0), 6),
        (Wave(moves=100, started=16, gone=15, failing=0), 0),
        (Wave(moves=100, started=16, gone=16, failing=3), None),
        (Wave(moves=100, started=16, gone=16, failing=4), 0),
        (Wave(moves=100, started=40, gone=20, failing=1), None),
    ],
)
def test_the_first_wave_goes_alone(wave, allowed):
    assert may_start(wave, Limits()) == allowed


def test_a_job_is_stopped_when_too_many_of_its_moves_fail():
    assert too_many_errors(3, 9, Limits()) is None
    assert too_many_errors(2, 10, Limits()) is None
    assert too_many_errors(3, 10, Limits()) == "3 of 10 moves failed, more than 20%"


def test_limits_are_read_by_site_and_shared_among_processes():
    limits = Limits.of({"requests_per_s": 10, "sites": {"a": {"concurrency": 3}}, "canary_moves": 0})
    assert limits.at("b") == SiteLimits(10)
    assert limits.at("a") == SiteLimits(None, None, 3)
    assert limits.at("b").shared(4) == SiteLimits(2.5)
    assert limits.at("a").shared(4).concurrency == 1
    assert may_start(Wave(100, 0, 0, 0), limits) is None
