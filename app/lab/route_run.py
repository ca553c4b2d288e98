"""Plays one scenario under one policy, event by event (step: route)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush

import numpy as np
import numpy.typing as npt

from app.domain.balancing import Balancer
from app.lab.route_queue import Queue
from app.lab.route_world import LENGTH_S, SLA_MS, TIMEOUT_S, WARM_S, Floats, Scenario

Bools = npt.NDArray[np.bool_]
PROBE, ANSWER, HEDGE, TICK = range(4)
FIRST = -1
"""Index of the request in events that concern none."""


@dataclass
class Seen:
    """What the readers saw of the sites, shared: one row an answer. For training and for risk."""

    at: list[float] = field(default_factory=list)
    site: list[int] = field(default_factory=list)
    latency_ms: list[float] = field(default_factory=list)
    ok: list[bool] = field(default_factory=list)

    def add(self, at: float, site: int, latency_ms: float, *, ok: bool) -> None:
        """Adds an answer."""
        self.at.append(at)
        self.site.append(site)
        self.latency_ms.append(latency_ms)
        self.ok.append(ok)


@dataclass(frozen=True)
class Played:
    """What came of a scenario under one policy, the beginning left out."""

    latency_ms: Floats
    """Of each request; those that failed took as long as it took to know."""
    missed: Bools
    hedges: int
    probes: int
    avoided: Floats
    """The share of readers that avoided a site, by second and site; shape (seconds, sites)."""
    seen: Seen


Watch = Callable[[float, Seen, Sequence[Balancer]], None]
"""Called each second with the time, what was seen so far and the readers' balancers: where a model speaks."""


def play(world: Scenario, make: Callable[[int, int], Balancer], watch: Watch | None = None) -> Played:
    """Every reader gets a balancer of its own, made from the number of sites and a seed."""
    return _Game(world, make, watch).run()


class _Game:
    def __init__(self, world: Scenario, make: Callable[[int, int], Balancer], watch: Watch | None) -> None:
        self.world, self.watch = world, watch
        count = len(world.sites)
        self.queues = [Queue(site, hidden) for site, hidden in zip(world.sites, world.hidden, strict=True)]
        self.readers = [make(count, world.seed + reader) for reader in range(world.readers)]
        self.among = list(range(count))
        self.events: list[tuple[float, int, int, int, int, float, bool]] = []
        self.order = 0
        requests = len(world.arrival)
        self.done_ms = np.full(requests, np.inf)
        self.open = np.zeros(requests, np.int8)
        self.failed = np.ones(requests, bool)
        self.hedged = self.probed = 0
        self.avoided = np.zeros((LENGTH_S, count))
        self.seen = Seen()

    def run(self) -> Played:
        world, position = self.world, 0
        arrivals, owners = world.arrival, world.reader
        for second in range(LENGTH_S):
            self._push(float(second), TICK, FIRST, 0, 0.0, ok=True)
        while position < len(arrivals) or self.events:
            if position < len(arrivals) and (not self.events or arrivals[position] <= self.events[0][0]):
                self._arrive(float(arrivals[position]), position, int(owners[position]))
                position += 1
            else:
                self._event(*heappop(self.events))
        counted = world.arrival >= WARM_S
        missed = self.failed | (self.done_ms > SLA_MS)
        latency = np.minimum(self.done_ms, TIMEOUT_S * 1000)
        return Played(latency[counted], missed[counted], self.hedged, self.probed, self.avoided, self.seen)

    def _push(self, at: float, kind: int, request: int, site: int, latency_ms: float, *, ok: bool) -> None:
        self.order += 1
        heappush(self.events, (at, self.order, kind, request, site, latency_ms, ok))

    def _arrive(self, now: float, request: int, owner: int) -> None:
        reader = self.readers[owner]
        site = reader.choose(now, self.among).site
        hedge = reader.hedge(now, site, self.among)
        self._send(now, request, site, owner)
        if hedge is not None:
            self._push(now + hedge.after_ms / 1000, HEDGE, request, hedge.site, 0.0, ok=True)

    def _send(self, now: float, request: int, site: int, owner: int) -> None:
        self.readers[owner].sent(site)
        self.open[request] += 1
        took, ok = self._take(now, site, float(self.world.service[request, site]))
        known = now + took + (float(self.world.late[request]) if ok else 0.0)
        took_ms = took * 1000
        if ok:
            since = (now - float(self.world.arrival[request])) * 1000 + took_ms
            self.done_ms[request] = min(self.done_ms[request], since)
            self.failed[request] = False
        elif self.failed[request]:
            self.done_ms[request] = (now - float(self.world.arrival[request])) * 1000 + took_ms
        self._push(known, ANSWER, request, site, took_ms, ok=ok)

    def _take(self, now: float, site: int, service_s: float) -> tuple[float, bool]:
        """Seconds until the reader knows, and whether it is an answer."""
        queue, world = self.queues[site], self.world.sites[site]
        if queue.is_dead(now):
            return world.fail_s, False
        took = world.round_trip_s + queue.take(now, service_s)
        return (took, True) if took < TIMEOUT_S else (TIMEOUT_S, False)

    def _event(self, now: float, _: int, kind: int, request: int, site: int, latency_ms: float, ok: bool) -> None:
        if kind == ANSWER:
            self.readers[self.world.reader[request]].learned(site, now, latency_ms, ok=ok)
            self.seen.add(now, site, latency_ms, ok=ok)
        elif kind == HEDGE:
            self._hedge(now, request, site)
        elif kind == PROBE:
            self.readers[request].learned(site, now, latency_ms, ok=ok, was_sent=False)
            self.seen.add(now, site, latency_ms, ok=ok)
        else:
            self._tick(now)

    def _hedge(self, now: float, request: int, site: int) -> None:
        owner = int(self.world.reader[request])
        waiting = now - float(self.world.arrival[request])
        if self.done_ms[request] / 1000 <= waiting and not self.failed[request]:
            return
        if self.readers[owner].spend():
            self.hedged += now >= WARM_S
            self._send(now, request, site, owner)

    def _tick(self, now: float) -> None:
        if self.watch:
            self.watch(now, self.seen, self.readers)
        for owner, reader in enumerate(self.readers):
            for site in reader.tick(now):
                took, ok = self._take(now, site, self.world.sites[site].service_s)
                self.probed += now >= WARM_S
                self._push(now + took, PROBE, owner, site, took * 1000, ok=ok)
            for site in self.among:
                self.avoided[int(now), site] += reader.avoids(site, now) / len(self.readers)
