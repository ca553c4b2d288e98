"""Trains users' models over their own events and measures them on rows that they did not see (step: learn).

Where events have a time, the latest fifth is held out; else a fifth drawn by the seed and by what is in each event. The
model that serves is the one that was measured. Each measure stands beside that of a named baseline.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from app.errors import Invalid, NotEnoughData
from ml import packing_models
from ml.general_measures import LEAST_JUDGED, gain, importances_of, losses, measure
from ml.general_parts import Learned, parts
from ml.general_rows import Table
from ml.serving import Floats, Ints
from ml.serving_models import Body, General, Label, label_text

MOST_CLASSES = 100
MOST_A_TREE = 200_000
"""A tree learns from so many rows at most, drawn anew for each."""
MOST_NUMBERS = 6_000_000
"""A forest holds so many at most, 50 MB: whoever asks it has it in memory. Its leaves are as many as that allows."""
TREES_AT_ONCE, MANY = 5, 50_000
"""Of more rows trees are grown one by one, so that nobody waits long for word or for an end."""
MOST_TOLD = 10_000
"""Of so many events at most, clusters and outliers are told one by one."""

Tell = Callable[[int, int], None]


@dataclass(frozen=True)
class Wanted:
    """What to train. task: auto, classification or regression; missing: mean or zero; time: the field of the times."""

    algorithm: str
    names: tuple[str, ...]
    task: str
    scale: bool
    missing: str
    params: Mapping[str, float]
    seed: int
    time: str | None = None


@dataclass(frozen=True)
class Trained:
    """A model with what was found of it. `beats`: the baseline on rows held out; None where nothing was measured."""

    model: General
    task: str
    rows: Mapping[str, int]
    split: str
    metrics: Mapping[str, Any]
    baselines: Mapping[str, Any]
    importances: Mapping[str, Any]
    details: Mapping[str, Any]
    beats: bool | None
    reason: str
    against: Mapping[str, Any] | None
    """The gain over the version that serves on `n` rows held out; None where the two cannot be compared.

    `known`: whether it is known that the version that serves has learned from none of these; of `held_out` rows others
    are left out then.
    """
    learned: Learned


def train(
    table: Table, wanted: Wanted, tell: Tell, serving: General | None = None, seen: Learned | None = None
) -> Trained:
    """tell: called with steps done and their number. Raises Invalid or NotEnoughData where nothing can be learned.

    serving: the version that tells the same target now; seen: what it has learned from, None where that is not known.
    """
    from threadpoolctl import threadpool_limits

    if len(table.X) < 2:
        raise NotEnoughData(f"{len(table.X)} good events are too few to learn from; 2 are the least")
    absent = [name for name, column in zip(wanted.names, table.X.T, strict=True) if np.isnan(column).all()]
    if absent:
        raise Invalid(f"no event has the feature {', '.join(absent)}")
    task, labels, y = _target(table.target, wanted)
    learn, test, split, learned = parts(table, wanted.time, wanted.seed)
    if labels and len(np.unique(y[learn])) < 2:
        raise NotEnoughData("all events that are not held out have the same target: nothing can be told apart")
    fill, mean, scale = _prepared(table.X[learn], wanted)
    Z = (np.where(np.isnan(table.X[learn]), fill, table.X[learn]) - mean) / scale
    with threadpool_limits(1):
        estimator, body = _fit(Z, y[learn] if len(y) else None, len(labels), wanted, tell)
    model = General(wanted.algorithm, wanted.names, labels, fill, mean, scale, body)
    found = measure(
        model, y[learn] if len(y) else y, table.X[learn], y[test] if len(y) else y, table.X[test], wanted.seed
    )
    return Trained(
        model,
        task,
        {"train": len(learn), "test": len(test), "events": len(table.X)},
        split,
        found.metrics,
        found.baselines,
        importances_of(model, estimator, table.X[learn], y[test] if len(y) else y, table.X[test], wanted.seed),
        _details(model, table.X),
        found.beats,
        found.reason,
        _against(model, serving, seen, table, y, test, wanted) if len(y) and len(test) else None,
        learned,
    )


def _against(
    model: General,
    serving: General | None,
    seen: Learned | None,
    table: Table,
    y: Floats,
    test: Ints,
    wanted: Wanted,
) -> dict[str, Any] | None:
    """None unless the other tells the same classes, or numbers, of some of the same features."""
    if serving is None or serving.labels != model.labels or not set(serving.names) <= set(model.names):
        return None
    new = seen.unseen(table, wanted.time, test) if seen else None
    rows = test if new is None else new
    found = {"n": len(rows), "held_out": len(test), "known": new is not None, "least": LEAST_JUDGED}
    if not len(rows):
        return found
    mine, X = losses(model, y[rows], table.X[rows]), table.X[rows]
    other = losses(serving, y[rows], X[:, [model.names.index(name) for name in serving.names]])
    by = "log_loss" if model.labels else "rmse"
    return found | {by: gain(mine, other, by, wanted.seed)}


def _target(target: tuple[Label, ...], wanted: Wanted) -> tuple[str, tuple[Label, ...], Floats]:
    """What is told, the classes in order, and the target as numbers: those of classes are their indexes."""
    if not target:
        return {"kmeans": "clusters"}.get(wanted.algorithm, "outliers"), (), np.zeros(0)
    kinds = {"a number" if type(value) is float else "a class" for value in target}
    task = wanted.task
    if task == "auto":
        if len(kinds) > 1:
            raise Invalid("some targets are numbers and others are not; say which by task")
        task = "regression" if kinds == {"a number"} else "classification"
    if task == "regression":
        if kinds != {"a number"}:
            raise Invalid(f"{wanted.algorithm} tells numbers here, and some targets are none")
        return task, (), np.array(target, float)
    if wanted.algorithm != "random_forest":
        raise Invalid(f"the targets are classes, which {wanted.algorithm} cannot tell; random_forest can")
    labels = sorted(set(target), key=lambda label: (type(label).__name__, label))
    written = [label_text(label) for label in labels]
    if twice := [text for text in written if written.count(text) > 1]:
        raise Invalid(f"the target {twice[0]} is there as text and as another type; write it in one way")
    if len(labels) < 2:
        raise NotEnoughData(f"every event has the same target, {labels[0]!r}: there is nothing to tell apart")
    if len(labels) > MOST_CLASSES:
        raise Invalid(f"the targets are {len(labels)} classes; at most {MOST_CLASSES} are told apart")
    index = {(type(label), label): number for number, label in enumerate(labels)}
    return task, tuple(labels), np.array([index[type(value), value] for value in target], float)


def _prepared(X: Floats, wanted: Wanted) -> tuple[Floats, Floats, Floats]:
    """What missing features count as, and how rows are standardized: by the rows that are learned from."""
    n = X.shape[1]
    known = ~np.isnan(X)
    fill = np.zeros(n)
    if wanted.missing == "mean":
        fill = np.where(known, X, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    if not wanted.scale:
        return fill, np.zeros(n), np.ones(n)
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(np.where(known, X, fill))
    return fill, scaler.mean_, scaler.scale_


def _fit(Z: Floats, y: Floats | None, classes: int, wanted: Wanted, tell: Tell) -> tuple[Any, Body]:
    params = wanted.params
    if wanted.algorithm == "random_forest":
        forest = _forest(Z, y, wanted, tell, classes)
        return forest, packing_models.pack_forest(forest, classes)
    tell(0, 1)
    found: tuple[Any, Body]
    if wanted.algorithm == "linear_regression":
        from sklearn.linear_model import LinearRegression

        linear = LinearRegression().fit(Z, y)
        found = linear, packing_models.pack_linear(linear)
    elif wanted.algorithm == "kmeans":
        from sklearn.cluster import KMeans

        clusters = int(params["n_clusters"])
        _check_distinct(Z, clusters)
        kmeans = KMeans(clusters, n_init=int(params["n_init"]), random_state=wanted.seed).fit(Z)
        found = kmeans, packing_models.pack_kmeans(kmeans)
    else:
        from sklearn.ensemble import IsolationForest

        trees, share = int(params["n_estimators"]), params["contamination"]
        isolation = IsolationForest(n_estimators=trees, contamination=share, random_state=wanted.seed, n_jobs=1).fit(Z)
        found = isolation, packing_models.pack_isolation(isolation)
    tell(1, 1)
    return found


def _forest(Z: Floats, y: Floats | None, wanted: Wanted, tell: Tell, classes: int) -> Any:
    """Grown some trees at a time, so that others see how far it is and can stop it."""
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    kind = RandomForestClassifier if classes else RandomForestRegressor
    total = int(wanted.params["n_estimators"])
    growth = {name: int(wanted.params[name]) for name in ("max_depth", "min_samples_leaf")}
    drawn = MOST_A_TREE if len(Z) > MOST_A_TREE else None
    leaves = _most_leaves(drawn or len(Z), growth, total, classes)
    forest = kind(
        0, **growth, max_leaf_nodes=leaves, max_samples=drawn, warm_start=True, n_jobs=1, random_state=wanted.seed
    )
    X = Z.astype(np.float32)
    step = TREES_AT_ONCE if len(Z) <= MANY else 1
    for grown in range(step, total + step, step):
        forest.set_params(n_estimators=min(grown, total)).fit(X, y)
        tell(min(grown, total), total)
    return forest


def _most_leaves(rows: int, growth: Mapping[str, int], trees: int, classes: int) -> int | None:
    """Of a tree, where all together could hold too many numbers; else None. The leaves that tell most are kept."""
    a_node = 2 + max(classes, 1)
    most = max(2, MOST_NUMBERS // (2 * trees * a_node))
    possible = min(rows // growth["min_samples_leaf"], 2 ** growth["max_depth"])
    return most if possible > most else None


def _check_distinct(Z: Floats, clusters: int) -> None:
    for rows in (Z[:MOST_TOLD], Z):  # the first ones mostly settle it
        distinct = len(np.unique(rows, axis=0))
        if distinct >= clusters:
            return
    raise NotEnoughData(f"{distinct} different events cannot make {clusters} clusters")


def _details(model: General, X: Floats) -> dict[str, Any]:
    """What clustering and isolation say of the events themselves."""
    if model.algorithm not in ("kmeans", "isolation_forest"):
        return {}
    labels = model.predict(X).value.astype(int)
    found: dict[str, Any] = {"labels": labels.tolist()} if len(X) <= MOST_TOLD else {}
    if model.algorithm == "kmeans":
        centers = model.body.centers * model.scale + model.mean  # type: ignore[union-attr]  # a kmeans has centers
        found |= {"centers": centers.tolist(), "sizes": np.bincount(labels, minlength=len(centers)).tolist()}
    else:
        found["outliers"] = int((labels < 0).sum())
    return found
