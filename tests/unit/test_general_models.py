"""Users' models: packed forms give the library's own numbers; events, targets and splits follow their stated rules."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from sklearn.ensemble import IsolationForest, RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LinearRegression
from sklearn.preprocessing import StandardScaler

from app.domain.general_models import PARAMS, Algorithm, Recipe, judged
from app.errors import ArtifactRefused, Invalid, NotEnoughData
from ml import general, packing_models
from ml.general import Trained, Wanted
from ml.general_rows import Reader
from ml.serving_jit import Compiled
from ml.serving_models import BadCell, Body, Centers, Forest, General, to_number

KINDS = ("classes", "numbers", "linear", "kmeans", "isolation")


def packed(algorithm: str, body: Body, scaler: StandardScaler | None, width: int, labels: tuple[Any, ...] = ()):
    mean, scale = (scaler.mean_, scaler.scale_) if scaler else (np.zeros(width), np.ones(width))
    names = tuple(f"f{number}" for number in range(width))
    return General(algorithm, names, labels, np.zeros(width), mean, scale, body)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), width=st.integers(1, 6), classes=st.integers(2, 6), scaled=st.booleans())
def test_packed_forms_equal_sklearn(kind: str, seed: int, width: int, classes: int, scaled: bool):
    rng = np.random.default_rng(seed)
    X = np.round(rng.normal(0, 50, (300, width)), rng.integers(0, 4)) * 10.0 ** rng.integers(-3, 6)
    fresh = np.concatenate((X[:50], rng.normal(0, 60, (50, width)) * np.abs(X).max()))
    scaler = StandardScaler().fit(X) if scaled else None
    Z, new = (scaler.transform(each) if scaler else each for each in (X, fresh))
    y, number = rng.integers(0, classes, 300), X[:, 0] * 1e3 + rng.normal(0, 1, 300)
    if kind == "classes":
        forest = RandomForestClassifier(9, max_depth=8, random_state=0).fit(Z, y)
        labels = tuple(f"c{label}" for label in range(classes))
        model = packed("random_forest", packing_models.pack_forest(forest, classes), scaler, width, labels)
        wanted, got = forest.predict_proba(new), model.predict(fresh).detail
    elif kind == "numbers":
        regressor = RandomForestRegressor(9, max_depth=8, random_state=0).fit(Z, number)
        model = packed("random_forest", packing_models.pack_forest(regressor), scaler, width)
        wanted, got = regressor.predict(new), model.predict(fresh).value
    elif kind == "linear":
        linear = LinearRegression().fit(Z, number)
        model = packed("linear_regression", packing_models.pack_linear(linear), scaler, width)
        wanted, got = linear.predict(new), model.predict(fresh).value
    elif kind == "kmeans":
        kmeans = KMeans(classes, n_init=1, random_state=0).fit(Z)
        model = packed("kmeans", packing_models.pack_kmeans(kmeans), scaler, width)
        assert np.array_equal(kmeans.predict(new), model.predict(fresh).value)
        wanted, got = kmeans.transform(new).min(axis=1), model.predict(fresh).detail[:, 0]
    else:
        isolation = IsolationForest(n_estimators=20, contamination=0.1, random_state=0).fit(Z)
        model = packed("isolation_forest", packing_models.pack_isolation(isolation), scaler, width)
        wanted, got = isolation.decision_function(new), model.predict(fresh).detail[:, 0]
        sure = np.abs(wanted) > 1e-9  # on the border itself the last bit decides
        assert np.array_equal(isolation.predict(new)[sure], model.predict(fresh).value[sure])
    assert np.abs(got - wanted).max() <= 1e-6 * max(1.0, np.abs(wanted).max())
    again = General.from_bytes(model.to_bytes())
    assert again.told(again.predict(fresh)) == model.told(model.predict(fresh))
    if kind in ("classes", "numbers", "isolation"):
        compiled = Compiled(model.body.trees)
        assert np.allclose(model.predict(fresh, lambda _, rows: compiled.sums(rows)).value, model.predict(fresh).value)


def test_other_bytes_are_refused():
    with pytest.raises(ArtifactRefused):
        General.from_bytes(b"not a model")


def test_what_counts_as_a_number():
    assert [to_number(value) for value in (1, 2.5, True, False, "3.5", " 4 ")] == [1, 2.5, 1, 0, 3.5, 4]
    assert np.isnan(to_number(None))
    for value in ("fast", "", "nan", "inf", [1], {"a": 1}, 1e31, 10**400, float("nan"), float("-inf")):
        with pytest.raises(ValueError, match=r"number|text"):
            to_number(value)


GAIN = {"value": 1.0, "beside": 2.0, "gain": 1.0, "interval": [0.5, 1.5]}


def trained(
    events: list[Any], algorithm: str = "random_forest", beside: Trained | None = None, **given: Any
) -> Trained:
    recipe = Recipe.of({"algorithm": algorithm, "features": ["a", "b"], "params": {}, **given})
    reader = Reader(recipe.features, recipe.target, recipe.time, recipe.missing == "drop")
    reader.add(events)
    wanted = Wanted(
        recipe.algorithm,
        recipe.features,
        recipe.task,
        recipe.scale,
        recipe.missing,
        recipe.params,
        recipe.seed,
        recipe.time,
    )
    told: list[tuple[int, int]] = []
    serving = (beside.model, beside.learned) if beside else (None, None)
    found = general.train(reader.table(), wanted, lambda done, total: told.append((done, total)), *serving)
    assert told[-1][0] == told[-1][1]
    return found


def events(n: int, target: str = "number") -> list[dict[str, Any]]:
    rng = np.random.default_rng(3)
    rows = rng.normal(0, 1, (n, 2)).tolist()
    told = {
        "number": lambda a, b: 3 * a - b,
        "text": lambda a, b: "up" if a > b else "down",
        "bool": lambda a, b: a > b,
    }[target]
    return [{"a": a, "b": b, "c": told(a, b), "at": 1000.0 + number} for number, (a, b) in enumerate(rows)]


def test_numbers_are_measured_and_text_and_true_or_false_are_classes():
    assert trained(events(200), target="c").task == "regression"
    text = trained(events(200, "text"), target="c")
    assert (text.task, text.model.labels) == ("classification", ("down", "up"))
    assert trained(events(200, "bool"), target="c").model.labels == (False, True)
    numbers = [{**event, "c": index % 3} for index, event in enumerate(events(200))]
    assert trained(numbers, target="c", task="classification").model.labels == (0.0, 1.0, 2.0)
    told = text.model.told(text.model.predict(text.model.matrix([{"a": 9, "b": -9}])))
    assert told[0]["prediction"] == "up"
    assert sum(told[0]["probabilities"].values()) == pytest.approx(1)


def test_later_rows_are_held_out_and_stand_beside_a_named_baseline():
    found = trained(events(200)[::-1], target="c", time="at")
    assert (found.split, found.rows) == ("the latest fifth", {"train": 160, "test": 40, "events": 200})
    assert found.metrics["rmse"] < found.baselines["mean"]["rmse"]
    assert found.beats is True
    assert next(iter(found.importances["permutation"])) == "a"
    assert sum(found.importances["built_in"].values()) == pytest.approx(1)
    drawn = np.random.default_rng(5).normal(size=200)
    noise = [{**event, "c": float(n)} for event, n in zip(events(200), drawn, strict=True)]
    assert trained(noise, target="c").beats is not True
    assert trained(events(200), target="c", seed=5).metrics == trained(events(200), target="c", seed=5).metrics


def compared(beside: Trained, rows: list[Any], **given: Any) -> tuple[int, int, bool]:
    """On how many rows a version was compared with another, how many were held out, whether none had been learned."""
    against = dict(trained(rows, beside=beside, target="c", **given).against or {})
    return against["n"], against["held_out"], against["known"]


def test_versions_are_compared_on_rows_that_the_one_that_serves_has_not_learned_from():
    rows = events(400)
    old = trained(rows[:300], target="c")
    assert compared(old, rows[:300][::-1]) == (60, 60, True), "the same events in another order"
    number, held_out, known = compared(old, rows, seed=7)
    assert (held_out, known) == (80, True)
    assert 0 < number < 30, "those alone that another seed would have held out too"
    assert compared(old, rows, time="at")[2] is True
    timed = trained(rows[:300], target="c", time="at")
    assert compared(timed, rows[:300], time="at") == (60, 60, True)
    assert compared(timed, rows[:280], time="at") == (40, 56, True)
    assert compared(timed, rows[:200], time="at") == (0, 40, True)
    assert compared(timed, rows) == (80, 80, False)


def test_few_kinds_of_events_are_all_learned_from_and_held_out():
    rows = [{"a": n % 2, "b": n % 3, "c": n % 2 > 0} for n in range(300)]
    found = trained(rows, target="c")
    assert (found.rows["test"], found.metrics["accuracy"], found.beats) == (60, 1, True)
    assert compared(found, rows) == (60, 60, True)


@pytest.mark.parametrize(
    ("champion", "against", "newer", "serves", "said"),
    [
        (None, None, False, True, "the first version serves"),
        (2, None, False, True, "cannot be compared with version 2"),
        (2, None, True, False, "version 2 began to serve while this one was trained"),
        (2, {"n": 0, "held_out": 40, "known": True, "least": 20}, False, False, "learned from all 40 rows"),
        (2, {"n": 30, "known": True, "rmse": GAIN}, False, True, "of 40 held out those that it has not learned from"),
        (2, {"n": 40, "known": False, "rmse": GAIN}, False, True, "may have learned from some: that is not known"),
        (2, {"n": 9, "known": True, "rmse": GAIN}, False, False, "20 are the least"),
    ],
)
def test_which_version_serves(champion: Any, against: Any, newer: bool, serves: bool, said: str):
    found = against and {"held_out": 40, "least": 20, **against}
    verdict = judged("m", 3, champion, (None, None), found, newer=newer)
    assert (verdict.serves, said in verdict.said) == (serves, True), verdict.said
    assert serves or "foretide models promote m 3" in verdict.said


def test_a_class_that_appears_only_later_has_no_share_and_does_no_harm():
    rows = [*({"a": n, "b": 0, "c": n % 2 > 0, "at": n} for n in range(80))]
    rows = [{**row, "c": "odd" if row["c"] else "even"} for row in rows]
    rows += [{"a": 500, "b": 1, "c": "late", "at": 100 + n} for n in range(20)]
    found = trained(rows, target="c", time="at")
    assert found.model.labels == ("even", "late", "odd")
    assert found.model.predict(np.array([[500.0, 1.0]])).detail[0, 1] == 0
    assert found.beats is False


def test_lines_clusters_and_outliers():
    line = trained(events(100), "linear_regression", target="c")
    assert line.metrics["r2"] == pytest.approx(1)
    assert line.importances["built_in"]["a"] == pytest.approx(0.75, abs=0.05)
    spots = [{"a": 100.0 * (n % 3) + n / 1e3, "b": 5} for n in range(90)]
    clusters = trained(spots, "kmeans")
    assert sorted(clusters.details["sizes"]) == [30, 30, 30]
    assert sorted(round(center[0]) for center in clusters.details["centers"]) == [0, 100, 200]
    assert len(set(clusters.details["labels"][:3])) == 3
    assert clusters.metrics["inertia"] < clusters.baselines["one_cluster"]["inertia"]
    away = trained([*events(200), {"a": 99, "b": -99}], "isolation_forest")
    assert away.details["labels"][-1] == -1
    assert set(away.details["labels"]) == {-1, 1}


@pytest.mark.parametrize(
    ("given", "rows", "said"),
    [
        ({"target": "c"}, [], "too few"),
        ({"target": "c"}, [{"a": 1, "b": 2, "c": "same"}] * 30, "nothing to tell apart"),
        ({"target": "c"}, [{"a": 1, "b": 2, "c": 1}, {"a": 1, "b": 2, "c": "x"}], "say which by task"),
        ({"target": "c"}, [{"a": 1, "c": n} for n in range(30)], "no event has the feature b"),
        ({"target": "c", "algorithm": "linear_regression"}, events(30, "text"), "random_forest can"),
        ({"algorithm": "kmeans"}, [{"a": 1, "b": 1}] * 30, "cannot make 3 clusters"),
        ({"target": "c", "task": "classification"}, events(200), "at most 100"),
    ],
)
def test_what_cannot_be_learned_says_why(given: dict[str, Any], rows: list[Any], said: str):
    with pytest.raises((Invalid, NotEnoughData), match=said):
        trained(rows, **given)


def test_bad_events_are_left_out_and_named():
    reader = Reader(("a", "x/y"), "c", "at")
    good = {"a": 1, "x/y": None, "c": 2, "at": "2026-01-01T00:00:00Z"}
    reader.add([good, {**good, "a": "fast"}, 7, {**good, "x/y": [1]}, {**good, "c": None}])
    reader.add([{**good, "at": "2026-01-01T00:00:00"}, {**good, "at": "soon"}, {**good, "at": 5}])
    table = reader.table()
    assert [error.pointer for error in reader.errors] == [
        "/events/1/a", "/events/2", "/events/3/x~1y", "/events/4/c", "/events/5/at", "/events/6/at",
    ]  # fmt: skip
    assert (reader.count, reader.left_out, len(table.X)) == (8, 6, 2)
    assert table.times.tolist() == [5_000_000, 1767225600000000]


@pytest.mark.parametrize(
    "at", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-01:00", -1e11, 253_402_300_800, 1e300, -(10**400), True]
)
def test_times_that_no_date_can_tell_are_no_good(at: Any):
    reader = Reader(("a",), None, "at")
    reader.add([{"a": 1, "at": at}])
    assert [error.pointer for error in reader.errors] == ["/events/0/at"]


def test_distances_from_many_centers_are_told_in_little_memory():
    centers = np.random.default_rng(1).normal(0, 1, (200, 200))
    model = packed("kmeans", Centers(centers), None, 200)
    tracemalloc.start()
    found = model.predict(centers.repeat(5, axis=0))
    most = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    assert found.value.tolist() == np.arange(200).repeat(5).tolist()
    assert most < 30, f"{most:.0f} MiB"


def test_forests_hold_no_more_than_whoever_asks_them_can():
    rows = [{"a": n, "b": n * n % 71, "c": f"c{n * 37 % 100}"} for n in range(2000)]
    params = {"n_estimators": 500, "max_depth": 30}
    body = trained(rows, target="c", params=params).model.body
    assert isinstance(body, Forest)
    assert general.MOST_NUMBERS / 2 < body.trees.value.shape[0] * (2 + 100) <= general.MOST_NUMBERS


def test_classes_of_one_writing_are_told_apart_from_each_other():
    with pytest.raises(Invalid, match="true is there as text"):
        trained([{"a": n, "b": 1, "c": "true" if n % 2 else True} for n in range(40)], target="c")


def test_missing_values_follow_the_rule():
    rows = [{"a": 10.0 * (n % 2), "c": n % 2, "b": 1} for n in range(40)] + [{"b": 2, "c": 1}]
    model = trained(rows, target="c").model
    assert model.fill[0] == pytest.approx(5, abs=0.5)
    assert trained(rows, target="c", missing="zero").model.fill[0] == 0
    assert trained(rows, target="c", missing="drop").rows["events"] == 40


@pytest.mark.parametrize(
    ("given", "pointer"),
    [
        ({"params": {"n_estimators": 0}}, "/params/n_estimators"),
        ({"params": {"n_estimators": 2.5}}, "/params/n_estimators"),
        ({"params": {"depth": 3}}, "/params/depth"),
        ({"features": ["a", "a"]}, "/features"),
        ({"target": None}, "/target"),
        ({"target": "a"}, "/target"),
        ({"time": "b"}, "/time"),
        ({"algorithm": "kmeans"}, "/target"),
        ({"algorithm": "linear_regression", "task": "classification"}, "/task"),
    ],
)
def test_recipes_point_at_what_is_wrong(given: dict[str, Any], pointer: str):
    with pytest.raises(Invalid) as refused:
        Recipe.of({"algorithm": "random_forest", "features": ["a", "b"], "target": "c", "params": {}, **given})
    assert [error.pointer for error in refused.value.errors] == [pointer]


def test_a_recipe_survives_its_job_and_defaults_keep_to_their_bounds():
    recipe = Recipe.of({"algorithm": "kmeans", "features": ["a"], "params": {"n_clusters": 5}})
    assert Recipe.of(recipe.as_json()) == recipe
    assert all(b.least <= b.default <= b.most for a in Algorithm for b in PARAMS[a].values())


def test_a_bad_cell_names_its_row():
    model = packed("kmeans", packing_models.pack_kmeans(KMeans(1).fit([[1.0]])), None, 1)
    with pytest.raises(BadCell) as bad:
        model.matrix([{"f0": 1}, {"f0": "x"}])
    assert (bad.value.row, bad.value.name) == (1, "f0")
    assert np.isnan(model.matrix([{}])).all()
