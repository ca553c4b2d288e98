"""What one reader knows of one endpoint, sample by sample, in constant memory (step: route).

The same state serves the API, the SDK and the simulator. Times are seconds of any one clock, latencies milliseconds.
"""

from __future__ import annotations

from math import exp

SLOW_ERROR_MS = 1000.0
"""An error counts as a latency of at least this."""
PEAK_TAU_S = 10.0
EWMA_TAU_S = 5.0
BASE_TAU_S = 60.0
SILENCE_S = 5.0
"""After so long without an answer the peak falls toward the slow base: what was learned grows old."""
BUCKETS = 10
"""One-second buckets that the breaker looks at."""
KEPT = 64
"""Newest latencies of which percentiles are taken."""
START_MS = 100.0
"""What a site that nobody has asked yet is expected to take."""


class EndpointState:
    """Requests in flight to a site, its peak and average latency, its last ten seconds and errors in a row."""

    __slots__ = (
        "_bad",
        "_cursor",
        "_kept",
        "_number",
        "_second",
        "_sorted_at",
        "_sum",
        "answered",
        "base_ms",
        "errors_in_row",
        "ewma_ms",
        "in_flight",
        "last_at",
        "p75_ms",
        "p95_ms",
        "peak_ms",
    )  # fmt: skip

    def __init__(self) -> None:
        self.in_flight = 0
        self.answered = 0
        self.peak_ms = self.ewma_ms = self.base_ms = START_MS
        self.p75_ms = self.p95_ms = START_MS
        self.errors_in_row = 0
        self.last_at = float("-inf")
        self._number, self._sum, self._bad = [0] * BUCKETS, [0.0] * BUCKETS, [0] * BUCKETS
        self._second = -(10**9)
        self._kept: list[float] = []
        self._cursor = 0
        self._sorted_at = 0

    def sent(self) -> None:
        """Counts a request that leaves."""
        self.in_flight += 1

    def learned(self, now: float, latency_ms: float, *, ok: bool, was_sent: bool = True) -> None:
        """Takes in an answer, or an error and how long it took. was_sent: `sent` was called for it."""
        if was_sent and self.in_flight:
            self.in_flight -= 1
        value = latency_ms if ok else max(latency_ms, SLOW_ERROR_MS)
        if not self.answered:
            self.peak_ms = self.ewma_ms = self.base_ms = value
        else:
            passed = max(0.0, now - self.last_at)
            peak = self.peak_at(now)
            self.peak_ms = value if value > peak else value + (peak - value) * exp(-passed / PEAK_TAU_S)
            self.ewma_ms += (value - self.ewma_ms) * max(0.05, 1.0 - exp(-passed / EWMA_TAU_S))
            self.base_ms += (value - self.base_ms) * max(0.005, 1.0 - exp(-passed / BASE_TAU_S))
        self.answered += 1
        self.last_at = now
        self.errors_in_row = 0 if ok else self.errors_in_row + 1
        self._count(now, value, ok=ok)
        self._keep(value)

    def peak_at(self, now: float) -> float:
        """The peak, fallen toward the base since the site fell silent."""
        silent = now - self.last_at - SILENCE_S
        if silent <= 0.0 or not self.answered:
            return self.peak_ms
        floor = min(self.base_ms, self.peak_ms)
        return floor + (self.peak_ms - floor) * exp(-silent / PEAK_TAU_S)

    def recent(self, now: float) -> tuple[int, float, int]:
        """Answers of the last ten seconds, their mean latency (0 without any), and how many were errors."""
        self._turn(int(now))
        number = sum(self._number)
        return number, sum(self._sum) / number if number else 0.0, sum(self._bad)

    def _count(self, now: float, value: float, *, ok: bool) -> None:
        second = int(now)
        self._turn(second)
        at = second % BUCKETS
        self._number[at] += 1
        self._sum[at] += value
        self._bad[at] += not ok

    def _turn(self, second: int) -> None:
        """Empties the buckets of seconds that have passed."""
        if second <= self._second:
            return
        for passed in range(max(self._second + 1, second - BUCKETS + 1), second + 1):
            at = passed % BUCKETS
            self._number[at], self._sum[at], self._bad[at] = 0, 0.0, 0
        self._second = second

    def _keep(self, value: float) -> None:
        """Percentiles are taken anew with each eighth answer: to sort each time would cost more than to route."""
        if len(self._kept) < KEPT:
            self._kept.append(value)
        else:
            self._kept[self._cursor] = value
            self._cursor = (self._cursor + 1) % KEPT
        if self.answered - self._sorted_at >= 8 or self.answered <= 8:
            ordered = sorted(self._kept)
            self.p75_ms = ordered[int(0.75 * (len(ordered) - 1))]
            self.p95_ms = ordered[int(0.95 * (len(ordered) - 1))]
            self._sorted_at = self.answered
