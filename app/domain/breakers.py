"""When a site gets no reads for a while, never so many sites that the rest drowns (step: route).

Slowness opens a breaker only while the other sites are well: where all are slow together, leaving one makes it worse.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.domain.endpoint_state import EndpointState
from app.domain.states import BreakerState

OPEN_MS, CLOSE_MS, PANIC_MS = 300.0, 150.0, 150.0
OPEN_S = 30.0
"""A breaker stays open at least this long."""
ENOUGH = 3
"""Answers of ten seconds under which their mean says nothing."""
ERRORS_IN_ROW = 2
PROBE_EVERY_S = 1.0


@dataclass(slots=True)
class Breaker:
    """Of one site; `reason` says in a few words what opened it."""

    state: BreakerState = BreakerState.CLOSED
    since: float = float("-inf")
    for_errors: bool = False
    reason: str = ""
    probed_at: float = float("-inf")

    @property
    def is_open(self) -> bool:
        """Whether the site gets no reads."""
        return self.state is BreakerState.OPEN

    def wants_probe(self, now: float) -> bool:
        """Whether an open site is to be asked again; each call that says yes counts as the probe."""
        if not self.is_open or now - self.probed_at < PROBE_EVERY_S:
            return False
        self.probed_at = now
        return True

    def open(self, now: float, reason: str, *, for_errors: bool) -> None:
        """Leaves the site."""
        self.state, self.since, self.reason, self.for_errors = BreakerState.OPEN, now, reason, for_errors

    def close(self) -> None:
        """Comes back to it."""
        self.state, self.reason, self.for_errors = BreakerState.CLOSED, "", False


def most_open(sites: int) -> int:
    """How many breakers may be open at once."""
    return max(1, sites // 3) if sites > 1 else 0


def tick(breakers: Sequence[Breaker], states: Sequence[EndpointState], now: float, open_ms: float = OPEN_MS) -> None:
    """Looks at every site, once a second. open_ms: the mean latency from which a site counts as slow."""
    for breaker, state in zip(breakers, states, strict=True):
        if breaker.is_open:
            _look_at_open(breaker, state, now, panic=_panic(breaker, breakers, states))
    free = most_open(len(breakers)) - sum(breaker.is_open for breaker in breakers)
    if free <= 0:
        return
    ill = []
    for breaker, state in zip(breakers, states, strict=True):
        if breaker.is_open:
            continue
        number, mean, _ = state.recent(now)
        if state.errors_in_row >= ERRORS_IN_ROW:
            ill.append((float("inf"), breaker, f"{state.errors_in_row} errors in a row", True))
        elif number >= ENOUGH and mean > open_ms and not _panic(breaker, breakers, states):
            ill.append((mean, breaker, f"mean of {mean:.0f} ms in the last 10 s", False))
    for _, breaker, reason, for_errors in sorted(ill, key=lambda found: -found[0])[:free]:
        breaker.open(now, reason, for_errors=for_errors)


def _look_at_open(breaker: Breaker, state: EndpointState, now: float, *, panic: bool) -> None:
    if panic and not breaker.for_errors:
        breaker.close()
        return
    number, mean, errors = state.recent(now)
    if now - breaker.since >= OPEN_S and number >= ENOUGH and mean < CLOSE_MS and not errors:
        breaker.close()


def _panic(one: Breaker, breakers: Sequence[Breaker], states: Sequence[EndpointState]) -> bool:
    """Whether the others are slow as well."""
    others = [s.ewma_ms for b, s in zip(breakers, states, strict=True) if b is not one and not b.is_open]
    return not others or sum(others) / len(others) > PANIC_MS
