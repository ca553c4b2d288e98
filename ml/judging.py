"""Compares two models on the same later rows: the gain of one over the other with its interval (step: learn).

Rows of one object are dependent, so the paired bootstrap resamples objects. All randomness comes from `seed`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ml.evaluation import LEVEL, RESAMPLES, Outcome, Ranking, surprise
from ml.history import Floats

MEASURES = ("auc", "pr_auc", "log_loss")
Comparison = dict[str, Any]


def compare(outcome: Outcome, p: Floats, beside: Floats, seed: int) -> Comparison:
    """Of each measure the gain of probabilities p over `beside`, positive where p is better, and its 90 % interval.

    The outcome must hold both classes.
    """
    objects, row_object = np.unique(outcome.object, return_inverse=True)
    sides = [_Side(outcome, scores) for scores in (p, beside)]
    whole = [side.measures(np.ones(len(outcome.y))) for side in sides]
    rng = np.random.default_rng(seed)
    draws = []
    for _ in range(RESAMPLES):
        weight = rng.multinomial(len(objects), np.full(len(objects), 1 / len(objects))).astype(float)[row_object]
        mine, other = (side.measures(weight) for side in sides)
        draws.append(mine - other)
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.nanpercentile(np.array(draws), [tail, 100 - tail], axis=0)
    found: Comparison = {"n": len(outcome.y), "positives": int(outcome.y.sum()), "objects": len(objects)}
    for place, name in enumerate(MEASURES):
        sign = -1.0 if name == "log_loss" else 1.0  # the measures below are the higher the better
        found[name] = {
            "value": float(sign * whole[0][place]),
            "beside": float(sign * whole[1][place]),
            "gain": float(whole[0][place] - whole[1][place]),
            "interval": [float(low[place]), float(high[place])],
        }
    return found


class _Side:
    """One model's measures under any weights of the rows."""

    def __init__(self, outcome: Outcome, p: Floats) -> None:
        self.ranking = Ranking(outcome.y, p)
        self.log_score = -surprise(outcome.y, p)

    def measures(self, weight: Floats) -> Floats:
        """In the order of MEASURES, each the higher the better."""
        return np.array([*self.ranking.areas(weight), np.average(self.log_score, weights=weight)])
