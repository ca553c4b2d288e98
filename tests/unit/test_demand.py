"""Forecasts of reads: no row sees its future, spreads come true, packed trees equal scikit-learn's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from app.domain.demand import Forecast
from app.domain.placement import gamma_quantile
from app.errors import ArtifactRefused, NotEnoughData
from ml import demand, demand_measures, demand_models, demand_spread, demand_training
from ml.demand_forecast import Learned
from ml.demand_models import BASELINES, CANDIDATES, FEATURES, Boosted
from ml.demand_rows import COLUMNS, Observer, Rows
from ml.demand_spread import Known, Spread
from ml.demand_training import Judged, Limits
from ml.history import DAY, STAYS, Catalogue, Floats, History

OBJECTS, DAYS = 40, 120
END = DAYS * DAY
LIMITS = Limits(fit=2_000, renewals=10)
NAMES = [f"{'busy' if number % 3 else 'quiet'}/{number}.dat" for number in range(OBJECTS)]
CATALOGUE = Catalogue.of(NAMES, [1_000] * OBJECTS)


def history(seed: int = 0) -> History:
    """Reads a day of objects whose rates differ by a hundred times, more on workdays."""
    rng = np.random.default_rng(seed)
    rate = np.exp(rng.normal(-0.5, 1.2, OBJECTS))
    weekly = np.where(np.arange(DAYS) % 7 < 5, 1.3, 0.3)
    reads = rng.poisson(rate[:, None] * weekly * rng.gamma(2.0, 0.5, (OBJECTS, DAYS)))
    object_, day = np.nonzero(reads)
    count, none = reads[object_, day], np.zeros(len(day), np.int64)
    return History.of(object_, day * DAY, count, none, count * 1_000, none, OBJECTS, begin=0)


def changed_after(past: History, moment: int) -> History:
    """Another future: what came from then on is dealt anew among the objects, and all of it twice."""
    later = past.ts >= moment
    owner, reads = past.object.copy(), past.reads.copy()
    owner[later] = np.random.default_rng(9).permutation(owner[later])
    reads[later] *= 2
    columns = (past.writes, past.bytes_read, past.partial_uploads)
    return History.of(owner, past.ts, reads, *columns, OBJECTS, begin=0)


def rows_of(past: History, horizon: int, until: int = END) -> Rows:
    observer = Observer(past, CATALOGUE, horizon)
    return observer.rows(observer.cuts(DAY, until), 10**6, np.random.default_rng(0))


@pytest.fixture(scope="module")
def judged() -> Judged:
    return demand_training.judge(Observer(history(), CATALOGUE, DAY), END, 1, LIMITS)


@pytest.mark.parametrize("horizon", [DAY, 7 * DAY])
def test_no_row_sees_its_future(horizon: int):
    moment = 70 * DAY
    as_it_was, otherwise = (rows_of(past, horizon) for past in (history(), changed_after(history(), moment)))
    for field in ("X", "mean", "bytes_a_read", "object"):
        before = [getattr(rows, field)[rows.cut <= moment] for rows in (as_it_was, otherwise)]
        assert np.array_equal(*before)
    known = [rows.where(rows.cut + horizon <= moment) for rows in (as_it_was, otherwise)]
    assert np.array_equal(known[0].reads, known[1].reads)
    assert all(np.array_equal(known[0].plain[name], known[1].plain[name]) for name in BASELINES)
    assert not np.array_equal(as_it_was.reads[-OBJECTS:], otherwise.reads[-OBJECTS:])


def test_what_is_chosen_goes_by_the_past_alone(judged: Judged):
    otherwise = changed_after(history(), int(demand_training.KNOWN_SHARE * END))
    other = demand_training.judge(Observer(otherwise, CATALOGUE, DAY), END, 1, LIMITS)
    for mine, theirs in zip(judged.document["models"], other.document["models"], strict=True):
        assert mine["choosing_loss"] == theirs["choosing_loss"]
        assert mine["quantile_loss"] != theirs["quantile_loss"]


def test_a_walk_through_time_says_what_each_history_before_a_time_says():
    past = history()
    walk = demand.Walk(past, CATALOGUE, everyone=True)
    for as_of in (0, 3 * DAY, 60 * DAY, END):
        at_once = demand.expect(past.before(as_of), CATALOGUE, as_of)
        assert walk.to(as_of).reads == pytest.approx(at_once.reads, rel=1e-9)


def drawn(n: int, seed: int, dispersion: float = 0.7) -> Known:
    """Counts of a known distribution: Gamma rates round the mean, then Poisson."""
    rng = np.random.default_rng(seed)
    mean = np.exp(rng.normal(0, 2, n))
    reads = rng.poisson(mean * rng.gamma(1 / dispersion, dispersion, n)).astype(float)
    return Known(mean, rng.poisson(mean).astype(float), reads, np.arange(n), np.zeros(n, np.int64))


def test_the_transform_of_a_known_distribution_is_uniform():
    later = drawn(20_000, 1)
    told = Spread(np.zeros(0), (np.zeros(0),), np.array([0.7]), demand_spread.GRID[None, :])
    for spread in (told, demand_spread.fit(drawn(20_000, 0), DAY, DAY)):
        u = np.sort(spread.transform(later, np.random.default_rng(2)))
        assert np.abs(u - (np.arange(len(u)) + 0.5) / len(u)).max() < 0.02
        assert demand_measures.coverage(u) == pytest.approx(0.8, abs=0.015)


def test_quantiles_rise_and_are_passed_as_often_as_they_say():
    later = drawn(20_000, 1)
    found = demand_spread.fit(drawn(20_000, 0), DAY, DAY).quantiles(later.mean, later.before)
    assert (np.diff(found, axis=1) >= 0).all()
    assert (found == np.rint(found)).all()
    for place, q in enumerate(demand_spread.QUANTILES):
        within, below = (
            float(np.mean(test)) for test in (later.reads <= found[:, place], later.reads < found[:, place])
        )
        assert below - 0.02 <= q <= within + 0.02


def test_the_spread_follows_what_came_last():
    """Counts twice what is expected in the newest weeks: the quantiles go with them, whatever came before."""
    old, new = drawn(4_000, 0), drawn(4_000, 1)
    doubled = replace(new, reads=2 * new.reads, cut=new.cut + 100 * DAY)
    known = old.joined(doubled)
    later = drawn(4_000, 2)
    spread = demand_spread.fit(known, 101 * DAY, DAY)
    u = spread.transform(replace(later, reads=2 * later.reads), np.random.default_rng(0))
    assert demand_measures.coverage(u) == pytest.approx(0.8, abs=0.03)


def test_a_spread_is_renewed_by_what_has_ended_since_too():
    """Half of the objects are read often and end after the training: who asked the others alone expects too little."""
    rng, trained = np.random.default_rng(0), 20 * DAY
    ends = np.where(np.arange(OBJECTS) % 2, STAYS, rng.integers(22, 29, OBJECTS) * DAY)
    reads = rng.poisson(np.where(ends < STAYS, 6.0, 0.5)[:, None], (OBJECTS, 30))
    reads[:, 0] += 1
    object_, day = np.nonzero(reads * (np.arange(30) * DAY < ends[:, None]))
    count, none = reads[object_, day], np.zeros(len(day), np.int64)
    past = History.of(object_, day * DAY, count, none, count, none, OBJECTS, begin=0)
    catalogue = Catalogue.of([""] * OBJECTS, [1] * OBJECTS, ends)
    now, first = 30 * DAY, replace(drawn(200, 0), cut=np.full(200, 19 * DAY))
    learned = Learned(1, "gamma_poisson", Boosted(), Boosted(), first, trained)
    all_of_them = learned.known_by(Observer(past, catalogue, DAY), now, np.arange(OBJECTS) + 100)
    later = all_of_them.where(all_of_them.cut >= trained)
    assert (later.cut <= ends[later.object - 100]).all(), "after its end it is no row"
    left = learned.known_by(Observer(past.where(ends[past.object] == STAYS), catalogue, DAY), now, np.arange(OBJECTS))
    left = left.where(left.cut >= trained)
    assert later.reads.mean() > 3 * left.reads.mean()
    nobody = replace(catalogue, gone=np.full(OBJECTS, -1))
    assert learned.known_by(Observer(past, nobody, DAY), now, np.arange(OBJECTS)) is first


def test_one_row_is_enough_for_a_spread():
    spread = demand_spread.fit(drawn(1, 0), DAY, DAY)
    assert spread.quantiles(np.array([0.5, 80.0]), np.zeros(2)).shape == (2, 3)


def test_packed_trees_equal_sklearn_and_travel():
    rows = rows_of(history(), DAY)
    packed, estimators = demand_models.fit(rows, 1)
    X = rows.X[:, [COLUMNS.index(name) for name in FEATURES]]
    travelled = Boosted.from_bytes(packed.to_bytes())
    for factor, name in ((1.0, "boosted"), (rows.mean, "boosted_ratio")):
        expected: Floats = estimators[name].predict(X) * factor
        assert np.abs(packed.means(rows, name) / expected - 1).max() < 1e-6
        assert np.array_equal(packed.means(rows, name), travelled.means(rows, name))
    assert set(packed.only("boosted").trees) == {"boosted"}
    assert Boosted.from_bytes(Boosted().to_bytes()).means(rows, "gamma_poisson") == pytest.approx(rows.mean)
    with pytest.raises(ArtifactRefused):
        Boosted.from_bytes(b"no model")


def test_the_champion_is_no_worse_than_any_baseline_and_its_spread_comes_true(judged: Judged):
    found = {row["name"]: row for row in judged.document["models"]}
    assert set(found) == {*CANDIDATES, *BASELINES}
    champion = found[judged.champion]
    assert champion["quantile_loss"] <= min(found[name]["quantile_loss_interval"][1] for name in BASELINES)
    assert 0.77 <= champion["coverage"] <= 0.83
    assert champion["n"] == judged.document["rows"]["test"]
    assert len(judged.known) == champion["n"] + judged.document["rows"]["choose"]
    assert judged.champion in CANDIDATES


def test_too_short_a_history_is_told():
    with pytest.raises(NotEnoughData, match="rows and 10 that were"):
        demand_training.judge(Observer(history(), CATALOGUE, 40 * DAY), END, 1, LIMITS)


def test_a_forecasts_spread_becomes_that_of_the_rate():
    """A known rate's counts spread by chance alone; wider ones say how little of the rate is known."""
    rng = np.random.default_rng(0)
    for shape in (0.8, 3.0, 20.0):
        counts = rng.poisson(rng.gamma(shape, 400 / shape, 200_000))
        low, high = np.percentile(counts, [10, 90])
        found = Forecast(1, 30, 400.0, float(low), float(high)).shape
        assert found is not None
        assert found == pytest.approx(shape, rel=0.5)
        assert 400 * gamma_quantile(found, 0.9) == pytest.approx(high, rel=0.15)
    assert Forecast(1, 30, 0.2, 0, 0).shape is None
    assert (Forecast(1, 30, 400.0, 374, 426).shape or 0) > 300
