"""Samples in buckets: moments and sketches that merge to the same however they were cut, and what is refused."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain import metric_moments as moments
from app.domain.metric_columns import checked
from app.domain.metric_moments import Moments
from app.domain.metric_sketches import EXACT_READ, EXACT_STORED, Spread, Tally, stored_values
from app.domain.metric_windows import Found, Window, told
from app.domain.metrics import MOST_VALUE, PERCENTILES, WIDTH, Samples

SHARES = list(PERCENTILES.values())
ODD = "\u202e\U0001f98a\ufeff"
VALUES = st.floats(-1e9, 1e9) | st.floats(1e9, 1e9 + 1) | st.integers(-5, 5).map(float)


def of(values: list[float]) -> Moments:
    return moments.of_values(np.zeros(len(values), np.int64), np.array(values), 1)


def merged(parts: list[Moments]) -> Moments:
    return moments.merged(np.zeros(len(parts), np.int64), moments.joined(parts), 1)


def same(found: Moments, values: np.ndarray) -> None:
    spread = max(np.abs(values).max(), 1e-300)
    assert found.count[0] == len(values)
    assert (found.low[0], found.high[0]) == (values.min(), values.max())
    assert found.mean[0] == pytest.approx(math.fsum(values) / len(values), rel=1e-12, abs=1e-12 * spread)
    exact = [float(value) for value in values - values[0]]
    mean = math.fsum(exact) / len(exact)
    variance = math.fsum((each - mean) ** 2 for each in exact) / len(exact)
    width = float(values.max() - values.min())
    assert found.variance[0] == pytest.approx(variance, rel=1e-9, abs=1e-9 * width**2 + 1e-300)


@settings(deadline=None)
@given(st.lists(st.lists(VALUES, min_size=1, max_size=20), min_size=1, max_size=8), st.randoms())
def test_any_cut_into_parts_has_the_same_moments(parts, random):
    values = np.array([value for part in parts for value in part])
    same(of(list(values)), values)
    found = [of(part) for part in parts]
    random.shuffle(found)
    same(merged(found), values)
    while len(found) > 1:  # merges of merges, as passes over stored parts make them
        found = [merged(found[:2]), *found[2:]]
    same(found[0], values)


@pytest.mark.parametrize("spread", [1.0, 1e-3, 1e-6])
def test_the_variance_of_large_values_that_differ_little(spread):
    """Against the exact variance: numpy's own loses digits here, since a mean near 1e9 has no more of them."""
    values = 1e9 + np.round(np.random.default_rng(1).normal(0, spread, 10_000) * 2**23) / 2**23
    apart = values - 1e9  # exactly
    exact = math.fsum(each**2 for each in apart - math.fsum(apart) / len(apart)) / len(apart)
    found = merged([of(list(part)) for part in np.array_split(values, 97)])
    if spread == 1.0:
        assert found.variance[0] == pytest.approx(np.var(values), rel=1e-9)
    assert found.variance[0] == pytest.approx(exact, rel=1e-9)
    assert np.var(values) == pytest.approx(exact, rel=1e-3 if spread < 1e-5 else 1e-6)


def test_whole_numbers_sum_exactly():
    values = np.random.default_rng(2).integers(-(10**6), 10**6, 5000).astype(float)
    found = merged([of(list(part)) for part in np.array_split(values, 33)])
    assert found.sum[0] == values.sum()


