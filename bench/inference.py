"""One row and 100,000 rows through a packed forest, by numpy and compiled loops, against scikit-learn, ONNX Runtime.

Peers get as many threads as we do: scikit-learn by n_jobs, ONNX Runtime by its session. Each figure is the best of
several turns, in which all take part one after the other, so that other work on the machine hits none alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from bench.result import Result, less, more
from bench.rig import Rig
from ml.onnx_form import export_trees
from ml.packing import pack_forest
from ml.serving import Calibration, Packed
from ml.serving_jit import Compiled

TRAIN, FEATURES, TREES, DEPTH = 20_000, 20, 100, 10
MANY = 100_000
TURNS, ONES, MANY_TURNS = 5, 200, 8
NUMPY_LIMIT_US = 60.0
ONE_BAR, ONNX_ONE_BAR, MANY_BAR, ONNX_MANY_BAR = 200.0, 1.0, 3.0, 4.0

Timed = Mapping[str, Callable[[], Any]]


def measure(rig: Rig) -> Iterator[Result]:
    """Microseconds of one row (the median), rows a second of many."""
    from sklearn.ensemble import RandomForestClassifier

    rng = np.random.default_rng(1)
    X = rng.gamma(1.0, 10.0, (TRAIN, FEATURES)).astype(np.float32)
    y = X[:, 0] + X[:, 1] * rng.random(TRAIN) > 15
    forest = RandomForestClassifier(TREES, max_depth=DEPTH, random_state=1, n_jobs=2).fit(X, y)
    forest.n_jobs = None
    trees = pack_forest(forest, range(FEATURES))
    compiled, model = Compiled(trees), export_trees(trees, FEATURES)
    packed = Packed("forest", tuple(map(str, range(FEATURES))), trees, _identity())
    many = rng.gamma(1.0, 10.0, (MANY, FEATURES)).astype(np.float32)
    wanted, onnx = forest.predict_proba(many)[:, 1], _session(model, 1)
    for got in (packed.raw(many), compiled.sums(many)[:, 0] / TREES, onnx(many)):
        assert np.abs(got - wanted).max() < 1e-6
    rig.tell(f"inference: {TREES} trees of depth {DEPTH}, {len(trees.left)} nodes; all give the same to 1e-6")
    one = many[:1]
    us = _medians(
        {
            "numpy": lambda: packed.raw(one),
            "jit": lambda: compiled.sums(one),
            "sklearn": lambda: forest.predict_proba(one),
            "onnx": lambda: onnx(one),
        }
    )
    rig.tell("one row, p50: " + ", ".join(f"{name} {value:,.1f} µs" for name, value in us.items()))
    yield less("inference, one row by numpy", us["numpy"], NUMPY_LIMIT_US, "µs")
    yield less("inference, one row, scikit-learn", us["jit"], us["sklearn"], "µs", ONE_BAR)
    yield less("inference, one row, ONNX Runtime", us["jit"], us["onnx"], "µs", ONNX_ONE_BAR)
    yield from _many(many, compiled, forest, model)


def _many(many: Any, compiled: Compiled, forest: Any, model: bytes) -> Iterator[Result]:
    """Rows a second. With two threads each may use one or two, whichever was faster; scikit-learn's default is one."""

    def by_sklearn(n_jobs: int | None) -> None:
        forest.n_jobs = n_jobs
        forest.predict_proba(many)

    onnx = {threads: _session(model, threads) for threads in (1, 2)}
    seconds = _best(
        {
            "jit 1": lambda: compiled.sums(many),
            "sklearn 1": lambda: by_sklearn(None),
            "onnx 1": lambda: onnx[1](many),
            "jit 2": lambda: compiled.sums(many, 2),
            "sklearn 2": lambda: by_sklearn(2),
            "onnx 2": lambda: onnx[2](many),
        }
    )
    for who in ("jit", "sklearn", "onnx"):
        seconds[f"{who} 2"] = min(seconds[f"{who} {threads}"] for threads in (1, 2))
    rate = {name: MANY / each for name, each in seconds.items()}
    for threads, told in ((1, "1 thread"), (2, "2 threads")):
        ours, name = rate[f"jit {threads}"], f"inference, {MANY:,} rows, {told}"
        yield more(f"{name}, scikit-learn", ours, rate[f"sklearn {threads}"], "rows/s", MANY_BAR)
        yield more(f"{name}, ONNX Runtime", ours, rate[f"onnx {threads}"], "rows/s", ONNX_MANY_BAR)


def _identity() -> Calibration:
    return Calibration(*(np.array([0.0, 1.0]) for _ in range(4)))


def _session(model: bytes, threads: int) -> Callable[[Any], Any]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda rows: session.run(["mean"], {"X": rows})[0][:, 0]


def _medians(acts: Timed) -> dict[str, float]:
    """Of each the median in microseconds, in the best of the turns."""
    best = dict.fromkeys(acts, float("inf"))
    for _ in range(TURNS):
        for name, act in acts.items():
            best[name] = min(best[name], float(np.median([_seconds(act) for _ in range(ONES)])) * 1e6)
    return best


def _best(acts: Timed) -> dict[str, float]:
    """Of each the least seconds."""
    best = dict.fromkeys(acts, float("inf"))
    for _ in range(MANY_TURNS):
        for name, act in acts.items():
            best[name] = min(best[name], _seconds(act))
    return best


def _seconds(act: Callable[[], Any]) -> float:
    started = time.perf_counter()
    act()
    return time.perf_counter() - started
