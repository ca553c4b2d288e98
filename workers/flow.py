"""The gate before each site's requests in this process: rates, concurrency and breaker as app/domain/flow.py decides.

Limits are for all workers together: each process takes its share. A wait ends early when the work must stop.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from app.db import migration_limits
from app.db.session import session_scope
from app.domain.flow import AdaptiveLimit, RetryBudget, SiteBreaker, TokenBucket
from app.domain.limits import Limits, SiteLimits
from app.domain.sites import SiteAddress
from app.errors import (
    Cancelled,
    ForetideError,
    HeldBack,
    LeaseLost,
    SiteFaulty,
    SiteUnavailable,
    Throttled,
    UnknownOutcome,
)
from app.s3.gate import GATES
from app.settings import get_settings

LONGEST_WAIT_S = 10.0
"""A request that would have to wait longer gives its move back instead."""
LOOK_S = 0.25
"""How often a wait looks whether the work must stop."""

_stopping: ContextVar[Callable[[], None] | None] = ContextVar("stopping", default=None)


@contextmanager
def stopping(check: Callable[[], None]) -> Iterator[None]:
    """Waits inside end with what `check` raises."""
    token = _stopping.set(check)
    try:
        yield
    finally:
        _stopping.reset(token)


class SiteGate:
    """One site's gate, shared by the threads of this process."""

    def __init__(self, name: str, most: int, now: Callable[[], float] = time.monotonic) -> None:
        """most: requests that this process ever makes at the same time."""
        self._name, self._most, self._now = name, most, now
        self._changed = threading.Condition()
        self._under_way = 0
        self._limits = SiteLimits()
        self._requests, self._bytes = TokenBucket(None), TokenBucket(None)
        self._adaptive = AdaptiveLimit(most)
        self._breaker = SiteBreaker()
        self.retries = RetryBudget()

    def limit(self, limits: SiteLimits) -> None:
        """From now on these limits hold."""
        with self._changed:
            if limits != self._limits:
                self._limits = limits
                self._requests, self._bytes = TokenBucket(limits.requests_per_s), TokenBucket(limits.bytes_per_s)
                self._changed.notify_all()

    @contextmanager
    def request(self, *, writes: bool, bytes_out: int) -> Iterator[None]:  # noqa: ARG002  # reads and writes share
        """Held while a request is under way. Raises SiteUnavailable, HeldBack, or what stops the work."""
        with self._changed:
            if self._breaker.refuses(self._now()):
                raise SiteUnavailable(f"{self._name} does not answer; waiting before the next try")
            is_trial = self._breaker.trying
        try:
            self._take_place()
            try:
                self._await_rate()
                self._pay(bytes_out)
                yield
            finally:
                with self._changed:
                    self._under_way -= 1
                    self._changed.notify()
        finally:
            if is_trial:  # also one that was held back or stopped, and told nothing of the site
                with self._changed:
                    self._breaker.trying = False

    def received(self, count: int) -> None:
        """Waits as long as the bandwidth asks for after so many bytes."""
        if self._limits.bytes_per_s is not None:
            self._pay(count)

    def look(self) -> None:
        """Raises what stops the work."""
        _look()

    def ended(self, error: ForetideError | None, seconds: float) -> None:  # noqa: ARG002  # the answer is what counts
        """Learns from an answer how much the site bears; nothing where the work was stopped before it came."""
        if isinstance(error, Cancelled | HeldBack | LeaseLost):
            return
        with self._changed:
            now = self._now()
            if isinstance(error, SiteUnavailable | UnknownOutcome):
                self._breaker.not_reached(now)
                self._adaptive.pushed_back(now)
                return
            self._breaker.reached()
            if isinstance(error, Throttled | SiteFaulty):
                self._adaptive.pushed_back(now)
            else:
                self._adaptive.went_well()
                self._changed.notify()

    def may_retry(self) -> bool:
        """Whether one more retry at this site is within its budget."""
        with self._changed:
            return self.retries.take(self._now())

    def not_retried(self) -> None:
        """A retry that was within its budget is not made after all."""
        with self._changed:
            self.retries.give_back()

    def _take_place(self) -> None:
        """Waits for a place among the requests under way."""
        with self._changed:
            while self._under_way >= min(self._adaptive.allowed, self._limits.concurrency or self._most):
                self._changed.wait(LOOK_S)
                _look()
            self._under_way += 1
            self.retries.requested()

    def _await_rate(self) -> None:
        """Waits for the rate, or raises HeldBack when that takes too long."""
        with self._changed:
            wait_s = self._requests.take(1, self._now())
            if wait_s > max(LONGEST_WAIT_S, 1 / (self._limits.requests_per_s or 1)):  # the first in turn may wait
                self._requests.give_back(1)
                raise HeldBack(f"{self._name}: the limit of requests", reason="rate_limit", retry_after_s=wait_s)
        self._sleep(wait_s)

    def _pay(self, count: int) -> None:
        with self._changed:
            wait_s = self._bytes.take(count, self._now()) if count else 0.0
        self._sleep(wait_s)

    def _sleep(self, seconds: float) -> None:
        until = self._now() + seconds
        while (left := until - self._now()) > 0:
            time.sleep(min(left, LOOK_S))
            _look()


def _look() -> None:
    check = _stopping.get()
    if check:
        check()


class Gates:
    """The gates of this process by the site's name."""

    def __init__(self) -> None:
        self._gates: dict[str, SiteGate] = {}
        self._limits = Limits()
        self._lock = threading.Lock()

    def of(self, name: str) -> SiteGate:
        """The gate of a site."""
        with self._lock:
            if name not in self._gates:
                settings = get_settings()
                self._gates[name] = SiteGate(name, 4 * settings.migrate_concurrency)
                self._gates[name].limit(self._limits.at(name).shared(settings.worker_slots))
            return self._gates[name]

    def install(self) -> None:
        """From now on every request of this process to a site passes its gate."""
        GATES.made_by(self._make)

    def obey(self, limits: Limits) -> None:
        """From now on these limits hold."""
        with self._lock:
            if limits == self._limits:
                return
            self._limits = limits
            for name, gate in self._gates.items():
                gate.limit(limits.at(name).shared(get_settings().worker_slots))

    def load(self) -> Limits:
        """Obeys the limits in force, and returns them."""
        with session_scope() as session:
            limits = migration_limits.load(session)
        self.obey(limits)
        return limits

    def forget(self) -> None:
        """Everything learnt so far, and that requests pass a gate at all."""
        with self._lock:
            self._gates, self._limits = {}, Limits()
        GATES.made_by(None)

    def _make(self, address: SiteAddress) -> SiteGate:
        return self.of(address.name)


FLOW = Gates()
