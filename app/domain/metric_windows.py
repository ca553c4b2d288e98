"""Says what a window of a metric's samples comes to, with its bounds (step: metrics)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from app.domain.metric_moments import Ints, Moments
from app.domain.metric_sketches import Spread
from app.domain.metrics import MICROSECONDS, PERCENTILES, RATE_WINDOW_S, WIDTH


@dataclass(frozen=True)
class Window:
    """Which buckets count, by their starts in microseconds since 1970: whole ones, none older than was asked for."""

    now: int
    since: int
    rate_since: int

    @classmethod
    def ending(cls, now: int, window_s: float) -> Window:
        """The window of so many seconds that ends now, and that of the rate."""
        return cls(now, _first(now, window_s), _first(now, RATE_WINDOW_S))

    @property
    def first(self) -> int:
        """The start of the oldest bucket that is read."""
        return min(self.since, self.rate_since)


def _first(now: int, window_s: float) -> int:
    """The oldest bucket that begins within the window; the present one where the window is shorter than a bucket."""
    oldest = -(-(now - round(window_s * MICROSECONDS)) // WIDTH) * WIDTH
    return min(oldest, now // WIDTH * WIDTH)


@dataclass(frozen=True)
class Found:
    """What a window holds, by row: moments, samples of the rate's window and, if they were asked for, the spreads."""

    window: Window
    moments: Moments
    recent: Ints
    spreads: list[Spread] | None


def told(found: Found, row: int) -> dict[str, Any]:
    """The statistics of one row; null where nothing is counted. Variance is that of all values, not of a sample.

    `error_bound.rank`: a percentile's rank lies no further from the one asked for; beside it, for each percentile, the
    two values between which the exact one lies. 0 and equal values: exact.
    """
    of = found.moments
    count = int(of.count[row])
    variance = float(of.variance[row]) if count else None
    statistics = {
        "count": count,
        "sum": float(of.sum[row]),
        "mean": float(of.mean[row]) if count else None,
        "min": float(of.low[row]) if count else None,
        "max": float(of.high[row]) if count else None,
        "variance": variance,
        "stddev": variance**0.5 if variance is not None else None,
    }
    if found.spreads is not None:
        statistics |= _percentiles(found.spreads[row], count)
    seconds = max(found.window.now - found.window.rate_since, 1) / MICROSECONDS
    return statistics | {"rate": int(found.recent[row]) / seconds}


def _percentiles(spread: Spread, count: int) -> dict[str, Any]:
    if not count:
        return dict.fromkeys(PERCENTILES) | {"error_bound": {"rank": 0.0}}
    quantiles = dict(zip(PERCENTILES, spread.quantiles(list(PERCENTILES.values())), strict=True))
    values = {name: quantile.value for name, quantile in quantiles.items()}
    between = {name: [quantile.low, quantile.high] for name, quantile in quantiles.items()}
    return values | {"error_bound": {"rank": spread.rank_error, **between}}
