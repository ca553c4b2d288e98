"""How good probabilities are on later data: discrimination, calibration and their bootstrap intervals (step: learn).

Rows of one object are dependent, so intervals resample objects, not rows. All randomness comes from `seed`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ml.history import Floats, Ints

Bools = npt.NDArray[np.bool_]
Metrics = dict[str, float | int | list[float]]

BINS = 10
RESAMPLES = 200
GAINS = ("auc", "pr_auc", "log_loss")
LEVEL = 0.9  # of bootstrap intervals


@dataclass(frozen=True)
class Outcome:
    """What happened: y of each row and the object that it belongs to."""

    y: Bools
    object: Ints

    @property
    def both(self) -> bool:
        """Whether there are positives and negatives: else nothing can be ranked."""
        return bool(self.y.any() and not self.y.all())


class Ranking:
    """Rows sorted once by falling score, with ties grouped, so that resampled AUCs cost one pass each."""

    def __init__(self, y: Bools, score: Floats) -> None:
        self.order = np.argsort(-score, kind="stable")
        self.y = y[self.order]
        ordered = score[self.order]
        self.ends = np.flatnonzero(np.append(np.diff(ordered) != 0, True))

    def areas(self, weight: Floats | None = None) -> tuple[float, float]:
        """Area under the ROC curve and average precision (sklearn's definitions, ties as one step)."""
        w = np.ones(len(self.y)) if weight is None else weight[self.order]
        hits = np.cumsum(np.where(self.y, w, 0.0))[self.ends]
        misses = np.cumsum(np.where(self.y, 0.0, w))[self.ends]
        positives, negatives = hits[-1], misses[-1]
        if positives == 0 or negatives == 0:
            return float("nan"), float("nan")
        step = np.diff(hits, prepend=0.0)
        width = np.diff(misses, prepend=0.0)
        auc = float(((hits - step / 2) * width).sum() / (positives * negatives))
        precision = hits / np.maximum(hits + misses, 1e-300)
        return auc, float((precision * step).sum() / positives)


def calibration_error(y: Bools, p: Floats, seed: int) -> tuple[float, float]:
    """Expected calibration error on equal-mass bins, and the same less what perfect calibration would show.

    Even a perfect model shows an error on finite data; its expectation is simulated with outcomes drawn from p.
    """
    order = np.argsort(p, kind="stable")
    ordered = p[order]
    edges = np.linspace(0, len(p), BINS + 1).astype(np.int64)[:-1]
    expected = np.add.reduceat(ordered, edges)

    def error(outcome: Bools) -> float:
        return float(np.abs(np.add.reduceat(outcome.astype(float), edges) - expected).sum() / len(p))

    rng = np.random.default_rng(seed)
    perfect = np.mean([error(rng.random(len(p)) < ordered) for _ in range(RESAMPLES)])
    found = error(y[order])
    return found, float(found - perfect)


def log_loss(y: Bools, p: Floats) -> float:
    """Mean negative log likelihood of what happened."""
    return float(np.mean(surprise(y, p)))


def evaluate(outcome: Outcome, score: Floats, p: Floats, seed: int) -> Metrics:
    """Areas of a model's own score, and how good its probabilities p are. The outcome must hold both classes.

    A calibration that is renewed as time goes on keeps the order of the rows of one time, which is what areas judge;
    `ece` is the calibration error less its expectation under perfect calibration, `ece_raw` the whole of it.
    """
    y = outcome.y
    auc, pr_auc = Ranking(y, score).areas()
    ece_raw, ece = calibration_error(y, p, seed)
    return {
        "auc": auc,
        "pr_auc": pr_auc,
        "brier": float(np.mean((p - y) ** 2)),
        "log_loss": log_loss(y, p),
        "ece": ece,
        "ece_raw": ece_raw,
        "n": len(y),
        "positives": int(y.sum()),
        "base_rate": float(y.mean()),
    }


def intervals(
    outcome: Outcome, scores: dict[str, Floats], p: dict[str, Floats], seed: int, reference: str
) -> dict[str, Metrics]:
    """Bootstrap intervals of each model's areas, and of what it gains on the reference, paired on the same resamples.

    scores rank, p are probabilities; a gain is above 0 where the model is better, in log loss too.
    """
    rankings = {name: Ranking(outcome.y, score) for name, score in scores.items()}
    losses = {name: surprise(outcome.y, some) for name, some in p.items()}
    objects, row_object = np.unique(outcome.object, return_inverse=True)
    rng = np.random.default_rng(seed)
    draws: dict[str, list[tuple[float, float, float]]] = {name: [] for name in scores}
    for _ in range(RESAMPLES // 2):
        weight = rng.multinomial(len(objects), np.full(len(objects), 1 / len(objects))).astype(float)[row_object]
        for name, ranking in rankings.items():
            draws[name].append((*ranking.areas(weight), -float(np.average(losses[name], weights=weight))))
    sampled = {name: np.array(values) for name, values in draws.items()}
    return {name: _interval(values, values - sampled[reference]) for name, values in sampled.items()}


def _interval(values: Floats, gain: Floats) -> Metrics:
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.nanpercentile(values, [tail, 100 - tail], axis=0)
    gain_low, gain_high = np.nanpercentile(gain, [tail, 100 - tail], axis=0)
    found: Metrics = {f"{area}_interval": [float(low[n]), float(high[n])] for n, area in enumerate(GAINS[:2])}
    return found | {f"{name}_gain_interval": [float(gain_low[n]), float(gain_high[n])] for n, name in enumerate(GAINS)}


def surprise(y: Bools, p: Floats) -> Floats:
    """Negative log likelihood of each row; probabilities are cut at one in a million."""
    clipped = np.clip(p, 1e-6, 1 - 1e-6)
    return np.asarray(-np.where(y, np.log(clipped), np.log1p(-clipped)))
