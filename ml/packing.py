"""Packs fitted scikit-learn estimators into the flat forms that ml.serving scores (step: learn)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ml.serving import Floats, Linear, Trees


@dataclass(frozen=True)
class Tree:
    """One tree as the library holds it: children by index, left < 0 in leaves, features by model column."""

    left: npt.NDArray[np.int64]
    right: npt.NDArray[np.int64]
    feature: npt.NDArray[np.int64]
    threshold: Floats
    value: Floats


def pack_forest(model: Any, columns: Sequence[int]) -> Trees:
    """A fitted RandomForestClassifier of classes (False, True) that read these columns of the feature matrix."""
    trees = []
    for estimator in model.estimators_:
        tree = estimator.tree_
        value = tree.value[:, 0, :]
        p = value[:, 1] / value.sum(axis=1)
        trees.append(Tree(tree.children_left, tree.children_right, tree.feature, tree.threshold, p))
    return flatten(trees, columns, 0.0)


def pack_boosted(model: Any, columns: Sequence[int]) -> Trees:
    """A fitted HistGradientBoosting estimator of one output, without categories, that read these columns."""
    trees = []
    for stage in model._predictors:
        nodes = stage[0].nodes
        leaf = nodes["is_leaf"].astype(bool)
        left = np.where(leaf, -1, nodes["left"].astype(np.int64))
        right = nodes["right"].astype(np.int64)
        trees.append(Tree(left, right, nodes["feature_idx"].astype(np.int64), nodes["num_threshold"], nodes["value"]))
    return flatten(trees, columns, float(model._baseline_prediction.ravel()[0]))


def pack_logistic(scaler: Any, model: Any, columns: Sequence[int]) -> Linear:
    """A fitted StandardScaler and binary LogisticRegression over ln(1 + these columns)."""
    return Linear(
        np.array(columns, np.int32),
        scaler.mean_,
        scaler.scale_,
        model.coef_[0].astype(float),
        float(model.intercept_[0]),
    )


def one_column(column: int, sign: float) -> Linear:
    """The form of a baseline that ranks by one feature: its logarithm, rising (sign 1) or falling (−1)."""
    return Linear(np.array([column], np.int32), np.zeros(1), np.ones(1), np.array([sign]), 0.0)


def flatten(trees: Sequence[Tree], columns: Sequence[int], base: float) -> Trees:
    """The trees' nodes in one array, each tree breadth first. columns: of the matrix, by the trees' own numbers."""
    parts, depths, roots, size = [], [], [], 0
    for tree in trees:
        order, depth = _breadth_first(tree)
        place = np.empty(len(tree.left), np.int64)
        place[order] = np.arange(len(order)) + size
        leaf = tree.left[order] < 0
        left = np.where(leaf, place[order], place[tree.left[order]])
        feature = np.where(leaf, 0, np.asarray(columns)[np.maximum(tree.feature[order], 0)])
        threshold = np.where(leaf, np.float32(np.inf), _round_down(tree.threshold[order]))
        parts.append((feature, threshold, left, tree.value[order]))
        roots.append(size)
        depths.append(depth)
        size += len(order)
    feature, threshold, left, value = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Trees(
        feature.astype(np.int32),
        threshold.astype(np.float32),
        left.astype(np.int32),
        value.astype(float),
        np.array(roots, np.int32),
        max(depths),
        base,
    )


def _breadth_first(tree: Tree) -> tuple[npt.NDArray[np.int64], int]:
    """Node indexes level by level with siblings side by side, and the depth of the deepest leaf."""
    levels = [np.zeros(1, np.int64)]
    while True:
        inner = levels[-1][tree.left[levels[-1]] >= 0]
        if not len(inner):
            return np.concatenate(levels), len(levels) - 1
        levels.append(np.column_stack((tree.left[inner], tree.right[inner])).ravel())


def _round_down(threshold: Floats) -> npt.NDArray[np.float32]:
    """The greatest float32 that is not above: the same float32 values stay at or below it."""
    near = threshold.astype(np.float32)
    return np.where(near.astype(float) > threshold, np.nextafter(near, np.float32(-np.inf)), near)
