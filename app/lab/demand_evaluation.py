"""What the demand model and every baseline would have said of a trace, judged on its last 30 % (step: learn)."""

from __future__ import annotations

from typing import Any

from app.lab.traces import Trace
from ml import demand_training
from ml.demand_rows import Observer
from ml.demand_training import Progress
from ml.history import DAY


def evaluate(trace: Trace, horizon: int, seed: int, progress: Progress) -> dict[str, Any]:
    """The document of one trace, as `foretide models evaluate demand` prints it. horizon: microseconds.

    Raises NotEnoughData when a part of the span holds too few reads to learn from or judge by.
    """
    history = trace.history()
    end = -(-trace.end // DAY) * DAY if history.daily else trace.end
    observer = Observer(history, trace.catalogue(), horizon)
    return demand_training.judge(observer, end, seed, say=progress).document