def test_windows_are_those_of_a_dictionary():
    rng = np.random.default_rng(3)
    for streams, span, n in ((3, 1000, 2000), (1000, 10**6, 2000), (3, 1000, moments.PIECE + 9)):
        stream, ts, value = rng.integers(0, streams, n), rng.integers(0, span, n), rng.normal(size=n)
        kept: dict[tuple[int, int], list[float]] = {}
        for each, at, what in zip(stream.tolist(), ts.tolist(), value.tolist(), strict=True):
            kept.setdefault((each, at // 100 * 100), []).append(what)
        found = moments.by_window(stream, ts, value, 100)
        pairs = list(zip(found.stream.tolist(), found.start.tolist(), strict=True))
        assert pairs == sorted(kept)
        assert [pairs[row] for row in found.rows(stream, ts).tolist()] == [
            *zip(stream.tolist(), (ts // 100 * 100).tolist(), strict=True)
        ]
        for number, pair in enumerate(pairs):
            assert found.moments.count[number] == len(kept[pair])
            assert found.moments.mean[number] == pytest.approx(np.mean(kept[pair]))
            assert found.moments.variance[number] == pytest.approx(np.var(kept[pair]))
            assert (found.moments.low[number], found.moments.high[number]) == (min(kept[pair]), max(kept[pair]))
    empty = np.zeros(0, np.int64)
    assert not len(moments.by_window(empty, empty, np.zeros(0), 100).start)


def within(spread: Spread, values: np.ndarray) -> None:
    """Each percentile's rank is within the bound, and the exact one between the two values that are told."""
    values = np.sort(values)
    for share, found in zip(SHARES, spread.quantiles(SHARES), strict=True):
        exact = values[max(math.ceil(share * len(values) - 1e-9) - 1, 0)]
        below, until = (np.searchsorted(values, found.value, side) / len(values) for side in ("left", "right"))
        assert below - 1e-9 <= share + spread.rank_error
        assert until + 1e-9 >= share - spread.rank_error
        assert found.low <= exact <= found.high
        if not spread.rank_error:
            assert found.value == exact == found.low == found.high


@settings(deadline=None)
@given(st.lists(st.integers(1, 4000), min_size=1, max_size=8), st.integers(0, 2**32 - 1))
def test_percentiles_of_any_cut_are_within_the_bound(sizes, seed):
    values = np.random.default_rng(seed).lognormal(size=sum(sizes)).round(2)
    whole = Spread()
    for begin, end in pairwise(np.cumsum([0, *sizes]).tolist()):
        part = Spread()
        part.add(values[begin:end])
        body, sketched = part.stored()
        assert sketched == (end - begin > EXACT_STORED)
        whole.add_stored(body, sketched=sketched)
    within(whole, values)
    body, sketched = whole.stored()  # merged and stored once more
    again = Spread()
    again.add_stored(body, sketched=sketched)
    within(again, values)


def test_few_values_are_exact_and_many_are_bounded_in_memory():
    values = np.random.default_rng(4).normal(size=EXACT_READ + 1)
    spread = Spread()
    spread.add(values[:-1])
    assert spread.rank_error == 0
    within(spread, values[:-1])
    spread.add(values[-1:])
    assert 0.005 < spread.rank_error < 0.006
    within(spread, values)
    assert len(spread.stored()[0]) < 25_000


def test_values_are_stored_by_row():
    value = np.arange(5000, dtype=float)
    row = np.array([n % 2 for n in range(2000)] + [2] * 3000)
    bodies, sketched = stored_values(value, row, np.bincount(row))
    assert sketched == [False, False, True]
    assert np.frombuffer(bodies[1], "<f8").tolist() == value[1:2000:2].tolist()


@settings(deadline=None)
@given(st.lists(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.floats(0, 1e6)), max_size=30), max_size=6))
def test_items_weigh_what_is_told_or_up_to_the_error_more(parts):
    exact: dict[str, float] = {}
    whole = Tally({})
    for part in parts:
        for item, weight in part:
            exact[item] = exact.get(item, 0.0) + weight
        whole.add(Tally.of([item for item, _ in part], [weight for _, weight in part]).trimmed(3))
        whole = whole.trimmed(3)
    slack = 1e-6 * (sum(exact.values()) + 1)
    for item, weight in exact.items():
        assert weight - whole.error - slack <= whole.weights.get(item, 0.0) <= weight + slack
    assert whole.error <= sum(exact.values()) / 4 + slack
    assert len(whole.weights) <= 3


def test_what_is_refused():
    ok = {"name": "latency", "value": 1.0, "ts": 50, "group": None, "item": None}
    wrong = [
        ({"value": float("nan")}, "/value", "finite"),
        ({"value": float("inf")}, "/value", "finite"),
        ({"value": -10 * MOST_VALUE}, "/value", "finite"),
        ({"ts": 9}, "/ts", "too_late"),
        ({"ts": 91}, "/ts", "future"),
        ({"name": ""}, "/name", "letters"),
        ({"name": "a/b"}, "/name", "letters"),
        ({"name": "a" * 64}, "/name", "letters"),
        ({"group": "g" * 257}, "/group", "256"),
        ({"group": "a\x00"}, "/group", "character"),
        ({"group": "\ud800"}, "/group", "character"),
        ({"item": "\udfff"}, "/item", "character"),
        ({"item": "i", "value": -1.0}, "/value", "weight"),
    ]
    lines = [line for changes, _, _ in wrong for line in (ok | {"group": ODD}, ok | changes)]
    columns = {field: [line[field] for line in lines] for field in ok}
    found, refused = checked(Samples(**columns), 10, 90)
    assert found.row.tolist() == list(range(0, len(lines), 2))
    assert [each.row for each in refused] == list(range(1, len(lines), 2))
    for each, (_, pointer, words) in zip(refused, wrong, strict=True):
        assert each.pointer == pointer
        assert words in each.detail
    assert [found.streams[number] for number in found.stream.tolist()] == [("latency", ODD)] * len(wrong)


def test_a_window_has_whole_buckets_none_older_than_asked_for():
    window = Window.ending(1_000 * WIDTH + 3, 300)
    assert (window.since, window.rate_since) == (971 * WIDTH, 995 * WIDTH)
    assert Window.ending(1_000 * WIDTH, 300).since == 970 * WIDTH
    assert Window.ending(1_000 * WIDTH + 3, 1).since == 1_000 * WIDTH
    assert Window.ending(1_000 * WIDTH + 3, 1).first == 995 * WIDTH


def test_an_empty_window_has_no_mean():
    window = Window.ending(1_000 * WIDTH, 300)
    none = moments.of_values(np.zeros(0, np.int64), np.zeros(0), 1)
    shown = told(Found(window, none, np.zeros(1, np.int64), [Spread()]), 0)
    assert (shown["count"], shown["sum"], shown["rate"]) == (0, 0, 0)
    assert {shown[name] for name in ("mean", "min", "max", "variance", "stddev", *PERCENTILES)} == {None}


def test_the_bounds_of_the_outermost_percentiles_are_the_extremes_themselves():
    """A sketch keeps its extremes apart, and forgets them among its values."""
    spread = Spread()
    spread.add(np.random.default_rng(1).permutation(EXACT_READ + 1).astype(float))
    least, most = spread.quantiles([0.001, 0.999])
    assert spread.rank_error > 0.001
    assert (least.low, most.high) == (0.0, float(EXACT_READ))
