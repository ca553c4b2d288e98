"""The generated month is seeded, ends now, and holds the habits that the demo speaks of."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np

from app.lab.synthetic import HABITS, PARTIAL_SHARE, generate
from ml.history import DAY, SECOND

NOW = datetime(2026, 11, 21, 12, 34, tzinfo=UTC)


def test_the_same_seed_gives_the_same_month_and_another_does_not():
    one, same, other = generate(NOW, 1), generate(NOW, 1), generate(NOW, 2)
    assert one.keys == same.keys
    assert np.array_equal(one.ts, same.ts)
    assert len(one) != len(other)


def test_it_has_240_objects_over_30_days_that_end_now():
    trace = generate(NOW, 1)
    assert len(trace.keys) == len(set(trace.keys)) == 240
    now = int(NOW.timestamp()) * SECOND
    assert trace.ts.min() >= now - 31 * DAY
    assert now - 2 * DAY < trace.ts.max() < now
    assert (np.diff(trace.ts) >= 0).all()
    assert 10_000 < len(trace) < 200_000


def test_five_percent_meet_a_partial_upload_and_keys_are_dated():
    trace = generate(NOW, 1)
    assert abs(trace.partial_upload.mean() - PARTIAL_SHARE) < 0.005
    days = {key.split("/")[1] for key in trace.keys if key.startswith("logs/")}
    assert days <= {(NOW - timedelta(days=n)).date().isoformat() for n in range(32)}
    assert sum(habit.share for habit in HABITS.values()) == 1
