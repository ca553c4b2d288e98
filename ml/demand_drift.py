"""What a demand model sees now, and whether counts lie in its spread as often as it says (step: watch)."""

from __future__ import annotations

import numpy as np

from app.errors import NotEnoughData
from ml import drift
from ml.demand_forecast import Learned, named
from ml.demand_rows import Observer, Rows
from ml.demand_spread import QUANTILES
from ml.demand_training import rolled, said
from ml.drift import MOST_ROWS, Watch
from ml.evaluation import Outcome
from ml.history import Ints

RENEWALS = 30
COVERED = QUANTILES[-1] - QUANTILES[0]
"""Share of counts between the outer quantiles of a true spread."""


def recent(observer: Observer, end: int, seed: int) -> Rows | None:
    """Rows of the window that ends now, as in training; None without any. Microseconds.

    Counts are known of those alone whose horizon is over by `end`.
    """
    cuts = drift.window(observer.history.begin, end, observer.horizon, observer.step())
    try:
        return observer.rows(cuts, MOST_ROWS, np.random.default_rng(seed))
    except NotEnoughData:
        return None


def coverage(learned: Learned, observer: Observer, rows: Rows, end: int, ids: Ints, seed: int) -> Watch | None:
    """How often counts lay between the outer quantiles of what was said at their time, beside 80 %.

    rows: of the window; ids: of the objects by dense index. None without rows after the training.
    """
    horizon = observer.horizon
    later = rows.where((rows.cut >= learned.end) & (rows.cut + horizon <= end))
    if not len(later):
        return None
    known = named(said(later, learned.fitted.means(later, learned.champion)), ids)
    past = learned.known_by(observer, int(later.cut.min()) + horizon - 1, ids)
    _, u = rolled(past, known, horizon, RENEWALS, np.random.default_rng(seed))
    within = (u >= QUANTILES[0]) & (u <= QUANTILES[-1])
    return drift.calibration(Outcome(within, later.object), np.full(len(later), COVERED), seed)
