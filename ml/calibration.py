"""Turns scores into probabilities with a band, fitted on rows that the model did not learn from (step: learn).

Centred isotonic regression: equal-mass bins are pooled until their rates rise, and the curve runs straight between
the pools' centres, so that, unlike a staircase, it keeps the order of the scores.
"""

from __future__ import annotations

import numpy as np

from ml.evaluation import Bools
from ml.history import Floats
from ml.serving import Calibration

Bin = tuple[float, float, float]
"""Sum of the scores, hits, and rows or their weight."""
MOST_BINS = 20
POSITIVES_A_BIN = 10
Z = 1.645  # two-sided 90 %


def fit(raw: Floats, y: Bools) -> Calibration:
    """The calibration of raw scores in [0, 1]; with one class alone it is flat at the pool's rate, band included."""
    bins = int(np.clip(min(y.sum(), (~y).sum()) // POSITIVES_A_BIN, 1, MOST_BINS))
    order = np.argsort(raw, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    pools = pooled([(float(raw[part].sum()), float(y[part].sum()), len(part)) for part in parts])
    n = np.array([count for _, _, count in pools], float)
    x = np.array([total for total, _, _ in pools]) / n
    rate = np.array([hits for _, hits, _ in pools]) / n
    low, high = wilson(rate, n)
    # Beyond the outer centres there is no pool: the curve runs to the outer pools' own bounds at 0 and 1.
    return Calibration(
        x=np.concatenate(([0.0], x, [1.0])),
        p=np.concatenate(([low[0]], rate, [high[-1]])),
        low=np.concatenate(([0.0], np.maximum.accumulate(low), [low[-1]])),
        high=np.concatenate(([high[0]], np.minimum.accumulate(high[::-1])[::-1], [1.0])),
    )


def pooled(bins: list[Bin]) -> list[Bin]:
    """Pool adjacent violators: neighbours are merged until the rates rise strictly and so do the centres."""
    pools: list[Bin] = []
    for pool in bins:
        pools.append(pool)
        while len(pools) > 1 and not _rises(pools[-2], pools[-1]):
            (a, hits_a, n_a), (b, hits_b, n_b) = pools[-2:]
            pools[-2:] = [(a + b, hits_a + hits_b, n_a + n_b)]
    return pools


def _rises(left: Bin, right: Bin) -> bool:
    return right[1] / right[2] > left[1] / left[2] and right[0] / right[2] > left[0] / left[2]


def wilson(rate: Floats, n: Floats) -> tuple[Floats, Floats]:
    """Wilson's score interval of a rate seen in n rows (Wilson 1927)."""
    centre = (rate + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * np.sqrt(rate * (1 - rate) / n + Z**2 / (4 * n**2))
    return np.clip(centre - half, 0, 1), np.clip(centre + half, 0, 1)
