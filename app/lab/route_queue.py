"""A site's queue in a simulation: first come, first served, by several servers (step: route)."""

from __future__ import annotations

import numba
import numpy as np

from app.lab.route_world import Floats, Site


@numba.njit(cache=True)
def _serve(free: Floats, times: Floats, service: Floats, position: int, until: float) -> int:
    """Gives the hidden requests up to a time to whichever server is free first; returns the next one's position."""
    while position < len(times) and times[position] <= until:
        first = 0
        for n in range(1, len(free)):
            if free[n] < free[first]:
                first = n
        begin = times[position] if times[position] > free[first] else free[first]
        free[first] = begin + service[position]
        position += 1
    return position


class Queue:
    """When each server is free again; hidden requests come between those of the readers."""

    def __init__(self, site: Site, hidden: tuple[Floats, Floats]) -> None:
        self._site = site
        self._times, self._service = hidden
        self._free = np.zeros(site.servers)
        self._position = 0

    def wait(self, now: float) -> float:
        """Seconds that a request which comes now would wait for a server."""
        self._position = _serve(self._free, self._times, self._service, self._position, now)
        return max(0.0, float(self._free.min()) - now)

    def take(self, now: float, service_s: float) -> float:
        """Takes a request of a reader; returns the seconds until it is served. Called in the order of time."""
        self._position = _serve(self._free, self._times, self._service, self._position, now)
        first = int(self._free.argmin())
        begin = max(now, float(self._free[first]))
        self._free[first] = begin + service_s
        return begin + service_s - now

    def is_dead(self, now: float) -> bool:
        """Whether requests fail now."""
        return bool(self._site.dead[min(int(now), len(self._site.dead) - 1)])
