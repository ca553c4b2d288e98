"""When failed work is tried again, and when it is given up: decided here, kept in the row."""

from __future__ import annotations

from dataclasses import dataclass

from app.domain.states import JobState
from app.errors import Cancelled, Deadlocked, ForetideError, Transient


@dataclass(frozen=True)
class RetryPolicy:
    """Full-jitter exponential back-off, in seconds (source: AWS Architecture Blog, Exponential Backoff And Jitter)."""

    base_s: float = 1.0
    cap_s: float = 300.0
    max_attempts: int = 5

    def delay_s(self, attempts: int, jitter: float, retry_after_s: float | None = None) -> float:
        """Seconds until the next attempt after `attempts` failed ones; jitter is uniform in [0, 1).

        The other side's Retry-After is a floor, since asking sooner would only be refused again.
        """
        ceiling = min(self.cap_s, self.base_s * 2.0 ** max(0, attempts - 1))
        return max(ceiling * jitter, retry_after_s or 0.0)


@dataclass(frozen=True)
class Verdict:
    """What becomes of a job whose task raised: its new state, why, and when it is tried again."""

    state: JobState
    reason: str
    delay_s: float = 0.0
    counts: bool = True
    """Whether this end counts as a failed attempt."""


def after_error(error: Exception, attempts: int, policy: RetryPolicy, jitter: float) -> Verdict:
    """The verdict on a job that raised `error` in its attempt number `attempts` + 1.

    Transient errors and errors that nobody classed are tried again up to the policy's limit; permanent ones are not.
    """
    if isinstance(error, Cancelled):
        return Verdict(JobState.CANCELLED, error.reason, counts=False)
    if isinstance(error, Deadlocked):  # no fault of the job
        return Verdict(JobState.WAITING, error.reason, policy.delay_s(1, jitter), counts=False)
    if isinstance(error, ForetideError) and not isinstance(error, Transient):
        return Verdict(JobState.FAILED, error.reason)
    reason = error.reason if isinstance(error, ForetideError) else "unexpected_error"
    failed = attempts + 1
    if failed >= policy.max_attempts:
        return Verdict(JobState.DEAD, reason)
    retry_after = error.retry_after_s if isinstance(error, Transient) else None
    return Verdict(JobState.WAITING, reason, policy.delay_s(failed, jitter, retry_after))


def ring_again_after_s(rings: int, first_s: float, cap_s: float) -> float:
    """Seconds to leave between ring number `rings` of a ready row and the next: first · 2^(rings − 1), capped."""
    return float(min(cap_s, first_s * 2.0 ** max(0, rings - 1)))
