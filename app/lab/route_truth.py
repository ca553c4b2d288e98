"""What a site would have taken under its even share of the reads: when it really was slow (step: route).

Measured beside every policy alike: a site that nobody asks would else look well, and leaving it look needless.
"""

from __future__ import annotations

from functools import reduce

import numpy as np

from app.lab.route_queue import Queue
from app.lab.route_run import Bools
from app.lab.route_world import LENGTH_S, SLA_MS, TIMEOUT_S, Floats, Scenario

OVER_S = 10
"""A site is slow while its mean of so many seconds is over the SLA."""


def slow(world: Scenario) -> Bools:
    """Whether a site is slow or dead, by second; shape (seconds, sites)."""
    return np.column_stack([_slow(world, site) for site in range(len(world.sites))])


def _slow(world: Scenario, site: int) -> Bools:
    here, queue = world.sites[site], Queue(world.sites[site], world.hidden[site])
    total, number = np.zeros(LENGTH_S), np.zeros(LENGTH_S)
    for request in range(site, len(world.arrival), len(world.sites)):
        at = float(world.arrival[request])
        took = here.round_trip_s + queue.take(at, float(world.service[request, site]))
        total[int(at)] += min(took, TIMEOUT_S)
        number[int(at)] += 1
    window = np.ones(OVER_S)
    totals, numbers = (np.convolve(part, window)[:LENGTH_S] for part in (total, number))
    means = np.where(numbers > 0, totals / np.maximum(numbers, 1), 0.0)
    return np.asarray((means * 1000 > SLA_MS) | here.dead)


def onsets(state: Bools, least_s: int = 5, apart_s: int = 30) -> list[tuple[int, int]]:
    """Begin and end of each time that one site is slow; those closer than `apart_s` are one, short ones none."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], state, [False]]).astype(np.int8)))
    spans = [(int(begin), int(end)) for begin, end in edges.reshape(-1, 2)]

    def join(found: list[tuple[int, int]], span: tuple[int, int]) -> list[tuple[int, int]]:
        if found and span[0] - found[-1][1] < apart_s:
            return [*found[:-1], (found[-1][0], span[1])]
        return [*found, span]

    joined: list[tuple[int, int]] = reduce(join, spans, [])
    return [(begin, end) for begin, end in joined if end - begin >= least_s]


def false_share(avoided: Floats, state: Bools, warm_s: int, grace_s: int = 30) -> float:
    """The share of site-time in which a site was avoided though it was not slow, nor had been in the last `grace_s`."""
    recent = np.zeros_like(state)
    for back in range(grace_s + 1):
        recent[back:] |= state[: len(state) - back] if back else state
    return float((avoided * ~recent)[warm_s:].mean())
