"""Made-up worlds to route in: sites with load that readers cannot see, and readers (step: route).

A scenario is fixed by its seed: arrivals, hidden load and every draw of service are the same for all policies.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Rng = np.random.Generator

REGIMES = ("calm", "drain", "spike", "periodic", "correlated", "death", "tails", "mix", "slow_feedback")
TRAFFIC = ("sparse", "busy", "several", "mixed")
CELLS = tuple((regime, traffic) for regime in REGIMES for traffic in TRAFFIC)
LENGTH_S, WARM_S = 900, 90
"""Of a scenario, and of its beginning that is not counted."""
SLA_MS = 300.0
TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Site:
    """An endpoint: `servers` that each take one request at a time, first come first served."""

    servers: int
    service_s: float
    """Mean time of a request on an idle server."""
    round_trip_s: float
    load: Floats
    """Hidden load as a share of what the servers can do, by second."""
    dead: npt.NDArray[np.bool_]
    """Seconds in which it answers nothing."""
    fail_s: float
    """How long a request takes to fail while it is dead."""


@dataclass(frozen=True)
class Scenario:
    """Sites, readers and draws. `arrival` is sorted, in seconds; `reader` says whose request it is."""

    regime: str
    traffic: str
    seed: int
    sites: tuple[Site, ...]
    arrival: Floats
    reader: Ints
    readers: int
    service: Floats
    """Seconds of service of each request at each site, shape (requests, sites): 30–70 % of the variance of its
    logarithm belongs to the request, so that a hedge is no independent draw."""
    hidden: tuple[tuple[Floats, Floats], ...]
    """By site: when hidden requests arrive, and how long they take; seconds."""
    late: Floats
    """Seconds from an answer until its reader knows, by request: a transfer that goes on after its first bytes."""


def scenario(number: int, seed: int) -> Scenario:
    """The n-th scenario of a seed; the cells of regime and traffic take turns."""
    regime, traffic = CELLS[number % len(CELLS)]
    rng = np.random.default_rng([seed, number])
    count = int(rng.integers(3, 6))
    spread = rng.uniform(0.9, 1.3) if regime == "tails" else rng.uniform(0.3, 0.6)
    loads, dead = _loads(regime, count, rng)
    sites = tuple(_site(loads[n], dead[n], rng) for n in range(count))
    arrival, reader, readers = _arrivals(traffic, sites, rng)
    shared = rng.uniform(0.3, 0.7)
    draws = np.sqrt(shared) * rng.standard_normal((len(arrival), 1))
    draws = spread * (draws + np.sqrt(1 - shared) * rng.standard_normal((len(arrival), count)))
    means = np.array([site.service_s for site in sites])
    service = means * np.exp(draws - spread**2 / 2)
    late = rng.exponential(rng.uniform(2.0, 5.0), len(arrival)) if regime == "slow_feedback" else np.zeros(len(arrival))
    hidden = tuple(_hidden(site, spread, rng) for site in sites)
    return Scenario(regime, traffic, seed, sites, arrival, reader, readers, service, hidden, late)


def _site(load: Floats, dead: npt.NDArray[np.bool_], rng: Rng) -> Site:
    return Site(
        servers=int(rng.integers(3, 9)),
        service_s=float(rng.uniform(0.03, 0.09)),
        round_trip_s=float(rng.uniform(0.004, 0.04)),
        load=load,
        dead=dead,
        fail_s=float(rng.choice([0.03, 1.0])),
    )


def _loads(regime: str, count: int, rng: Rng) -> tuple[list[Floats], list[npt.NDArray[np.bool_]]]:
    """Hidden load and death of each site, second by second."""
    loads = [_noise(rng.uniform(0.3, 0.6), rng) for _ in range(count)]
    dead = [np.zeros(LENGTH_S, bool) for _ in range(count)]
    kinds = [regime]
    if regime == "slow_feedback":
        kinds = [str(rng.choice(["drain", "spike", "periodic"]))]
    if regime == "mix":
        kinds = [str(kind) for kind in rng.choice(["drain", "spike", "periodic", "death"], 2, replace=False)]
    for kind in kinds:
        _disturb(kind, loads, dead, rng)
    return [np.clip(load, 0.02, 1.6) for load in loads], dead


def _disturb(kind: str, loads: list[Floats], dead: list[npt.NDArray[np.bool_]], rng: Rng) -> None:
    seconds = np.arange(LENGTH_S)
    victims = rng.permutation(len(loads))[: max(1, len(loads) // 2)]
    if kind == "drain":
        for site in victims:
            ramp = rng.uniform(120, 300)
            loads[site] += _ramp(seconds, rng.uniform(100, 450), ramp, rng.uniform(40, 120), rng.uniform(0.6, 0.9))
    elif kind == "spike":
        for site in victims:
            for begin in rng.uniform(80, LENGTH_S - 80, int(rng.integers(2, 5))):
                loads[site] += _ramp(seconds, begin, 2.0, rng.uniform(15, 50), rng.uniform(0.7, 1.0))
    elif kind == "periodic":
        for site in victims:
            period, size = rng.uniform(60, 240), rng.uniform(0.45, 0.7)
            loads[site] += size * np.clip(np.sin(2 * np.pi * (seconds / period + rng.uniform())), 0, None)
    elif kind == "correlated":
        for begin in rng.uniform(80, LENGTH_S - 150, int(rng.integers(2, 4))):
            common = _ramp(seconds, begin, rng.uniform(5, 60), rng.uniform(20, 60), 1.0)
            for load in loads:
                load += common * rng.uniform(0.3, 0.8)
    elif kind == "death":
        for site in victims[:1]:
            for begin in rng.uniform(100, LENGTH_S - 200, int(rng.integers(1, 3))):
                dead[site] |= (seconds >= begin) & (seconds < begin + rng.uniform(40, 150))


def _ramp(seconds: Ints, begin: float, rise: float, hold: float, size: float) -> Floats:
    """Rises, holds and falls twice as fast as it rose."""
    up = np.clip((seconds - begin) / rise, 0, 1)
    down = np.clip((seconds - begin - rise - hold) / max(2.0, rise / 2), 0, 1)
    return np.asarray(size * (up - down), float)


def _noise(level: float, rng: Rng) -> Floats:
    """A level that wanders a little (a process of Ornstein and Uhlenbeck, 30 s)."""
    steps = rng.standard_normal(LENGTH_S) * 0.05 * np.sqrt(2 / 30)
    found, value = np.empty(LENGTH_S), 0.0
    for second, step in enumerate(steps):
        value += step - value / 30
        found[second] = level + value
    return found


def _arrivals(traffic: str, sites: tuple[Site, ...], rng: Rng) -> tuple[Floats, Ints, int]:
    """Poisson readers: one of 1–4 requests a second, one of many, several, or one of many and some of few."""
    room = min(site.servers / site.service_s for site in sites)
    busy = float(rng.uniform(0.3, 0.9) * room)
    rates = {
        "sparse": [float(rng.uniform(1, 4))],
        "busy": [busy],
        "several": [busy / 6] * 6,
        "mixed": [busy / 2] + [float(rng.uniform(1, 4))] * 5,
    }[traffic]
    times, owners = [], []
    for reader, rate in enumerate(rates):
        count = rng.poisson(rate * LENGTH_S)
        times.append(rng.uniform(0, LENGTH_S, count))
        owners.append(np.full(count, reader))
    arrival, reader_of = np.concatenate(times), np.concatenate(owners)
    order = np.argsort(arrival)
    return arrival[order], reader_of[order], len(rates)


def _hidden(site: Site, spread: float, rng: Rng) -> tuple[Floats, Floats]:
    """Hidden requests of a site: as many as its load says, each as long as anyone's."""
    per_second = rng.poisson(site.load * site.servers / site.service_s)
    seconds = np.repeat(np.arange(LENGTH_S), per_second)
    times = np.sort(seconds + rng.uniform(size=len(seconds)))
    service = site.service_s * np.exp(spread * rng.standard_normal(len(times)) - spread**2 / 2)
    return times, service
