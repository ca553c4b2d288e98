"""Which features a model goes by: what is lost when one is shuffled, and what its estimator says (step: learn)."""

from __future__ import annotations

from typing import Any

import numpy as np

from ml.evaluation import Outcome, Ranking, log_loss
from ml.features import NAMES
from ml.history import Floats
from ml.serving import Matrix, Packed

MOST_ROWS = 3000
"""Rows of the test part that are shuffled; more make the figures finer, not other."""
REPEATS = 2


def permutation(packed: Packed, names: tuple[str, ...], X: Matrix, outcome: Outcome, seed: int) -> dict[str, Any]:
    """By feature, the most important first: AUC and log loss lost when its values are dealt anew among the rows.

    Measured on rows that the model did not learn from. names: the features that it reads.
    """
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(X))[:MOST_ROWS]
    X, y = X[rows], outcome.y[rows]
    if y.all() or not y.any():
        return {}
    auc, log_loss = _measures(y, packed.score(X).p_hot)
    found = {}
    for name in names:
        lost = np.zeros(2)
        for _ in range(REPEATS):
            shuffled = X.copy()
            column = NAMES.index(name)
            shuffled[:, column] = rng.permutation(shuffled[:, column])
            worse = _measures(y, packed.score(shuffled).p_hot)
            lost += np.array([auc - worse[0], worse[1] - log_loss]) / REPEATS
        found[name] = {"auc_lost": float(lost[0]), "log_loss_added": float(lost[1])}
    return dict(sorted(found.items(), key=lambda item: -item[1]["auc_lost"]))


def built_in(estimator: Any, names: tuple[str, ...]) -> dict[str, float]:
    """What the estimator itself says, as shares of 1: impurity of forests, size of linear weights; else empty."""
    last = estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator
    if hasattr(last, "feature_importances_"):
        said = last.feature_importances_
    elif hasattr(last, "coef_"):
        said = np.abs(last.coef_[0])  # of standardized inputs, so that sizes can be compared
    else:
        return {}
    total = float(said.sum()) or 1.0
    return {name: float(value) / total for name, value in sorted(zip(names, said, strict=True), key=lambda i: -i[1])}


def _measures(y: Any, p: Floats) -> tuple[float, float]:
    return Ranking(y, p).areas()[0], log_loss(y, p)
