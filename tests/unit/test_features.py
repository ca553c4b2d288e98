"""Features are right against a slow reading of their definitions, and see nothing of the future."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from ml.demand import Walk
from ml.features import FEATURES, MODEL_FEATURES, NAMES, SOURCE_SIX, FeatureBuilder, snapshot
from ml.history import DAY, HOUR, SECOND, STAYS, Catalogue, Former, History, file_type, prefix_of

BEGIN = 1_700_000_000 * SECOND // DAY * DAY
KEYS = ["logs/2026-11-06/app.log", "logs/2026-11-06/web.log", "media/a.jpg", "never.bin"]


def events(seed: int = 1, n: int = 600, days: int = 20) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "object": rng.integers(0, 3, n),
        "ts": BEGIN + rng.integers(0, days * DAY, n),
        "reads": rng.integers(0, 3, n),
        "writes": (rng.random(n) < 0.1).astype(np.int64),
        "bytes_read": rng.integers(0, 10_000, n),
        "partial_uploads": (rng.random(n) < 0.05).astype(np.int64),
    }


def history(rows: dict[str, np.ndarray]) -> History:
    return History.of(**rows, objects=len(KEYS), begin=BEGIN)


CATALOGUE = Catalogue.of(KEYS, [100, None, 5000, 7])


def at(rows: dict[str, np.ndarray], cut: int) -> np.ndarray:
    return snapshot(history(rows), CATALOGUE, cut)


def column(X: np.ndarray, name: str) -> np.ndarray:
    return X[:, NAMES.index(name)]


def test_the_source_six_come_first_and_every_feature_is_described():
    assert SOURCE_SIX == ("access_1h", "access_24h", "recency_s", "hour_of_day", "day_of_week", "partial_upload")
    assert len(set(NAMES)) == len(NAMES)
    assert all(feature.meaning and feature.unit for feature in FEATURES)
    assert "access_total" not in MODEL_FEATURES


@pytest.mark.parametrize("cut", [BEGIN + 12 * DAY, BEGIN + 9 * DAY + 1234 * SECOND + 5, BEGIN + 30 * DAY])
def test_windows_recency_and_decay_equal_their_definitions(cut: int):
    rows = events()
    X = at(rows, cut)
    counts = rows["reads"] + rows["writes"]
    for number in range(3):
        mine = (rows["object"] == number) & (rows["ts"] < cut)
        ts, count = rows["ts"][mine], counts[mine]
        for name, width in {"access_1h": HOUR, "access_24h": DAY, "access_7d": 7 * DAY, "access_30d": 30 * DAY}.items():
            assert column(X, name)[number] == count[ts >= cut - width].sum()
        assert column(X, "recency_s")[number] == pytest.approx((cut - ts.max()) / SECOND, rel=1e-6)
        assert column(X, "access_total")[number] == count.sum()
        partial = rows["partial_uploads"][mine][ts >= cut - DAY].any()
        assert column(X, "partial_upload")[number] == partial
        exposure = (cut - BEGIN) / DAY
        mass = (1 - 0.5 ** (exposure / 7)) * 7 / np.log(2)
        last_of_hour = {int(t) // HOUR: int(t) for t in np.sort(ts)}
        decayed = sum(
            c * 0.5 ** ((cut - last_of_hour[int(t) // HOUR]) / (7 * DAY)) for t, c in zip(ts, count, strict=True)
        )
        assert column(X, "decayed_7d")[number] == pytest.approx(decayed / mass, rel=1e-4)
        hours = np.unique(ts // HOUR)
        assert column(X, "gap_mean_s")[number] == pytest.approx(np.diff(hours).mean() * 3600, rel=1e-5)
        assert column(X, "gap_spread_s")[number] == pytest.approx(np.diff(hours).std() * 3600, rel=1e-3)


def test_an_object_without_accesses_has_finite_features():
    X = at(events(), BEGIN + 10 * DAY)
    assert np.isfinite(X).all()
    assert column(X, "recency_s")[3] == 90 * 86_400
    empty = snapshot(history({name: values[:0] for name, values in events().items()}), CATALOGUE, BEGIN + DAY)
    assert np.isfinite(empty).all()
    assert column(empty, "access_30d").sum() == 0


def test_what_comes_later_changes_nothing():
    rows, cut = events(), BEGIN + 10 * DAY + 17 * SECOND
    rng = np.random.default_rng(3)
    later = {name: values.copy() for name, values in rows.items()}
    future = later["ts"] >= cut
    later["object"][future] = rng.permutation(later["object"][future])
    later["reads"][future] += 1000
    shuffled = rng.permutation(len(later["ts"]))
    assert np.array_equal(at(rows, cut), at({name: values[shuffled] for name, values in later.items()}, cut))


def test_many_cuts_at_once_equal_one_at_a_time():
    rows = events()
    builder = FeatureBuilder(history(rows), CATALOGUE)
    cuts = BEGIN + np.array([2, 5, 11]) * DAY + 3 * HOUR
    owner, cut = (axis.ravel() for axis in np.meshgrid(np.arange(len(KEYS)), cuts, indexing="ij"))
    X = builder.rows(owner, cut).X
    for moment in cuts:
        assert np.allclose(X[cut == moment], at(rows, int(moment)), rtol=1e-6)


def test_hourly_roll_ups_give_the_same_features_at_full_hours():
    rows, cut = events(), BEGIN + 12 * DAY
    hours: dict[tuple[int, int], list[int]] = {}
    for number, ts, *values in zip(*rows.values(), strict=True):
        cell = hours.setdefault((int(number), int(ts) // HOUR), [0, 0, 0, 0, 0])
        for place, value in enumerate(values, 1):
            cell[place] += int(value)
        cell[0] = max(cell[0], int(ts))
    rolled = {
        "object": np.array([number for number, _ in hours]),
        **{name: np.array([cell[place] for cell in hours.values()]) for place, name in enumerate(list(rows)[1:])},
    }
    assert np.allclose(at(rows, cut), at(rolled, cut), rtol=1e-5)


def test_labels_count_reads_in_the_half_open_window():
    rows = {name: np.array([value]) for name, value in zip(events(), (0, BEGIN + DAY, 2, 0, 5, 0), strict=True)}
    builder = FeatureBuilder(history(rows), CATALOGUE)
    zero = np.array([0])
    assert builder.reads_between(zero, np.array([BEGIN + DAY]), np.array([BEGIN + DAY + HOUR])) == [2]
    assert builder.reads_between(zero, np.array([BEGIN]), np.array([BEGIN + DAY])) == [0]


def test_prefixes_and_file_types():
    assert prefix_of("logs/2026-11-06/app.log") == "logs/2026-11-06"
    assert prefix_of("/reset.css") == ""
    assert prefix_of("a/b/c/d.txt") == "a/b"
    assert file_type("x/PHOTO.JPG") == file_type("y.png?size=2")
    assert file_type("noext") == 0


def test_the_last_of_a_million_objects_over_months_has_the_features_of_a_first_one():
    many, rows = 1_000_000, events(days=120)
    first, last, cut = np.arange(3), np.arange(many - 3, many), np.full(3, BEGIN + 100 * DAY)
    both = {name: np.concatenate((values, values)) for name, values in rows.items()}
    both["object"] = np.concatenate((rows["object"], rows["object"] + many - 3))
    past = History.of(**both, objects=many, begin=BEGIN)
    builder = FeatureBuilder(past, Catalogue.of([""] * many, np.zeros(many)))
    few = FeatureBuilder(history(rows), Catalogue.of([""] * 4, np.zeros(4)))
    wanted = few.rows(first, cut).X
    assert np.array_equal(builder.rows(first, cut).X, wanted)
    assert np.array_equal(builder.rows(last, cut).X, wanted)
    assert np.array_equal(builder.reads_between(last, cut, cut + DAY), few.reads_between(first, cut, cut + DAY))


def lives(seed: int) -> tuple[Catalogue, list[list[tuple[int, int, int]]]]:
    """A catalogue of objects that come, change their size, end and come back; by object (since, size, 0 when gone)."""
    rng = np.random.default_rng(seed)
    told, ends, sizes, former = [], [], [], []
    for number in range(len(KEYS)):
        times = np.unique(BEGIN + rng.integers(1, 20 * DAY, rng.integers(0, 6)))
        steps, there = [(BEGIN, int(rng.integers(1, 10_000)), 1)], True
        for moment in times.tolist():
            there = not there or rng.random() < 0.5
            steps.append((moment, int(rng.integers(1, 10_000)) if there else steps[-1][1], int(there)))
        gone = STAYS
        for before, (moment, size, is_there) in pairwise(steps):
            gone = before[0] if not before[2] else STAYS
            if is_there and (not before[2] or before[1] != size):
                former.append((number, moment, float(before[1]), min(gone, moment)))
        told.append(steps)
        ends.append(STAYS if steps[-1][2] else next(s[0] for s in steps[::-1] if not s[2]))
        sizes.append(steps[-1][1])
    columns = zip(*former, strict=True) if former else ((),) * 4
    kinds = (np.int64, np.int64, float, np.int64)
    changes = Former(*(np.array(column, kind) for column, kind in zip(columns, kinds, strict=True)))
    return Catalogue.of(KEYS, sizes, np.array(ends), changes), told


@pytest.mark.parametrize("seed", range(8))
def test_no_row_and_no_feature_sees_who_ends_who_comes_and_what_sizes_will_be(seed: int):
    catalogue, told = lives(seed)
    rows = events(seed)
    builder = FeatureBuilder(history(rows), catalogue)
    for day in (0, 3, 8, 14, 20):
        cut = BEGIN + day * DAY
        now = [[step for step in steps if step[0] < cut or step[0] == BEGIN][-1] for steps in told]
        seen = {name: values[rows["ts"] < cut] for name, values in rows.items()}
        read = set(seen["object"].tolist())
        known = builder.known(cut)
        assert known.tolist() == [number for number, step in enumerate(now) if step[2] and number in read]
        then = FeatureBuilder(history(seen), Catalogue.of(KEYS, [step[1] for step in now]))
        moment = np.full(len(known), cut)
        assert np.array_equal(builder.rows(known, moment).X, then.rows(known, moment).X)


@pytest.mark.parametrize("seed", range(4))
def test_what_is_expected_of_demand_sees_no_ends_and_sizes_of_the_future(seed: int):
    catalogue, told = lives(seed)
    rows = events(seed)
    walk = Walk(history(rows), catalogue, everyone=False)
    for day in (3, 8, 14, 20):
        cut = BEGIN + day * DAY
        now = [[step for step in steps if step[0] < cut or step[0] == BEGIN][-1] for steps in told]
        seen = {name: values[rows["ts"] < cut] for name, values in rows.items()}
        ends = np.array([STAYS if step[2] else BEGIN for step in now])
        then = Walk(history(seen), Catalogue.of(KEYS, [step[1] for step in now], ends), everyone=False)
        found, wanted = walk.to(cut), then.to(cut)
        assert all(np.allclose(getattr(found, name), getattr(wanted, name)) for name in vars(wanted))


def test_what_ends_within_the_horizon_was_read_only_as_far_as_it_was():
    ends = BEGIN + DAY + HOUR
    rows = {
        "object": np.array([0, 0, 1]), "ts": np.array([BEGIN, ends - SECOND, BEGIN]), "reads": np.array([1, 1, 1]),
        "writes": np.zeros(3, int), "bytes_read": np.zeros(3, int), "partial_uploads": np.zeros(3, int),
    }  # fmt: skip
    catalogue = Catalogue.of(KEYS, [1] * 4, np.array([ends, ends, STAYS, STAYS]))
    builder = FeatureBuilder(history(rows), catalogue)
    both, cut = np.array([0, 1]), np.full(2, BEGIN + DAY)
    assert builder.known(BEGIN + DAY).tolist() == [0, 1]
    assert builder.reads_between(both, cut, cut + DAY).tolist() == [1, 0]
    assert builder.known(ends).tolist() == [0, 1]  # what happens at a time is its future
    assert builder.known(ends + 1).tolist() == []
