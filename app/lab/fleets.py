"""Makes up fleets with known habits, day by day, to try policies on what no recorded trace holds (seeded)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from app.lab.days import Days
from ml.history import Floats, Ints
from ml.tiering_grid import prepare

Habit = Callable[[np.random.Generator, Floats, Floats], Floats]
"""(chance, day [T, 1], age [T, n]) → reads a day expected [T, n]."""


def _decaying(chance: np.random.Generator, _: Floats, age: Floats) -> Floats:
    n = age.shape[1]
    first = np.exp(chance.normal(0, 1, n)) * 2 * np.exp(-age / np.exp(chance.normal(2.5, 0.8, n)))
    return np.asarray(first + np.exp(chance.normal(-6, 1.5, n)))


def _wandering(chance: np.random.Generator, _: Floats, age: Floats) -> Floats:
    walk = np.cumsum(chance.normal(0, 0.06, age.shape), axis=0)
    return np.asarray(np.minimum(np.exp(chance.normal(-3.5, 1.5, age.shape[1]) + walk), 20))


def _long_tail(_: np.random.Generator, __: Floats, age: Floats) -> Floats:
    return np.asarray(15 / np.arange(1, age.shape[1] + 1) ** 1.1 * np.ones_like(age))


def _mixed(chance: np.random.Generator, day: Floats, age: Floats) -> Floats:
    n = age.shape[1]
    kind, half = chance.integers(0, 3, n), chance.integers(20, 90, n)
    steady = np.exp(chance.normal(-2, 1, n)) * np.ones_like(age)
    on_and_off = np.where((day // half) % 2 == 0, 0.5, 0.001)
    return np.asarray(np.where(kind == 0, 2 * np.exp(-age / 15) + 0.002, np.where(kind == 1, steady, on_and_off)))


def _turning(chance: np.random.Generator, day: Floats, age: Floats) -> Floats:
    n = age.shape[1]
    busy = (chance.random(n) < 0.4) & (day >= len(day) // 2)
    return np.asarray(np.where(busy, np.exp(chance.normal(-0.5, 0.7, n)), np.exp(chance.normal(-5, 1, n))))


def _busy(chance: np.random.Generator, _: Floats, age: Floats) -> Floats:
    return np.asarray(np.exp(chance.normal(0, 0.5, age.shape[1])) * np.ones_like(age))


def _seasonal(chance: np.random.Generator, day: Floats, age: Floats) -> Floats:
    return np.asarray(np.exp(-3 + 2.5 * np.sin(2 * np.pi * (day / 180 + chance.random(age.shape[1])))))


HABITS: dict[str, Habit] = {
    "archive": _decaying, "ratings": _wandering, "long_tail": _long_tail, "mixed": _mixed, "shift": _turning,
    "busy": _busy, "seasonal": _seasonal,
}  # fmt: skip
"""Read much at first, then hardly; popularity that wanders; a few for all; three habits; 40 % turn busy in the middle;
always read; a wave of half a year."""


def fleet(habit: str, seed: int, objects: int = 400, days: int = 700, share: float = 1.0) -> Days:
    """A fleet of a habit. share: of an object that each read reads."""
    chance = np.random.default_rng(seed)
    size: Ints = np.exp(chance.normal(17, 2, objects)).astype(np.int64) + 1
    birth: Ints = chance.integers(0, int(days * 0.6), objects)
    birth[: objects // 3] = 0
    day = np.arange(days, dtype=float)[:, None]
    rate = HABITS[habit](chance, day, np.maximum(day - birth, 0.0))
    reads = np.ascontiguousarray((chance.poisson(rate) * (day >= birth)).T, float)  # the layout that traces have
    reads[np.arange(objects), birth] = np.maximum(reads[np.arange(objects), birth], 1)
    return Days.made(prepare(reads, reads * share, np.zeros(reads.shape, np.int8), birth), size)
