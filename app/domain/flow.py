"""The flow of requests to one site: token bucket, adaptive concurrency, breaker, retry budget; all by a given clock.

`now` is seconds of a monotonic clock. Nothing here waits: each part says how long the caller has to.
"""

from __future__ import annotations

from dataclasses import dataclass, field

BREAKER_FAILURES = 5
"""Failures in a row to reach a site after which nobody tries for a while."""
BREAKER_PAUSE_S = 5.0
RETRY_SHARE = 0.2
RETRY_PER_S = 10.0
"""The retry budget: a fifth of all requests and ten a second."""
RETRY_CAP = 100.0
BACK_OFF = 0.5
"""What is left of the concurrency when a site pushes back (source: AIMD, Chiu and Jain 1989)."""
BACK_OFF_EVERY_S = 1.0
"""At most one step back in this time, since the requests under way were all sent before the first answer."""


@dataclass
class TokenBucket:
    """So many units a second, and at most one second's worth (or one unit) at once; None: no limit."""

    rate: float | None
    level: float = 0.0
    """Units left; below 0 what was promised already."""
    filled_at: float | None = None

    def take(self, units: float, now: float) -> float:
        """Takes units; returns the seconds after which they may be used."""
        if self.rate is None:
            return 0.0
        most = max(1.0, self.rate)
        if self.filled_at is None:
            self.level, self.filled_at = most, now
        self.level = min(most, self.level + (now - self.filled_at) * self.rate)
        self.filled_at = now
        self.level -= units
        return max(0.0, -self.level / self.rate)

    def give_back(self, units: float) -> None:
        """Units that were taken and will not be used."""
        self.level += units


@dataclass
class AdaptiveLimit:
    """How many requests may be under way: one more a round while all goes well, half when the site pushes back."""

    most: int
    now_allowed: float = field(default=0.0)
    stepped_back_at: float = field(default=float("-inf"))

    def __post_init__(self) -> None:
        self.now_allowed = float(self.most)

    @property
    def allowed(self) -> int:
        """Requests at the same time."""
        return max(1, min(self.most, int(self.now_allowed)))

    def went_well(self) -> None:
        """A request was answered."""
        self.now_allowed = min(float(self.most), self.now_allowed + 1.0 / max(1.0, self.now_allowed))

    def pushed_back(self, now: float) -> None:
        """The site asked for less, or took too long."""
        if now - self.stepped_back_at >= BACK_OFF_EVERY_S:
            self.now_allowed = max(1.0, self.now_allowed * BACK_OFF)
            self.stepped_back_at = now


@dataclass
class SiteBreaker:
    """After several failures in a row nobody asks the site for a while; then one request tries."""

    failures: int = 0
    open_until: float = float("-inf")
    trying: bool = False

    def refuses(self, now: float) -> bool:
        """Whether a request must not be sent now; when the pause is over the first to ask is let through."""
        if self.failures < BREAKER_FAILURES:
            return False
        if now < self.open_until or self.trying:
            return True
        self.trying = True
        return False

    def reached(self) -> None:
        """The site answered, whatever it said."""
        self.failures, self.trying = 0, False

    def not_reached(self, now: float) -> None:
        """The site did not answer."""
        self.failures, self.trying = self.failures + 1, False
        self.open_until = now + BREAKER_PAUSE_S


@dataclass
class RetryBudget:
    """Lets a fifth of all requests and ten a second be retries, so that retries never are most of the load."""

    level: float = RETRY_CAP
    filled_at: float | None = None

    def requested(self) -> None:
        """A request was sent."""
        self.level = min(RETRY_CAP, self.level + RETRY_SHARE)

    def take(self, now: float) -> bool:
        """Whether one more retry may be made now."""
        since = 0.0 if self.filled_at is None else now - self.filled_at
        self.level, self.filled_at = min(RETRY_CAP, self.level + since * RETRY_PER_S), now
        if self.level < 1:
            return False
        self.level -= 1
        return True

    def give_back(self) -> None:
        """A retry that was taken is not made."""
        self.level = min(RETRY_CAP, self.level + 1)
