"""Packs fitted scikit-learn estimators of users' models into the forms that ml.serving_models scores (step: learn)."""

from __future__ import annotations

from typing import Any

import numpy as np

from ml.packing import Tree, flatten
from ml.serving import Floats, Trees
from ml.serving_models import Centers, Forest, Isolation, Straight


def pack_forest(model: Any, classes: int = 0) -> Forest:
    """A fitted RandomForestRegressor; with `classes` a RandomForestClassifier of the numbers below it.

    A class that it has not seen has no share.
    """
    values = []
    for estimator in model.estimators_:
        value = estimator.tree_.value[:, 0, :]
        if classes:
            shares = np.zeros((len(value), classes))
            shares[:, model.classes_.astype(int)] = value / value.sum(axis=1, keepdims=True)
            value = shares
        values.append(value)
    return Forest(_trees(model, values))


def pack_isolation(model: Any) -> Isolation:
    """A fitted IsolationForest: each leaf's value is the length of its path and of what is left to isolate in it."""
    values = []
    for estimator in model.estimators_:
        tree = estimator.tree_
        values.append((_depths(tree) + _average_path(tree.n_node_samples))[:, None])
    norm = len(model.estimators_) * float(_average_path(np.array([model.max_samples_]))[0])
    return Isolation(_trees(model, values, model.estimators_features_), norm, float(model.offset_))


def pack_linear(model: Any) -> Straight:
    """A fitted LinearRegression of one number."""
    return Straight(np.asarray(model.coef_, float).ravel(), float(np.ravel(model.intercept_)[0]))


def pack_kmeans(model: Any) -> Centers:
    """A fitted KMeans."""
    return Centers(np.asarray(model.cluster_centers_, float))


def _trees(model: Any, values: list[Floats], columns: Any = None) -> Trees:
    """columns: of each tree, where trees read some of the features only."""
    trees = []
    for number, estimator in enumerate(model.estimators_):
        tree = estimator.tree_
        feature = tree.feature
        if columns is not None:
            feature = np.asarray(columns[number])[np.maximum(feature, 0)]
        trees.append(Tree(tree.children_left, tree.children_right, feature, tree.threshold, values[number]))
    return flatten(trees, range(model.n_features_in_), 0.0)


def _depths(tree: Any) -> Floats:
    """Of each node the steps from the root."""
    depth = np.zeros(tree.node_count)
    for node in range(tree.node_count):  # children stand after their parents
        if tree.children_left[node] >= 0:
            depth[tree.children_left[node]] = depth[tree.children_right[node]] = depth[node] + 1
    return depth


def _average_path(samples: Any) -> Floats:
    """Of so many samples the mean path to one in a tree that isolates them: that of a search that finds nothing."""
    n = np.asarray(samples, float)
    many = np.maximum(n, 3.0)
    path = 2.0 * (np.log(many - 1.0) + np.euler_gamma) - 2.0 * (many - 1.0) / many
    return np.where(n <= 1, 0.0, np.where(n == 2, 1.0, path))
