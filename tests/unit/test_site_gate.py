"""The gate before a site's requests: what waits, what is refused, and that a wait ends when the work must stop."""

import threading
import time

import pytest

from app.domain.flow import BREAKER_FAILURES
from app.domain.limits import SiteLimits
from app.errors import Cancelled, HeldBack, ObjectMissing, SiteUnavailable, Throttled
from workers.flow import SiteGate, stopping


def ask(gate, bytes_out=0):
    with gate.request(writes=False, bytes_out=bytes_out):
        pass


def test_no_more_requests_are_under_way_than_the_limit():
    gate, under_way, most = SiteGate("a", 32), [], []
    gate.limit(SiteLimits(concurrency=3))
    barrier = threading.Barrier(3)

    def request():
        with gate.request(writes=False, bytes_out=0):
            under_way.append(1)
            most.append(len(under_way))
            barrier.wait(5)
            under_way.pop()

    threads = [threading.Thread(target=request) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert len(most) == 12
    assert max(most) == 3


def test_a_rate_is_kept_and_a_long_wait_gives_the_move_back():
    gate = SiteGate("a", 8)
    gate.limit(SiteLimits(requests_per_s=50))
    started = time.monotonic()
    for _ in range(60):
        ask(gate)
    assert time.monotonic() - started > 0.19
    gate.limit(SiteLimits(requests_per_s=0.05))
    ask(gate)  # what is left of the last second's worth
    waiting = threading.Event()

    def waits():
        waiting.set()
        raise Cancelled

    with pytest.raises(Cancelled), stopping(waits):
        ask(gate)  # the next in turn may wait however slow the rate is: else nothing would ever be done
    assert waiting.is_set()
    with pytest.raises(HeldBack) as held:
        ask(gate)
    assert held.value.reason == "rate_limit"
    assert held.value.retry_after_s > 10


def test_bytes_are_limited_both_ways():
    gate = SiteGate("a", 8)
    gate.limit(SiteLimits(bytes_per_s=1000))
    started = time.monotonic()
    ask(gate, bytes_out=1000)
    gate.received(200)
    assert time.monotonic() - started > 0.19


def test_a_wait_ends_when_the_work_must_stop():
    gate = SiteGate("a", 8)
    gate.limit(SiteLimits(requests_per_s=0.2))

    def cancelled():
        raise Cancelled

    ask(gate)
    with pytest.raises(Cancelled), stopping(cancelled):
        ask(gate)


def test_a_site_that_does_not_answer_is_left_alone_and_any_answer_ends_that():
    now = [0.0]
    gate = SiteGate("a", 8, lambda: now[0])
    for _ in range(BREAKER_FAILURES):
        ask(gate)
        gate.ended(SiteUnavailable(), 0.1)
    with pytest.raises(SiteUnavailable):
        ask(gate)
    now[0] += 60
    ask(gate)
    gate.ended(ObjectMissing(), 0.1)
    ask(gate)


def test_a_site_that_pushes_back_gets_fewer_requests_at_once():
    now = [10.0]
    gate = SiteGate("a", 8, lambda: now[0])
    for _ in range(4):
        gate.ended(Throttled(), 0.1)
        now[0] += 2

    def stop():
        raise Cancelled

    with gate.request(writes=False, bytes_out=0), stopping(stop), pytest.raises(Cancelled):
        ask(gate)


def reopened(now, **limits):
    """A gate whose breaker is about to let one request try."""
    gate = SiteGate("a", 8, lambda: now[0])
    gate.limit(SiteLimits(**limits))
    for _ in range(BREAKER_FAILURES):
        gate.ended(SiteUnavailable(), 0)
    now[0] += 60
    return gate


def test_a_trial_that_was_stopped_before_it_was_sent_lets_another_try():
    now = [0.0]
    gate = reopened(now)

    def cancelled():
        raise Cancelled

    gate.limit(SiteLimits(bytes_per_s=1))
    with pytest.raises(Cancelled), stopping(cancelled):
        ask(gate, bytes_out=100)
    gate.limit(SiteLimits())
    ask(gate)


def test_a_trial_that_ended_with_an_error_of_our_own_lets_another_try():
    gate = reopened([0.0])
    with pytest.raises(MemoryError), gate.request(writes=False, bytes_out=0):
        raise MemoryError
    ask(gate)
