"""Every routing policy over the same made-up scenarios, and what the model earns (step: route)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from app.domain.balancing import FLOOR, POLICIES, Fresh
from app.lab import route_truth
from app.lab.route_run import Bools, Played, Seen, play
from app.lab.route_watch import Models, Watcher
from app.lab.route_world import LENGTH_S, WARM_S, Floats, Scenario, scenario
from ml import latency, latency_rule
from ml.latency import Fitted

TRAINED_ON = 36
"""Scenarios that the model learns from: one of each cell, of another seed than those that are judged."""
OTHER_SEED = 1_000_003
LEAST = 2e-4
"""Misses under this share are as good as none: a ratio of two of them would say nothing."""
RESAMPLES = 1000
LEARNED = {"foretide", "source_rule"}
"""Policies that listen to a model."""
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Result:
    """One scenario under one policy."""

    regime: str
    traffic: str
    misses: float
    latency_ms: Floats
    hedges: float
    probes: float
    """A minute."""
    false_reroute: float


def simulate(scenarios: int, seed: int, names: Sequence[str], progress: Progress) -> dict[str, Any]:
    """The document that `foretide route simulate` prints. All policies see the same arrivals and draws."""
    models = learn(seed, progress)[0] if LEARNED & set(names) else None
    found: dict[str, list[Result]] = {name: [] for name in names}
    for number in range(scenarios):
        world = scenario(number, seed)
        state = route_truth.slow(world)
        for name in names:
            found[name].append(_result(world, state, played(world, name, models)))
        progress(number + 1, scenarios, "scenarios")
    floor = np.array([result.misses for result in found[FLOOR]])
    return {
        "scenarios": scenarios,
        "seed": seed,
        "policies": [_told(name, found[name], floor, seed) for name in names],
    }


def played(world: Scenario, name: str, models: Models | None) -> Played:
    """A scenario under a policy by name; the models speak where the policy listens."""
    return play(world, POLICIES[name], Watcher(len(world.sites), models) if models and name in LEARNED else None)


def counted(seen: Seen, sites: int) -> latency.Seconds:
    """The samples of a whole scenario, by second."""
    at, took = np.array(seen.at), np.array(seen.latency_ms)
    return latency.Seconds.of(at, seen.site, took, seen.ok, sites=sites, begin=0, seconds=LENGTH_S)


def learn(seed: int, progress: Progress) -> tuple[Models, Floats, Floats]:
    """Models of what readers without one saw in other scenarios, with the rows and labels of ml.latency."""
    parts = []
    for number in range(TRAINED_ON):
        world = scenario(number, seed + OTHER_SEED)
        seen = play(world, Fresh).seen
        parts.append(latency.rows(counted(seen, len(world.sites)), 60, LENGTH_S))
        progress(number + 1, TRAINED_ON, "scenarios to learn from")
    X, y = np.concatenate([x for x, _ in parts]), np.concatenate([y for _, y in parts])
    return Models(Fitted(latency.fit(X, y, seed)), Fitted(latency_rule.fit(X, y, seed))), X, y


def _result(world: Scenario, state: Bools, run: Played) -> Result:
    reads = len(run.missed)
    return Result(
        world.regime,
        world.traffic,
        float(run.missed.mean()),
        run.latency_ms,
        run.hedges / reads,
        run.probes / (LENGTH_S - WARM_S) * 60,
        route_truth.false_share(run.avoided, state, WARM_S),
    )


def _told(name: str, results: list[Result], floor: Floats, seed: int) -> dict[str, Any]:
    misses = np.array([result.misses for result in results])
    pooled = np.concatenate([result.latency_ms for result in results])
    p50, p95, p99 = (float(value) for value in np.percentile(pooled, [50, 95, 99]))
    return {
        "name": name,
        "misses": float(misses.mean()),
        "ratio_to_floor": ratio(misses, floor),
        "interval": interval(misses, floor, seed),
        "p50_ms": p50,
        "p95_ms": p95,
        "p99_ms": p99,
        "hedges": float(np.mean([result.hedges for result in results])),
        "probes": float(np.mean([result.probes for result in results])),
        "false_reroute_time": float(np.mean([result.false_reroute for result in results])),
        "per_cell": _cells(results, misses, floor, seed),
    }


def _cells(results: list[Result], misses: Floats, floor: Floats, seed: int) -> list[dict[str, Any]]:
    cells = sorted({(result.regime, result.traffic) for result in results})
    told = []
    for regime, traffic in cells:
        rows = [n for n, result in enumerate(results) if (result.regime, result.traffic) == (regime, traffic)]
        told.append(
            {
                "regime": regime,
                "traffic": traffic,
                "scenarios": len(rows),
                "misses": float(misses[rows].mean()),
                "ratio_to_floor": ratio(misses[rows], floor[rows]),
                "interval": interval(misses[rows], floor[rows], seed),
                "false_reroute_time": float(np.mean([results[n].false_reroute for n in rows])),
            }
        )
    return told


def ratio(misses: Floats, floor: Floats) -> float:
    """Geometric mean over scenarios of misses ÷ the floor's."""
    return float(np.exp(np.log((misses + LEAST) / (floor + LEAST)).mean()))


def interval(misses: Floats, floor: Floats, seed: int) -> list[float] | None:
    """Of 95 %, by drawing scenarios again; None of a single one."""
    if len(misses) < 2:
        return None
    logs = np.log((misses + LEAST) / (floor + LEAST))
    drawn = np.random.default_rng(seed).integers(0, len(logs), (RESAMPLES, len(logs)))
    low, high = np.exp(np.percentile(logs[drawn].mean(axis=1), [2.5, 97.5]))
    return [float(low), float(high)]
