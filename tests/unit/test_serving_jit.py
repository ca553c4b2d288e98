"""Compiled loops give the sums of ml.serving: shallow and deep trees, one row, blocks with a rest, threads, classes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier, RandomForestRegressor

from ml.packing import Tree, flatten, one_column, pack_boosted, pack_forest
from ml.serving import Blend, Calibration, Packed, Trees
from ml.serving_jit import BLOCK_BYTES, Compiled
from workers import scoring

COLUMNS = [4, 0, 2]
BLOCK = BLOCK_BYTES // (4 * 5)


def grown(trees: int, **growth: object) -> tuple[Trees, RandomForestClassifier]:
    rng = np.random.default_rng(trees)
    X = np.round(rng.gamma(1.0, 100.0, (2000, 5))).astype(np.float32)  # ties with thresholds
    y = X[:, 4] + rng.normal(0, 50, 2000) > X[:, 2]
    model = RandomForestClassifier(trees, random_state=0, **growth).fit(X[:, COLUMNS], y)
    return pack_forest(model, COLUMNS), model


def sample(rows: int) -> np.ndarray:
    return np.round(np.random.default_rng(rows).gamma(1.0, 100.0, (rows, 5))).astype(np.float32)


@pytest.mark.parametrize(
    ("trees", "growth"), [(1, {"max_depth": 1}), (7, {"max_depth": 6}), (8, {}), (30, {"max_depth": 12}), (13, {})]
)
@pytest.mark.parametrize("rows", [1, 7, 8, 2051, BLOCK + 3])
def test_sums_equal_sklearns(trees: int, growth: dict[str, object], rows: int):
    packed, model = grown(trees, **growth)
    X, compiled = sample(rows), Compiled(packed)
    wanted = model.predict_proba(X[:, COLUMNS])[:, 1]
    for threads in (1, 2):
        assert np.abs(compiled.sums(X, threads)[:, 0] / trees - wanted).max() < 1e-6


def test_a_forest_of_stumps_that_never_split_and_no_row():
    packed, _ = grown(3, min_samples_leaf=2000)
    compiled = Compiled(packed)
    assert compiled.depths.tolist() == [0, 0, 0]
    assert np.allclose(compiled.sums(sample(9)), compiled.sums(sample(1)))
    assert compiled.sums(sample(9)[:0]).shape == (0, 1)


def test_leaves_may_hold_several_values():
    packed, model = grown(11, max_depth=9)
    both = Compiled(replace(packed, value=np.column_stack((1 - packed.value, packed.value))))
    X = sample(2009)
    assert np.abs(both.sums(X) / 11 - model.predict_proba(X[:, COLUMNS])).max() < 1e-6


def test_sides_are_those_of_not_a_number_and_infinity_in_numpy():
    packed, _ = grown(20)
    X = sample(40)
    X[::2, 4], X[::3, 0], X[1::4, 2] = np.nan, np.inf, -np.inf
    node = np.broadcast_to(packed.roots, (40, 20))
    for _ in range(packed.depth):
        seen = np.take_along_axis(X, packed.feature[node], axis=1)
        node = packed.left[node] + (seen > packed.threshold[node])
    assert np.allclose(Compiled(packed).sums(X)[:, 0], packed.value[node].sum(axis=1), atol=1e-9)


def test_rows_with_too_few_columns_are_refused():
    with pytest.raises(ValueError, match="5 columns"):
        Compiled(grown(2)[0]).sums(sample(9)[:, :4])


def test_regression_of_large_numbers_is_exact():
    X = sample(500)
    model = RandomForestRegressor(10, random_state=0).fit(X[:, COLUMNS], X[:, 4].astype(float) * 1e9)
    values = np.concatenate([tree.tree_.value[:, 0, 0] for tree in model.estimators_])
    packed = _packed_regression(model)
    assert len(values) == len(packed.value)
    assert np.allclose(Compiled(packed).sums(X)[:, 0] / 10, model.predict(X[:, COLUMNS]), rtol=1e-12)


def _packed_regression(model: RandomForestRegressor) -> Trees:

    trees = [each.tree_ for each in model.estimators_]
    parts = [Tree(t.children_left, t.children_right, t.feature, t.threshold, t.value[:, 0, 0]) for t in trees]
    return flatten(parts, COLUMNS, 0.0)


def test_every_kind_of_model_scores_alike_by_both():
    rng = np.random.default_rng(5)
    X = sample(12_000)
    y = X[:2000, 4] + rng.normal(0, 50, 2000) > X[:2000, 2]
    curve = Calibration(*(np.array([0.0, 1.0]) for _ in range(4)))
    names = tuple("abcde")
    forest, _ = grown(20, max_depth=12)
    boosted = HistGradientBoostingClassifier(max_iter=20, random_state=0).fit(X[:2000, COLUMNS], y)
    parts = (
        Packed("forest", names, forest, curve),
        Packed("boosted", names, pack_boosted(boosted, COLUMNS), curve),
        Packed("linear", names, one_column(2, 1.0), curve),
    )
    for packed in (*parts, Packed("blend", names, Blend(parts), curve)):
        plain, compiled = packed.score(X), scoring.score(packed, X)
        assert all(np.abs(getattr(plain, name) - getattr(compiled, name)).max() < 1e-6 for name in vars(plain))
        assert np.abs(packed.raw(X) - scoring.raw(packed, X)).max() < 1e-6
