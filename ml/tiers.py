"""Learns how likely each object is to be read soon, and decides whether the model or a baseline serves (step: learn).

One Random Forest is held to the trends that features state (more accesses never make an object colder): without them
it loses to a plain count on a short web log. Another is free, and wins where reads follow the calendar. Every number
is of the same later rows, beside named baselines.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from ml import calibration, evaluation, packing
from ml.dataset import Dataset, Part, Rows
from ml.evaluation import Metrics
from ml.features import MODEL_FEATURES, NAMES, SOURCE_SIX, TREND, columns
from ml.history import HOUR
from ml.serving import Calibration, Packed

FOUR = ("recency_s", "access_1h", "access_24h", "access_7d")
FOREST_PARAMS: dict[str, Any] = {"n_estimators": 60, "max_samples": 0.4, "max_features": "sqrt"}
STEADY: dict[str, Any] = {"max_depth": 12, "min_samples_leaf": 10}
"""With trends: leaves of ten rows, since what it may say is held in order."""
FREE: dict[str, Any] = {"max_depth": 14, "min_samples_leaf": 5}
"""Without trends: it finds rhythms, such as files that are read only on Mondays."""
BOOSTING_PARAMS: dict[str, Any] = {
    "max_iter": 80,
    "learning_rate": 0.08,
    "max_leaf_nodes": 15,
    "min_samples_leaf": 40,
    "early_stopping": False,
}
UNCALIBRATED = Calibration(*(np.array([0.0, 1.0]) for _ in range(4)))


@dataclass(frozen=True)
class Fitted:
    """A model in its serving form, with the estimator that it was packed from (None for a one-feature baseline)."""

    algorithm: str
    packed: Packed
    features: tuple[str, ...]
    params: dict[str, Any]
    estimator: Any


@dataclass(frozen=True)
class Trained:
    """What training decided: which model serves, why, and every contestant's numbers on the same later rows."""

    serving: Fitted
    fallback: Fitted
    """The best baseline: it serves when the file of the model that should is refused."""
    reason: str
    metrics: Metrics
    """Of the model that serves, with 90 % intervals, also of its gain over the best baseline."""
    candidates: dict[str, Metrics]
    baselines: dict[str, Metrics]
    champion: Metrics | None
    """Of the model that served before, on the same rows."""


