"""Percentiles, deviations and extremes of recorded series, sent as samples and cut into parts, beside exact ones."""

from __future__ import annotations

import math

import duckdb
import numpy as np
import pytest

from app.domain import metric_moments as moments
from app.domain.metric_sketches import Spread
from tests.needs import TRACES

SHARES = [0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999]


@pytest.mark.needs("../shared/data")
def test_recorded_series_are_within_their_bounds(figure):
    """Each of 49 series as it is, where it is exact to many values, and through sketches of parts of 1,500 values."""
    path = TRACES / "series_nab.parquet"
    rows = duckdb.sql(f"select series, value from '{path}' order by series, timestamp").fetchnumpy()
    worst, bound, count = 0.0, 0.0, 0
    for name in np.unique(rows["series"]):
        values = np.asarray(rows["value"][rows["series"] == name], np.float64)
        found = moments.of_values(np.arange(len(values)) % 60, values, 60)
        whole = moments.merged(np.zeros(60, np.int64), found, 1)
        assert whole.count[0] == len(values)
        assert whole.variance[0] == pytest.approx(np.var(values), rel=1e-9)
        assert (whole.low[0], whole.high[0]) == (values.min(), values.max())
        spread = Spread()
        for begin in range(0, len(values), 1500):
            part = Spread()
            part.add(values[begin : begin + 1500])
            body, sketched = part.stored()
            spread.add_stored(body, sketched=sketched)
        exact = np.sort(values)
        for share, told in zip(SHARES, spread.quantiles(SHARES), strict=True):
            right = exact[math.ceil(share * len(exact) - 1e-9) - 1]
            assert told.low <= right <= told.high, (name, share)
            below, until = (np.searchsorted(exact, told.value, side) / len(exact) for side in ("left", "right"))
            off = max(0.0, below - share, share - until)
            worst, bound, count = max(worst, off), max(bound, spread.rank_error), count + 1
            assert off <= spread.rank_error, (name, share)
    figure("metrics", f"greatest error of rank {worst:.2%} of a bound of {bound:.2%}", count)
