"""Learns how likely each object is to be read soon, and decides whether the model or a baseline serves (step: learn).

One Random Forest is held to the trends that features state (more accesses never make an object colder): without them
it loses to a plain count on a short web log. Another is free, and wins where reads follow the calendar. Every number
is of the same later rows, beside named baselines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from ml import calibration, evaluation, packing, recalibration
from ml.dataset import Dataset, Part, Rows
from ml.evaluation import Metrics
from ml.features import MODEL_FEATURES, NAMES, SOURCE_SIX, TREND, columns
from ml.history import HOUR, Floats
from ml.recalibration import Known, Past
from ml.serving import Blend, Calibration, Packed

Progress = Callable[[int, int, str], None]
"""(done, total, what is done now)."""
AREAS = ("auc", "pr_auc")
MOST_ROWS = 25_000
"""Rows of the second fit."""
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
    """A model in its serving form, with the estimator that it was packed from (None where there is not one)."""

    algorithm: str
    packed: Packed
    features: tuple[str, ...]
    params: dict[str, Any]
    estimator: Any


@dataclass(frozen=True)
class Contestant:
    """A model and what it said of the test part, as it would have in service."""

    fitted: Fitted
    known: Known
    """Its scores of all rows that it did not learn from, of the calibration and the test part."""
    score: Floats
    """Of the test part, by the model itself: it ranks."""
    p: Floats
    """Of the test part, calibrated on what was known at each time."""
    validation: float
    """Log loss on the calibration part, of the fit that had not seen it."""


@dataclass(frozen=True)
class Trained:
    """What training decided: which model serves, why, and every contestant's numbers on the same later rows."""

    serving: Fitted
    fallback: Fitted
    """The best baseline: it serves when the file of the model that should is refused."""
    past: Past
    """What its calibration is renewed from in service. objects by dense index."""
    reason: str
    p: Floats
    """What the model that serves said of the test part, as it would have in service."""
    metrics: Metrics
    """Of the model that serves, with 90 % intervals, also of its gain over the best baseline."""
    candidates: dict[str, Metrics]
    baselines: dict[str, Metrics]
    champion: Metrics | None
    """Of the model that served before, on the same rows."""


