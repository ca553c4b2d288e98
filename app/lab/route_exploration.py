"""What made-up sites are like, and how well their slowness is foreseen: the source's exploration (step: route)."""

from __future__ import annotations

from typing import Any

import numpy as np

from app.domain.balancing import RoundRobin
from app.lab.route_run import play
from app.lab.route_simulation import Progress, counted, learn
from app.lab.route_world import LENGTH_S, REGIMES, SLA_MS, TRAFFIC, WARM_S, Floats, Scenario, scenario
from ml import calibration, latency
from ml.latency import NAMES, Seconds

STEP_S = 10
LAGS_S = 60
BINS = 10
SHOWN = 400
"""Points of the picture of load and latency."""


def explore(seed: int, progress: Progress) -> dict[str, Any]:
    """The document that `foretide route explore` prints: one scenario of each regime, its reads dealt out in turn.

    MAE and R² are of the source's forest, in ms, for the worst mean of 30 s in the next 45 s. Risk is the probability
    that this worst mean is over the SLA; its curve was fitted on other scenarios.
    """
    models, X, y = learn(seed, progress)
    curve = calibration.fit(_level(X, models.growth(X)), _is_slow(X, y))
    worlds = [scenario(4 * n + n % len(TRAFFIC), seed) for n in range(len(REGIMES))]
    seen = []
    for number, world in enumerate(worlds):
        seen.append(counted(play(world, RoundRobin).seen, len(world.sites)))
        progress(number + 1, len(worlds), "scenarios")
    rows = [latency.rows(counts, WARM_S, LENGTH_S) for counts in seen]
    X, y = np.concatenate([x for x, _ in rows]), np.concatenate([label for _, label in rows])
    said = np.interp(_level(X, models.growth(X)), curve.x, curve.p)
    load, took = _load_and_latency(worlds, seen)
    lags = _lags(seen)
    actual, expected = np.exp(X[:, NAMES.index("mean_30s")] + y), models.rule(X)
    came = _is_slow(X, y)
    return {
        "seed": seed,
        "scenarios": len(worlds),
        "load_latency_correlation": float(np.corrcoef(load, np.log(took))[0, 1]),
        "slope_lead_s": int(np.argmax(lags)),
        "slope_correlation": [float(value) for value in lags],
        "mae_ms": float(np.abs(actual - expected).mean()),
        "r2": float(1 - ((actual - expected) ** 2).sum() / ((actual - actual.mean()) ** 2).sum()),
        "base_rate": float(came.mean()),
        "brier": float(((said - came) ** 2).mean()),
        "brier_of_base_rate": float(came.mean() * (1 - came.mean())),
        "reliability": _reliability(said, came),
        "points": _points(load, took, seed),
        "rows": len(y),
    }


def _level(X: Floats, growth: Floats) -> Floats:
    """The foreseen worst mean as a score between 0 and 1: its share of itself and the SLA."""
    worst = np.exp(X[:, NAMES.index("mean_30s")] + growth)
    return np.asarray(worst / (worst + SLA_MS))


def _is_slow(X: Floats, y: Floats) -> Any:
    return X[:, NAMES.index("mean_30s")] + y > np.log(SLA_MS)


def _load_and_latency(worlds: list[Scenario], seen: list[Seconds]) -> tuple[Floats, Floats]:
    """Hidden load and mean latency of each site, by ten seconds in which it answered."""
    loads, means = [], []
    for world, counts in zip(worlds, seen, strict=True):
        shape = (len(world.sites), LENGTH_S // STEP_S, STEP_S)
        number = counts.number.reshape(shape).sum(axis=2)
        total = counts.total_ms.reshape(shape).sum(axis=2)
        load = np.stack([site.load for site in world.sites]).reshape(shape).mean(axis=2)
        alive = ~np.stack([site.dead for site in world.sites]).reshape(shape).any(axis=2)
        kept = (number > 0) & alive
        loads.append(load[kept])
        means.append(total[kept] / number[kept])
    return np.concatenate(loads), np.concatenate(means)


def _lags(seen: list[Seconds]) -> Floats:
    """The correlation of a site's velocity with its latency so many seconds later, on average; by 0 … 60 s."""
    found = []
    for counts in seen:
        kernel = np.ones(STEP_S)
        for number, total in zip(counts.number, counts.total_ms, strict=True):
            sums = np.convolve(total, kernel)[:LENGTH_S] / np.maximum(1, np.convolve(number, kernel)[:LENGTH_S])
            logs = np.log(np.maximum(sums, 1.0))[WARM_S:]
            velocity = logs[STEP_S:] - logs[:-STEP_S]
            if logs.std() < 0.3:
                continue  # a site that is never disturbed has no slope to speak of
            later = [logs[STEP_S + lag : len(logs) - LAGS_S + lag] for lag in range(LAGS_S + 1)]
            found.append([np.corrcoef(velocity[: len(part)], part)[0, 1] for part in later])
    return np.asarray(np.nanmean(np.array(found), axis=0)) if found else np.zeros(LAGS_S + 1)


def _reliability(said: Floats, came: Any) -> list[dict[str, float]]:
    """Of ten bins of as many rows each, or fewer where many say the same: the mean of what was said and what came."""
    return [
        {"p": float(said[rows].mean()), "came": float(came[rows].mean()), "n": len(rows)}
        for rows in np.array_split(np.argsort(said, kind="stable"), BINS)
    ]


def _points(load: Floats, took: Floats, seed: int) -> list[list[float]]:
    some = np.random.default_rng(seed).permutation(len(load))[:SHOWN]
    return [[float(load[n]), float(took[n])] for n in some]
