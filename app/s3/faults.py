"""Injected faults (chaos): rules read as values and acted on just before a request is sent, or on what is read."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from app.domain.faults import DEFAULT_STATUS, FaultKind

RELOAD_S = 1.0
RETRY_AFTER = "1"
"""The header Retry-After of an injected throttle, in seconds."""


@dataclass(frozen=True)
class Fault:
    """One rule: what happens at a site to a request with this probability until it expires."""

    site: str
    kind: FaultKind
    probability: float
    latency_ms: float
    expires_at: datetime
    status: int = DEFAULT_STATUS
    """What a throttled request is answered: 429 or 503."""


class Faults:
    """The rules in force in this process, loaded anew at most once a second by whoever knows where they stand."""

    def __init__(self) -> None:
        self._load: Callable[[], Iterable[Fault]] | None = None
        self._rules: tuple[Fault, ...] = ()
        self._loaded = 0.0
        self._lock = threading.Lock()

    def load_from(self, load: Callable[[], Iterable[Fault]] | None) -> None:
        """From now on rules come from `load`; None: there are none."""
        self._load, self._rules, self._loaded = load, (), 0.0

    def of(self, site: str) -> list[Fault]:
        """The rules in force for a site."""
        if self._load is None:
            return []
        with self._lock:
            if time.monotonic() - self._loaded >= RELOAD_S:
                self._rules, self._loaded = tuple(self._load()), time.monotonic()
        now = datetime.now(UTC)
        return [rule for rule in self._rules if rule.site == site and rule.expires_at > now]

    def strike(self, site: str) -> Fault | None:
        """Which fault meets the request that is about to be sent, if any; latency has passed when this returns."""
        met: Fault | None = None
        for rule in self.of(site):
            if random.random() >= rule.probability:  # noqa: S311  # chance, not a secret
                continue
            if rule.kind is FaultKind.LATENCY:
                time.sleep(rule.latency_ms / 1000)
            elif met is None or met.kind is FaultKind.CORRUPT:
                met = rule
        return met


FAULTS = Faults()
