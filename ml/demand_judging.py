"""Compares a new demand model with the champion on the same later rows, which neither has learned from (step: learn).

What serves is fitted on all that was known at its training, these rows too: of both the fits on the first 70 % of
their own times are compared, with spreads that are renewed along the rows as in service.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from ml import demand_measures
from ml.demand_forecast import Learned, named
from ml.demand_training import Judged, Limits, rolled, said
from ml.history import DAY, Ints
from ml.judging import Comparison


def compare(judged: Judged, champion: Learned, ids: Ints, seed: int, limits: Limits | None = None) -> Comparison | None:
    """The gain in quantile loss over the champion's of the same horizon, as a share of it, with its 90 % interval.

    None where the champion could not have said anything of them. ids: of the objects by dense index.
    """
    horizon, begin = champion.days * DAY, int(judged.test.cut.min())
    since = judged.rows.where((judged.rows.cut + horizon > champion.end) & (judged.rows.cut < begin))
    past = champion.known.where(champion.known.cut < begin)
    if len(since):
        past = past.joined(named(said(since, champion.trial.means(since, champion.champion)), ids))
    if not (past.cut + horizon <= begin).any():
        return None
    mean = champion.trial.means(judged.test, champion.champion)
    later = named(said(judged.test, mean), ids)
    renewals = (limits or Limits()).renewals
    beside, _ = rolled(past, later, horizon, renewals, np.random.default_rng(seed))
    return demand_measures.gain(judged.lost, beside, judged.test.object, seed)


def together(gains: Mapping[int, Comparison | None], objects: int) -> Comparison | None:
    """The comparisons by days as one document; None where there are none."""
    found = {f"quantile_loss_{days}d": gain for days, gain in gains.items() if gain is not None}
    return {"n": _rows(found.values()), "objects": objects, **found} if found else None


def _rows(gains: Iterable[Comparison]) -> int:
    return sum(int(gain["n"]) for gain in gains)
