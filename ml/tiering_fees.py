"""What a day in a class, leaving it and changing it cost an object: the arithmetic that every policy pays by.

Compiled; costs are float64 US dollars.
"""

from __future__ import annotations

import math

from numba import njit

from ml.tiering_types import Ladder


@njit(cache=True, fastmath=True, error_model="numpy")
def stay(ladder: Ladder, i: int, c: int, idle: float) -> float:
    """$ for keeping an object for a day; idle: days since the managed class last saw a read."""
    usd = ladder.day[c, i]
    if c == ladder.managed:
        for step in range(len(ladder.steps_after)):
            if idle >= ladder.steps_after[step]:
                usd = ladder.steps_day[step, i]
    return float(usd)


@njit(cache=True, fastmath=True, error_model="numpy")
def owed(ladder: Ladder, i: int, c: int, left: int) -> float:
    """$ for leaving a class with so many days of its minimum left."""
    return left * ladder.day[c, i] if left > 0 else 0.0


@njit(cache=True, fastmath=True, error_model="numpy")
def change(ladder: Ladder, i: int, a: int, b: int) -> float:
    """$ for a change of class, without early deletion."""
    return float(ladder.change[a, b] + ladder.full[a, i])


@njit(cache=True, fastmath=True, error_model="numpy")
def managed_days(ladder: Ladder, i: int, rate: float, idle: float, days: float) -> float:
    """$ expected for `days` in the managed class, read at a Poisson rate (pricing.idle_share, in one number)."""
    rate = max(rate, 1e-12)
    usd = days * ladder.day[ladder.managed, i]
    dearer = ladder.day[ladder.managed, i]
    for step in range(len(ladder.steps_after)):
        after = ladder.steps_after[step]
        start, end = max(0.0, after - idle), min(after, days)
        span = max(0.0, math.exp(-rate * start) - math.exp(-rate * end)) / rate
        span += max(0.0, days - after) * math.exp(-rate * after)
        usd -= (dearer - ladder.steps_day[step, i]) * span
        dearer = ladder.steps_day[step, i]
    return float(usd)
