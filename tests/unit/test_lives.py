"""Traces tell of ends and sizes in time: a row learned from sees those of its time alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from app.lab.traces import OPS, Trace
from ml.demand import Walk
from ml.features import FeatureBuilder
from ml.history import DAY, HOUR, STAYS

KEYS = [f"{'a' if number % 2 else 'b'}/{number}.csv" for number in range(12)]


def trace(*rows: tuple[int, int, str, int]) -> Trace:
    """Rows of hour, object, op and stated size, in order of time."""
    hour, owner, op, size = zip(*rows, strict=True)
    n = len(rows)
    return Trace(
        keys=KEYS, object=np.array(owner, np.int64), ts=np.array(hour, np.int64) * HOUR,
        op=np.array([OPS.index(one) for one in op], np.int8), bytes_read=np.full(n, 7), size=np.array(size, np.int64),
        region=np.zeros(n, np.int32), regions=[""], partial_upload=np.zeros(n, bool),
    )  # fmt: skip


def drawn(seed: int, grain: int = 1) -> Trace:
    """Thirty days of objects that are read, written, deleted and come back; the first row of each states its size."""
    rng, seen = np.random.default_rng(seed), set[int]()
    rows = []
    for hour in np.sort(rng.integers(0, 720, 900)).tolist():
        owner = int(rng.integers(0, len(KEYS)))
        op = str(rng.choice(OPS, p=[0.7, 0.1, 0.1, 0.1]))
        states = owner not in seen or rng.random() < 0.3
        rows.append((hour // grain * grain, owner, op, int(rng.integers(1, 5)) * 1000 if states else 0))
        seen.add(owner)
    return trace(*rows)


def first_rows(whole: Trace, cut: int) -> Trace:
    """The trace as it was recorded until a time."""
    n = int(np.searchsorted(whole.ts, cut))
    names = ("object", "ts", "op", "bytes_read", "size", "region", "partial_upload")
    return replace(whole, **{name: getattr(whole, name)[:n] for name in names})


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("grain", [1, 24])
def test_no_row_of_a_trace_sees_its_future(seed: int, grain: int):
    whole = drawn(seed, grain)
    history, catalogue = whole.history(), whole.catalogue()
    builder, walk = FeatureBuilder(history, catalogue), Walk(history, catalogue, everyone=False)
    ended = 0
    for day in (2, 7, 15, 22, 30):
        cut, past = day * DAY, first_rows(whole, day * DAY)
        known, catalogue_then = builder.known(cut), past.catalogue()
        then = FeatureBuilder(past.history(), catalogue_then)
        assert np.array_equal(known, then.known(cut))
        moment = np.full(len(known), cut)
        assert np.array_equal(builder.rows(known, moment).X, then.rows(known, moment).X)
        found, wanted = walk.to(cut), Walk(past.history(), catalogue_then, everyone=False).to(cut)
        for name in vars(wanted):
            assert np.allclose(getattr(found, name)[known], getattr(wanted, name)[known])
        ended += len(np.unique(past.object)) - len(known)
    assert ended > 0


def test_sizes_and_ends_are_those_of_each_time():
    told = trace(
        (1, 0, "GET", 0), (2, 0, "GET", 50), (4, 0, "PUT", 70), (5, 0, "DELETE", 0), (6, 0, "DELETE", 0),
        (9, 0, "PUT", 0), (11, 0, "GET", 0), (12, 0, "GET", 90), (20, 0, "DELETE", 0),
        (21, 1, "GET", 0),
    )  # fmt: skip
    found = told.catalogue()
    hours = np.array([1, 3, 4, 5, 7, 10, 12, 13, 30])
    assert found.size_at(np.zeros(9, int), hours * HOUR).tolist() == [50, 50, 50, 70, 70, 70, 70, 90, 90]
    assert [bool(found.there(hour * HOUR)[0]) for hour in (5, 6, 9, 10, 20, 21)] == [
        True,
        False,
        False,
        True,
        True,
        False,
    ]
    assert found.gone.tolist() == [20 * HOUR] + [STAYS] * 11
    assert found.size[1] == 0, "bytes of reads tell no size"
    assert told.history().writes.sum() == 2, "a DELETE is no write"


def test_a_read_later_than_a_delete_shows_that_it_is_there_and_one_at_its_time_does_not():
    found = trace((0, 0, "GET", 1), (24, 0, "DELETE", 0), (24, 0, "GET", 0), (72, 0, "GET", 0)).catalogue()
    assert [bool(found.there(hour * HOUR)[0]) for hour in (24, 25, 72, 73)] == [True, False, False, True]
    written = trace((0, 0, "GET", 1), (24, 0, "DELETE", 0), (24, 0, "PUT", 0)).catalogue()
    assert written.there(25 * HOUR)[0]
    assert trace((0, 0, "DELETE", 5), (0, 1, "PUT", 6)).catalogue().gone[:2].tolist() == [0, STAYS]