def train(dataset: Dataset, seed: int, champion: Packed | None = None, progress: Progress | None = None) -> Trained:
    """Fit the candidates and the baselines, and judge all, the champion too, on the test part.

    Each is fitted on the train part, calibrated and ranked by log loss on the calibration part, and fitted again on
    both: what is newest counts most under drift. On the test part its calibration is renewed as in service. The first
    candidate in rank that is not beaten by the best baselines (`_holds`) serves; if there is none, the best baseline
    does. The model that serves is the very one that was measured.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):  # workers share the machine: threads that wait for each other only burn it
        contestants = _contestants(dataset, seed, progress or _silent)
    test = dataset.parts[Part.TEST]
    outcome = evaluation.Outcome(test.y, test.object)
    scores = {name: each.score for name, each in contestants.items()}
    p = {name: each.p for name, each in contestants.items()}
    metrics = {name: evaluation.evaluate(outcome, each.score, each.p, seed) for name, each in contestants.items()}
    best = max(BASELINES, key=lambda name: _rank(metrics[name]))
    for name, gains in evaluation.intervals(outcome, scores, p, seed, best).items():
        metrics[name] |= gains
    candidates = sorted(
        (name for name in contestants if name not in BASELINES), key=lambda n: contestants[n].validation
    )
    winners = [name for name in candidates if _holds(metrics[name], [metrics[other] for other in BASELINES])]
    name = winners[0] if winners else best
    reason = f"{name} holds against every baseline" if winners else f"no candidate beats the baseline {best}"
    before = _measure(outcome, champion, test, seed) if champion else None
    return Trained(
        serving=_as_of_now(contestants[name], dataset),
        fallback=_as_of_now(contestants[best], dataset),
        past=Past(contestants[name].fitted.packed.calibration, contestants[name].known),
        reason=reason,
        p=contestants[name].p,
        metrics={**metrics[name], "horizon_h": dataset.horizon // HOUR},
        candidates={key: metrics[key] for key in candidates},
        baselines={key: metrics[key] for key in BASELINES},
        champion=before,
    )


def _silent(_: int, __: int, ___: str) -> None:
    return None


def _rank(metrics: Metrics) -> float:
    return float(metrics["auc"]) + float(metrics["pr_auc"])  # type: ignore[arg-type]


def _holds(metrics: Metrics, baselines: list[Metrics]) -> bool:
    """Whether both areas are at or above every baseline's, or nothing is worse than the best's beyond chance."""
    level = all(metrics[area] >= other[area] for other in baselines for area in AREAS)  # type: ignore[operator]
    return level or all(metrics[f"{name}_gain_interval"][1] >= 0 for name in evaluation.GAINS)  # type: ignore[index]


def _measure(outcome: evaluation.Outcome, packed: Packed, test: Rows, seed: int) -> Metrics:
    scores = packed.score(test.X)
    return evaluation.evaluate(outcome, scores.p_raw, scores.p_hot, seed)


def _contestants(dataset: Dataset, seed: int, progress: Progress) -> dict[str, Contestant]:
    parts, rng = dataset.parts, np.random.default_rng(seed)
    known = parts[Part.TRAIN].joined(parts[Part.CALIBRATE], MOST_ROWS, rng)
    total = 2 * len(MODELS) + 1
    early, late = {}, {}
    for number, (name, fit) in enumerate(MODELS.items()):
        progress(2 * number, total, f"fitting {name}")
        early[name] = _calibrated(fit(parts[Part.TRAIN], seed), parts[Part.CALIBRATE])
        progress(2 * number + 1, total, f"fitting {name} again")
        curve = early[name].packed.calibration
        late[name] = _with(fit(known, seed), curve)
    early["blend"] = _calibrated(_blend(early), parts[Part.CALIBRATE])
    late["blend"] = _with(_blend(late), early["blend"].packed.calibration)
    progress(total - 1, total, "judging on later rows")
    judged = {name: _judged(early[name], late[name], dataset) for name in late}
    progress(total, total, "judged")
    return judged


def _judged(early: Fitted, late: Fitted, dataset: Dataset) -> Contestant:
    validate, test = dataset.parts[Part.CALIBRATE], dataset.parts[Part.TEST]
    curve = late.packed.calibration
    past, now = _known(early.packed, validate), _known(late.packed, test)
    p = recalibration.rolled(curve, past, now, dataset.horizon)
    loss = evaluation.log_loss(validate.y, np.interp(past.raw, curve.x, curve.p))
    return Contestant(late, past.joined(now), now.raw, p, loss)


def _known(packed: Packed, rows: Rows) -> Known:
    return Known(packed.raw(rows.X), rows.y, rows.object, rows.cut)


def _as_of_now(contestant: Contestant, dataset: Dataset) -> Fitted:
    """The model with its calibration as of the end of the history."""
    end = int(contestant.known.cut.max()) + dataset.horizon
    curve = contestant.fitted.packed.calibration
    return _with(contestant.fitted, recalibration.renew(curve, contestant.known, end, dataset.horizon))


def _with(model: Fitted, curve: Calibration) -> Fitted:
    return replace(model, packed=replace(model.packed, calibration=curve))


def _calibrated(model: Fitted, rows: Rows) -> Fitted:
    """The model with the calibration of its scores on rows that it did not learn from."""
    return _with(model, calibration.fit(model.packed.raw(rows.X), rows.y))


def _blend(models: dict[str, Fitted]) -> Fitted:
    """The mean log-odds of the models that see all features: no one of them is best everywhere."""
    parts = tuple(models[name].packed for name in BLENDED)
    return Fitted("blend", Packed("blend", NAMES, Blend(parts), UNCALIBRATED), MODEL_FEATURES, {"of": BLENDED}, None)


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


FREE_FOREST, BOOSTED = "random_forest_free", "hist_gradient_boosting"
BASELINES: Mapping[str, Callable[[Rows, int], Fitted]] = {
    "recency": lambda _, __: _one_feature("recency", "recency_s", -1.0),
    "lifetime_count": lambda _, __: _one_feature("lifetime_count", "access_total", 1.0),
    "logit_four": lambda rows, _: _logistic("logit_four", FOUR, rows),
    "forest_six": partial(_forest, "forest_six", SOURCE_SIX, growth=STEADY, trends=False),
    BOOSTED: partial(_boosted, BOOSTED, MODEL_FEATURES, trends=False),
}
"""What a model must hold against, on the same rows."""
CANDIDATES: Mapping[str, Callable[[Rows, int], Fitted]] = {
    "random_forest": partial(_forest, "random_forest", MODEL_FEATURES, growth=STEADY, trends=True),
    FREE_FOREST: partial(_forest, FREE_FOREST, MODEL_FEATURES, growth=FREE, trends=False),
    "boosting_with_trends": partial(_boosted, "boosting_with_trends", MODEL_FEATURES, trends=True),
    "logistic": lambda rows, _: _logistic("logistic", MODEL_FEATURES, rows),
}
"""What may serve, beside their blend."""
MODELS = {**BASELINES, **CANDIDATES}
BLENDED = (BOOSTED, *CANDIDATES)
