"""What a worker does beside the readers of a simulation: counts shared samples, foresees, tells (step: watch)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from app.domain.balancing import Balancer, Foresight, SourceRule
from app.lab.route_run import Seen
from app.lab.route_world import LENGTH_S, SLA_MS
from ml import latency
from ml.latency import Fitted


@dataclass(frozen=True)
class Models:
    """What speaks to the readers."""

    growth: Fitted
    rule: Fitted
    """The source document's forest."""


class Watcher:
    """Tells the readers each five seconds what is expected of each site."""

    def __init__(self, sites: int, models: Models) -> None:
        self._models = models
        self._counts = latency.Seconds(*(np.zeros((sites, LENGTH_S + 60)) for _ in range(4)))
        self._read = 0

    def __call__(self, now: float, seen: Seen, readers: Sequence[Balancer]) -> None:
        """Counts what is new; each fifth second looks ahead."""
        second = int(now)
        self._count(seen)
        if second % latency.EVERY_S or second < 30:
            return
        found = latency.features(self._counts.window(second))
        if isinstance(readers[0], Foresight):
            risks = latency.risk(found, self._models.growth(found), SLA_MS).tolist()
            for reader in readers:
                if isinstance(reader, Foresight):
                    reader.foresee(risks, now)
        elif isinstance(readers[0], SourceRule):
            expected = self._models.rule(found).tolist()
            for reader in readers:
                if isinstance(reader, SourceRule):
                    reader.expect(expected)

    def _count(self, seen: Seen) -> None:
        counts = self._counts
        for n in range(self._read, len(seen.at)):
            site, second, took = seen.site[n], int(seen.at[n]), seen.latency_ms[n]
            counts.number[site, second] += 1
            counts.total_ms[site, second] += took
            if took > counts.worst_ms[site, second]:
                counts.worst_ms[site, second] = took
            counts.errors[site, second] += not seen.ok[n]
        self._read = len(seen.at)