def train(dataset: Dataset, seed: int, champion: Packed | None = None) -> Trained:
    """Fit and calibrate the candidates and the baselines, and judge all, the champion too, on the test part.

    Forests come before their challengers, each kind in the order of its areas on the calibration part. The first
    whose AUC and PR-AUC on the test part are at or above every baseline's serves; if there is none, the best baseline
    does. The model that serves is the very one that was measured.
    """
    from threadpoolctl import threadpool_limits

    parts = dataset.parts
    with threadpool_limits(1):  # workers share the machine: threads that wait for each other only burn it
        candidates = _calibrated(_candidates(parts, seed), parts[Part.CALIBRATE])
        baselines = _calibrated(_baselines(parts[Part.TRAIN], seed), parts[Part.CALIBRATE])
    test = parts[Part.TEST]
    outcome = evaluation.Outcome(test.y, test.object)
    fitted = {**candidates, **baselines}
    scores = {name: model.packed.score(test.X).p_hot for name, model in fitted.items()}
    metrics = {name: evaluation.evaluate(outcome, score, seed) for name, score in scores.items()}
    best = max(baselines, key=lambda name: _rank(metrics[name]))
    winners = [name for name in candidates if all(_at_or_above(metrics[name], metrics[b]) for b in baselines)]
    name = winners[0] if winners else best
    reason = f"{name} is at or above every baseline" if winners else f"no candidate beats the baseline {best}"
    gains = evaluation.intervals(outcome, {key: scores[key] for key in dict.fromkeys((name, best))}, seed, best)
    before = evaluation.evaluate(outcome, champion.score(test.X).p_hot, seed) if champion else None
    return Trained(
        serving=fitted[name],
        fallback=fitted[best],
        reason=reason,
        metrics={**metrics[name], **gains[name], "horizon_h": dataset.horizon // HOUR},
        candidates={key: metrics[key] for key in candidates},
        baselines={key: metrics[key] for key in baselines},
        champion=before,
    )


def _rank(metrics: Metrics) -> float:
    return float(metrics["auc"]) + float(metrics["pr_auc"])  # type: ignore[arg-type]


def _at_or_above(metrics: Metrics, baseline: Metrics) -> bool:
    return all(metrics[name] >= baseline[name] for name in ("auc", "pr_auc"))  # type: ignore[operator]


def _candidates(parts: dict[Part, Rows], seed: int) -> list[Fitted]:
    train = parts[Part.TRAIN]
    forests = [
        _forest("random_forest", MODEL_FEATURES, train, seed, STEADY, trends=True),
        _forest("random_forest_free", MODEL_FEATURES, train, seed, FREE, trends=False),
    ]
    challengers = [
        _boosted("boosting_with_trends", MODEL_FEATURES, train, seed, trends=True),
        _logistic("logistic", MODEL_FEATURES, train),
    ]
    order = partial(_areas, parts[Part.CALIBRATE])
    return [*sorted(forests, key=order, reverse=True), *sorted(challengers, key=order, reverse=True)]


def _areas(rows: Rows, model: Fitted) -> float:
    return sum(evaluation.Ranking(rows.y, model.packed.raw(rows.X)).areas())


def _baselines(train: Rows, seed: int) -> list[Fitted]:
    return [
        _one_feature("recency", "recency_s", -1.0),
        _one_feature("lifetime_count", "access_total", 1.0),
        _logistic("logit_four", FOUR, train),
        _forest("forest_six", SOURCE_SIX, train, seed, STEADY, trends=False),
        _boosted("hist_gradient_boosting", MODEL_FEATURES, train, seed, trends=False),
    ]


def _calibrated(models: list[Fitted], rows: Rows) -> dict[str, Fitted]:
    """Each with the calibration of its scores on rows that it did not learn from."""
    done = {}
    for model in models:
        curve = calibration.fit(model.packed.raw(rows.X), rows.y)
        done[model.algorithm] = replace(model, packed=replace(model.packed, calibration=curve))
    return done


def _forest(
    algorithm: str, names: tuple[str, ...], rows: Rows, seed: int, growth: dict[str, Any], *, trends: bool
) -> Fitted:
    from sklearn.ensemble import RandomForestClassifier

    params = {**FOREST_PARAMS, **growth}
    model = RandomForestClassifier(**params, monotonic_cst=_trend(names, trends), random_state=seed, n_jobs=1)
    model.fit(rows.X[:, columns(names)], rows.y)
    packed = Packed("forest", NAMES, packing.pack_forest(model, columns(names)), UNCALIBRATED)
    return Fitted(algorithm, packed, names, {**params, "trends": trends}, model)


def _boosted(algorithm: str, names: tuple[str, ...], rows: Rows, seed: int, *, trends: bool) -> Fitted:
    from sklearn.ensemble import HistGradientBoostingClassifier

    model = HistGradientBoostingClassifier(**BOOSTING_PARAMS, monotonic_cst=_trend(names, trends), random_state=seed)
    model.fit(rows.X[:, columns(names)], rows.y)
    packed = Packed("boosted", NAMES, packing.pack_boosted(model, columns(names)), UNCALIBRATED)
    return Fitted(algorithm, packed, names, {**BOOSTING_PARAMS, "trends": trends}, model)


def _trend(names: tuple[str, ...], trends: bool) -> list[int] | None:
    return [TREND[name] for name in names] if trends else None


def _logistic(algorithm: str, names: tuple[str, ...], rows: Rows) -> Fitted:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    scaler, model = StandardScaler(), LogisticRegression(max_iter=1000)
    pipeline = make_pipeline(scaler, model)
    pipeline.fit(np.log1p(rows.X[:, columns(names)].astype(float)), rows.y)
    packed = Packed("linear", NAMES, packing.pack_logistic(scaler, model, columns(names)), UNCALIBRATED)
    return Fitted(algorithm, packed, names, {"input": "ln(1 + x)", "C": 1.0}, pipeline)


def _one_feature(algorithm: str, name: str, sign: float) -> Fitted:
    form = packing.one_column(NAMES.index(name), sign)
    return Fitted(algorithm, Packed("linear", NAMES, form, UNCALIBRATED), (name,), {"sign": sign}, None)
