"""The tier model: split by time, judged on later rows beside its baselines, and never served when it loses."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from app.errors import NotEnoughData
from app.lab.synthetic import generate
from ml import calibration, dataset, demand, evaluation, tiers
from ml.dataset import Dataset, Limits, Part
from ml.history import DAY, HOUR, SECOND, Catalogue, History
from ml.serving import Blend, Packed, expit, logit
from ml.tiers import Trained

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def rows() -> Dataset:
    trace = generate(NOW, seed=5, objects=120)
    limits = Limits(train=1500, calibrate=1500, test=1500)
    return dataset.build(trace.history(), trace.catalogue(), trace.end, 0, limits)


@pytest.fixture(scope="module")
def trained(rows: Dataset) -> Trained:
    return tiers.train(rows, seed=0)


def test_parts_follow_each_other_in_time_and_labels_do_not_reach_over(rows: Dataset):
    trace = generate(NOW, seed=5, objects=120)
    bounds = dataset._bounds(trace.history().begin, trace.end)
    assert bounds[Part.TRAIN][1] == bounds[Part.CALIBRATE][0] < bounds[Part.CALIBRATE][1] == bounds[Part.TEST][0]
    assert rows.horizon == DAY
    assert {part: len(part_rows.y) for part, part_rows in rows.parts.items()}[Part.TRAIN] == 1500


def test_the_horizon_follows_span_and_grain():
    def made(ts: list[int]) -> History:
        n = len(ts)
        one = np.ones(n, np.int64)
        return History.of(one * 0, np.array(ts), one, one * 0, one, one * 0, 1)

    assert dataset.horizon_of(made([5 * HOUR + 1, 2 * DAY]), 3 * DAY) == HOUR
    assert dataset.horizon_of(made([5 * HOUR + 1, 20 * DAY]), 20 * DAY) == DAY
    assert dataset.horizon_of(made([DAY, 2 * DAY]), 2 * DAY) == DAY


def test_the_model_that_serves_is_at_or_above_every_baseline(trained: Trained):
    assert set(trained.baselines) == {
        "recency", "lifetime_count", "logit_four", "forest_six", "hist_gradient_boosting",
    }  # fmt: skip
    assert trained.serving.algorithm in trained.candidates
    for baseline in trained.baselines.values():
        assert trained.metrics["auc"] >= baseline["auc"]
        assert trained.metrics["pr_auc"] >= baseline["pr_auc"]
    low, high = trained.metrics["auc_interval"]
    assert low <= trained.metrics["auc"] <= high


def test_a_candidate_that_loses_does_not_serve(rows: Dataset):
    noise = np.random.default_rng(0)
    parts = {part: replace(part_rows, X=part_rows.X.copy()) for part, part_rows in rows.parts.items()}
    count = tiers.NAMES.index("access_total")
    for part_rows in parts.values():  # the lifetime count tells everything, and no candidate sees it
        hidden = noise.random(part_rows.X.shape).astype(np.float32)
        hidden[:, count] = part_rows.y * 10
        part_rows.X[:] = hidden
    lost = tiers.train(Dataset(parts, rows.horizon, rows.span), seed=0)
    assert lost.serving.algorithm == "lifetime_count"
    assert "no candidate beats" in lost.reason
    assert lost.serving.estimator is None


def test_training_is_the_same_again_and_the_champion_is_measured_on_the_same_rows(rows: Dataset, trained: Trained):
    again = tiers.train(rows, seed=0, champion=trained.serving.packed)
    assert again.metrics == trained.metrics
    assert again.serving.packed.to_bytes() == trained.serving.packed.to_bytes()
    assert again.champion is not None
    assert again.champion["auc"] == again.metrics["auc"]


def test_a_blend_travels_with_its_parts(rows: Dataset, trained: Trained):
    parts = (trained.serving.packed, trained.fallback.packed)
    blend = Packed("blend", tiers.NAMES, Blend(parts), tiers.UNCALIBRATED)
    X = rows.parts[Part.TEST].X[:200]
    again = Packed.from_bytes(blend.to_bytes())
    assert np.array_equal(again.score(X).p_hot, blend.score(X).p_hot)
    p = [part.score(X).p_hot for part in parts]
    assert blend.raw(X) == pytest.approx(expit((logit(p[0]) + logit(p[1])) / 2))


def test_probabilities_in_service_are_those_that_were_known_at_each_time(rows: Dataset, trained: Trained):
    test = rows.parts[Part.TEST]
    middle = np.median(test.cut)
    changed = replace(test, y=np.where(test.cut >= middle, ~test.y, test.y))
    later = Dataset({**rows.parts, Part.TEST: changed}, rows.horizon, rows.span)
    serving = trained.serving
    p, other = (tiers._judged(serving, serving, each).p for each in (rows, later))
    known = test.cut <= middle
    assert np.array_equal(p[known], other[known])
    assert not np.array_equal(p[~known], other[~known])


def test_too_little_data_is_said():
    one = np.ones(3, np.int64)
    history = History.of(one * 0, np.array([HOUR, 30 * HOUR, 90 * HOUR]), one, one * 0, one, one * 0, 1)
    with pytest.raises(NotEnoughData):
        dataset.build(history, Catalogue.of(["a"], [1]), 100 * HOUR, 0)


def test_areas_equal_sklearn_with_ties_and_weights():
    rng = np.random.default_rng(0)
    y = rng.random(2000) < 0.2
    score = np.round(rng.random(2000) + y * 0.3, 1)
    weight = rng.integers(0, 4, 2000).astype(float)
    auc, pr = evaluation.Ranking(y, score).areas(weight)
    assert auc == pytest.approx(roc_auc_score(y, score, sample_weight=weight))
    assert pr == pytest.approx(average_precision_score(y, score, sample_weight=weight))


def test_calibration_rises_and_mends_a_crooked_score():
    rng = np.random.default_rng(0)
    p = rng.random(20_000)
    y = rng.random(20_000) < p
    curve = calibration.fit(p**3, y)
    assert (np.diff(curve.p) > 0).all()
    assert (curve.low <= curve.p).all()
    assert (curve.p <= curve.high).all()
    mended = np.interp(p**3, curve.x, curve.p)
    assert evaluation.calibration_error(y, mended, 0)[1] < 0.02
    assert evaluation.calibration_error(y, p**3, 0)[1] > 0.1


@pytest.mark.parametrize("y", [np.zeros(50, bool), np.ones(50, bool)])
def test_one_class_alone_is_calibrated_flat(y: np.ndarray):
    curve = calibration.fit(np.linspace(0, 1, 50), y)
    assert np.isfinite(curve.p).all()


def test_demand_is_the_objects_own_with_a_past_and_the_prefix_rate_without():
    days = np.arange(60)
    reads = np.concatenate([np.full(60, 10), np.full(60, 1)])
    object_ = np.repeat([0, 1], 60)
    ts = np.tile(days * DAY + SECOND, 2)
    zero = np.zeros(120, np.int64)
    history = History.of(object_, ts, reads, zero, reads * 100, zero, 3, begin=0)
    catalogue = Catalogue.of(["busy/a", "quiet/b", "quiet/c"], [100, 100, 100])
    reads, sizes = demand.expect(history, catalogue, 60 * DAY).within(30)
    assert 200 < reads[0] < 300
    assert 10 < reads[1] < 100
    assert 0 < reads[2] < reads[1] * 1.5
    assert sizes[0] == pytest.approx(reads[0] * 100, rel=0.01)


def test_expected_bytes_go_by_the_objects_own_size():
    zero = np.zeros(60, np.int64)
    ts = np.arange(60) * DAY + SECOND
    history = History.of(zero, ts, zero + 10, zero, zero + 10_000_000, zero, 3, begin=0)  # 1 MB a read, half of it
    catalogue = Catalogue.of(["a/whole", "a/tiny", "a/unknown"], [2_000_000, 10, None])
    reads, sizes = demand.expect(history, catalogue, 60 * DAY).within(30)
    assert sizes[1] == pytest.approx(reads[1] * 5)
    assert sizes[2] == pytest.approx(reads[2] * 1_000_000)
