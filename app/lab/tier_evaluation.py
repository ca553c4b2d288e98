"""What the tier model and every baseline would have said of a recorded trace, judged on its last 30 % (step: learn)."""

from __future__ import annotations

from typing import Any

import numpy as np

from app.lab.traces import Trace
from ml import dataset, importances, tiers
from ml.dataset import Dataset, Part
from ml.evaluation import BINS, Outcome
from ml.history import DAY
from ml.tiers import Progress, Trained

MEASURED = ("auc", "pr_auc", "brier", "log_loss", "ece", "ece_raw", "n", "positives", "base_rate")
INTERVALS = ("auc_interval", "pr_auc_interval", "auc_gain_interval", "pr_auc_gain_interval", "log_loss_gain_interval")


def evaluate(trace: Trace, horizon: int, seed: int, progress: Progress) -> dict[str, Any]:
    """The document of one trace, as `foretide models evaluate tier` prints it. horizon: microseconds.

    Raises NotEnoughData when a part of the span holds too few reads to learn from or judge by.
    """
    history = trace.history()
    end = -(-trace.end // DAY) * DAY if history.daily else trace.end
    rows = dataset.build(history, trace.catalogue(), end, seed, horizon=horizon)
    trained = tiers.train(rows, seed, progress=progress)
    test = rows.parts[Part.TEST]
    outcome = Outcome(test.y, test.object)
    serving = trained.serving
    return {
        "base_rate": float(test.y.mean()),
        "rows": {part.value: len(some.y) for part, some in rows.parts.items()},
        "base_rates": {part.value: float(some.y.mean()) for part, some in rows.parts.items()},
        "models": _models(trained),
        "champion": serving.algorithm,
        "reason": trained.reason,
        "calibration": _calibration(trained, rows),
        "importances": importances.permutation(serving.packed, serving.features, test.X, outcome, seed),
    }


def _models(trained: Trained) -> list[dict[str, Any]]:
    found = []
    for kind, contestants in (("model", trained.candidates), ("baseline", trained.baselines)):
        for name, metrics in contestants.items():
            told = {key: metrics[key] for key in (*MEASURED, *INTERVALS) if key in metrics}
            found.append({"name": name, "kind": kind, **told})
    return found


def _calibration(trained: Trained, rows: Dataset) -> list[dict[str, float]]:
    """Of ten bins of as many rows each: the mean probability and the share that was read."""
    y = rows.parts[Part.TEST].y
    bins = np.array_split(np.argsort(trained.p, kind="stable"), BINS)
    return [
        {"p": float(trained.p[rows_of].mean()), "read": float(y[rows_of].mean()), "n": len(rows_of)}
        for rows_of in bins
        if len(rows_of)
    ]
