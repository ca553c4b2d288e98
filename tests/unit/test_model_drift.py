"""Drift is seen where there is some and not by chance; comparisons and importances tell who is better and by what."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ml import drift, importances, judging
from ml.evaluation import Outcome, evaluate
from ml.features import NAMES
from ml.serving import Calibration, Linear, Packed

WATCHED = ("access_24h", "recency_s", "log_size")
IDENTITY = Calibration(*(np.array([0.0, 1.0]) for _ in range(4)))


def rows(n: int, seed: int, times: float = 1.0) -> np.ndarray:
    """Rows whose features are mostly zero, as counts are, and heavy-tailed."""
    rng = np.random.default_rng(seed)
    X = np.zeros((n, len(NAMES)), np.float32)
    X[:, NAMES.index("access_24h")] = rng.poisson(0.4 * times, n)
    X[:, NAMES.index("recency_s")] = rng.lognormal(10, 2, n)
    X[:, NAMES.index("log_size")] = rng.normal(10, 1, n)
    return X


@pytest.mark.parametrize("n", [60, 500, 20_000])
def test_one_distribution_has_not_drifted_however_few_rows(n: int):
    reference = drift.reference(rows(5_000, 1), np.arange(5_000), WATCHED)
    over = [
        row["feature"]
        for seed in range(40)
        for row in drift.compare(reference, rows(n, 100 + seed), np.arange(n), 0.25)
        if row["over"]
    ]
    assert len(over) <= 1, over  # of 120


def test_rows_of_few_objects_are_no_proof():
    reference = drift.reference(rows(5_000, 1), np.arange(5_000), WATCHED)
    one = np.repeat(rows(10, 3), 200, axis=0)
    found = {row["feature"]: row for row in drift.compare(reference, one, np.repeat(np.arange(10), 200), 0.25)}
    assert found["log_size"]["psi"] > 0.25
    assert not found["log_size"]["over"]
    assert (found["log_size"]["n"], found["log_size"]["objects"]) == (2_000, 10)


def test_chance_passes_as_seldom_where_rows_of_an_object_are_alike():
    over = 0
    for seed in range(600):
        then, now = (np.repeat(rows(80, 2 * seed + at), 28, axis=0) for at in (0, 1))
        owner = np.repeat(np.arange(80), 28)
        found = drift.compare(drift.reference(then, owner, WATCHED), now, owner, 0.0)
        over += sum(row["over"] for row in found)
    assert over <= 4, "of 1,800"


def test_a_feature_that_has_moved_is_named_first_and_alone():
    reference = drift.reference(rows(5_000, 1), np.arange(5_000), WATCHED)
    found = drift.compare(reference, rows(2_000, 2, times=8), np.arange(2_000), 0.25)
    assert [row["feature"] for row in found if row["over"]] == ["access_24h"]
    assert found[0]["feature"] == "access_24h"
    assert found[0]["ks"] > found[0]["ks_critical"]
    assert (found[0]["n"], found[0]["n_reference"]) == (2_000, 5_000)


def test_psi_and_ks_equal_their_definitions():
    then, now = (X.astype(float) for X in (rows(3_000, 1), rows(2_000, 2, times=2)))
    (row,) = drift.compare(drift.reference(then, np.arange(3_000), ("recency_s",)), now, np.arange(2_000), 0.25)
    place = NAMES.index("recency_s")
    edges = np.quantile(then[:, place], np.linspace(0, 1, 11)[1:-1], method="inverted_cdf")
    counts = [np.bincount(np.searchsorted(edges, X[:, place], "left"), minlength=10) for X in (then, now)]
    bins = [(count + 0.5) / (count.sum() + 5) for count in counts]
    assert row["psi"] == pytest.approx(np.sum((bins[1] - bins[0]) * np.log(bins[1] / bins[0])))
    curves = [(X[:, place][None, :] <= edges[:, None]).mean(axis=1) for X in (then, now)]
    assert row["ks"] == pytest.approx(np.abs(curves[1] - curves[0]).max(), abs=0.002)


def test_what_is_no_objects_own_is_not_watched():
    watched = drift.reference(rows(100, 1), np.arange(100), NAMES)["features"]
    assert set(watched) == set(NAMES) - drift.UNWATCHED


def test_no_rows_are_compared_without_an_error():
    assert (
        drift.compare(drift.reference(rows(100, 1), np.arange(100), WATCHED), rows(0, 1), np.arange(0), 0.25)[0]["n"]
        == 0
    )
    assert drift.calibration(Outcome(np.zeros(0, bool), np.zeros(0, np.int64)), np.zeros(0), 0) is None


def test_probabilities_that_come_true_do_not_ring_and_others_do():
    rng = np.random.default_rng(0)
    p = rng.uniform(0, 0.6, 4_000)
    owner = np.arange(4_000) // 8
    true = drift.calibration(Outcome(rng.random(4_000) < p, owner), p, 0)
    assert true is not None
    assert not true.is_over(0.05)
    low, high = true.interval
    assert low < true.happened - true.predicted < high
    wrong = drift.calibration(Outcome(rng.random(4_000) < p + 0.15, owner), p, 0)
    assert wrong is not None
    assert wrong.is_over(0.05)
    few = drift.calibration(Outcome(rng.random(8) < 0.5, np.zeros(8, np.int64)), np.full(8, 0.4), 0)
    assert few is not None
    assert few.n == 8


def test_comparisons_say_who_is_better_and_are_paired():
    rng = np.random.default_rng(1)
    p = rng.beta(0.5, 2, 6_000)
    outcome = Outcome(rng.random(6_000) < p, np.arange(6_000) // 4)
    noisy = np.clip(p + rng.normal(0, 0.2, 6_000), 0.001, 0.999)
    better, worse = judging.compare(outcome, p, noisy, 0), judging.compare(outcome, noisy, p, 0)
    for name in judging.MEASURES:
        assert better[name]["interval"][0] > 0 > worse[name]["interval"][1]
        assert better[name]["gain"] == pytest.approx(-worse[name]["gain"])
    whole = evaluate(outcome, p, p, 0)
    assert better["auc"]["value"] == pytest.approx(whole["auc"])
    assert better["log_loss"]["value"] == pytest.approx(whole["log_loss"])
    same = judging.compare(outcome, p, p, 0)
    assert all(same[name]["interval"] == [0, 0] for name in judging.MEASURES)


def test_importances_name_the_feature_that_decides():
    X = rows(2_000, 3, times=3)
    place = NAMES.index("access_24h")
    form = Linear(np.array([place], np.int32), np.zeros(1), np.ones(1), np.array([3.0]), -3.0)
    packed = Packed("linear", NAMES, form, IDENTITY)
    y = np.random.default_rng(0).random(2_000) < packed.raw(X)
    found = importances.permutation(packed, WATCHED, X, Outcome(y, np.arange(2_000)), 0)
    assert next(iter(found)) == "access_24h"
    assert found["access_24h"]["auc_lost"] > 0.1
    assert found["log_size"] == {"auc_lost": 0, "log_loss_added": 0}
    flipped = replace(packed, body=replace(form, weight=-form.weight))
    worse = importances.permutation(flipped, WATCHED, X, Outcome(y, np.arange(2_000)), 0)
    assert worse["access_24h"]["auc_lost"] < 0
    assert importances.permutation(packed, WATCHED, X, Outcome(np.ones(2_000, bool), np.arange(2_000)), 0) == {}
