"""How good expected counts and their quantiles are on later rows (step: learn)."""

from __future__ import annotations

from typing import Any

import numpy as np

from ml.demand_spread import QUANTILES
from ml.evaluation import LEVEL, RESAMPLES
from ml.history import Floats, Ints

LEAST = 1e-12
"""A loss of 0 is told as this, so that another stands in a proportion to it."""


def pinball(reads: Floats, quantiles: Floats) -> Floats:
    """Of each row the mean over QUANTILES of what its quantiles (rows × 3) miss by, weighed as quantiles demand."""
    over = reads[:, None] - quantiles
    level = np.array(QUANTILES)
    return np.asarray(np.maximum(level * over, (level - 1) * over).mean(axis=1))


def deviance(reads: Floats, mean: Floats) -> float:
    """Mean Poisson deviance; means must be above 0."""
    logs = np.where(reads > 0, reads * np.log(np.maximum(reads, 1e-300) / mean), 0.0)
    return float(2 * np.mean(logs - reads + mean))


def coverage(u: Floats) -> float:
    """Share of transforms in [.1, .9]: of a true distribution 80 %."""
    return float(np.mean((u >= QUANTILES[0]) & (u <= QUANTILES[-1])))


def resampled(values: Floats, owner: Ints, seed: int) -> Floats:
    """Bootstrap means of values (rows × columns), drawn by object, (RESAMPLES × columns); paired between columns."""
    objects, row = np.unique(owner, return_inverse=True)
    sums = np.stack([np.bincount(row, column) for column in values.T], axis=1)
    counts = np.bincount(row).astype(float)
    draws = np.random.default_rng(seed).multinomial(len(objects), np.full(len(objects), 1 / len(objects)), RESAMPLES)
    return np.asarray(draws @ sums / (draws @ counts)[:, None])


def gain(lost: Floats, beside: Floats, owner: Ints, seed: int) -> dict[str, Any]:
    """How much smaller the mean loss is than that of what stands beside, as a share of it, with its paired interval."""
    both = np.stack((lost, beside), axis=1)
    mine, other = np.maximum(both.mean(axis=0), LEAST).tolist()
    draws = np.maximum(resampled(both, owner, seed), LEAST)
    told = {"value": mine, "beside": other, "gain": 1 - mine / other, "n": len(lost)}
    return {**told, "interval": interval(1 - draws[:, 0] / draws[:, 1])}


def interval(values: Floats) -> list[float]:
    """Where LEVEL of the values lie."""
    tail = 100 * (1 - LEVEL) / 2
    return [float(end) for end in np.percentile(values, [tail, 100 - tail])]
