"""The source document's forest: what a site will take, from load and the velocity of its latency (step: watch)."""

from __future__ import annotations

import numpy as np

from ml.history import Floats
from ml.latency import NAMES
from ml.packing import Tree, flatten
from ml.serving import Trees

READ = ("rate_10s", "mean_10s", "velocity")
TREES, DEPTH = 100, 10


def fit(X: Floats, y: Floats, seed: int) -> Trees:
    """A random forest of the latency to come, in ms. X, y: rows of ml.latency, whose label is growth."""
    from sklearn.ensemble import RandomForestRegressor

    columns = [NAMES.index(name) for name in READ]
    expected = np.minimum(5000.0, np.exp(X[:, NAMES.index("mean_30s")] + y))
    forest = RandomForestRegressor(TREES, max_depth=DEPTH, min_samples_leaf=5, n_jobs=1, random_state=seed)
    forest.fit(X[:, columns].astype(np.float32), expected)
    trees = []
    for estimator in forest.estimators_:
        tree = estimator.tree_
        value = tree.value[:, 0, 0] / TREES
        trees.append(Tree(tree.children_left, tree.children_right, tree.feature, tree.threshold, value))
    return flatten(trees, columns, 0.0)
