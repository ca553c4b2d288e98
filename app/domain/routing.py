"""Which replica a read is sent to: decided from recent samples of each site (the `route` step)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

MIN_SAMPLES = 5
"""Under so many samples of a candidate its latency is not known, and reads take turns (source 000: cold start)."""
ERRORS_IN_ROW = 2
"""So many errors in a row keep a site out while another can answer."""
DECAY = 0.3
"""Weight of the newest sample in the moving average of latency."""


@dataclass(frozen=True)
class Sample:
    """One observation of a site: latency in milliseconds; None when it did not answer."""

    ok: bool
    latency_ms: float | None


@dataclass(frozen=True)
class SiteHealth:
    """What recent samples say of a site; latencies in milliseconds, None while unknown."""

    samples: int
    predicted_ms: float | None
    p95_ms: float | None
    error_rate: float
    errors_in_row: int

    @property
    def is_failing(self) -> bool:
        """Whether its last samples were all errors."""
        return self.errors_in_row >= ERRORS_IN_ROW


UNKNOWN = SiteHealth(0, None, None, 0.0, 0)


@dataclass(frozen=True)
class Candidate:
    """A replica that holds the object's current version, and the health of its site."""

    site: str
    storage_class: str
    reachable: bool
    health: SiteHealth


@dataclass(frozen=True)
class Route:
    """The chosen site, one sentence why, the latency to expect in milliseconds, and what else was there."""

    site: str
    reason: str
    predicted_ms: float | None
    alternatives: tuple[dict[str, object], ...]


def health(samples: Sequence[Sample]) -> SiteHealth:
    """Health from samples, oldest first: moving average, 95th percentile, share of errors, errors in a row."""
    if not samples:
        return UNKNOWN
    latencies = [s.latency_ms for s in samples if s.ok and s.latency_ms is not None]
    average = median(latencies[:MIN_SAMPLES]) if latencies else None
    for latency in latencies[MIN_SAMPLES:]:
        average = DECAY * latency + (1 - DECAY) * (average or 0.0)
    in_row = next((i for i, s in enumerate(reversed(samples)) if s.ok), len(samples))
    return SiteHealth(
        samples=len(samples),
        predicted_ms=average,
        p95_ms=sorted(latencies)[int(0.95 * (len(latencies) - 1))] if latencies else None,
        error_rate=sum(not s.ok for s in samples) / len(samples),
        errors_in_row=in_row,
    )


def choose(candidates: Sequence[Candidate], *, turn: int, sla_ms: float | None = None) -> Route | None:
    """The best replica to read; None when there is none at all. `turn` counts reads, for taking turns.

    Failing and unreachable sites are left out while another candidate remains: a read that may fail beats no read.
    """
    usable = [c for c in candidates if c.reachable and not c.health.is_failing] or list(candidates)
    if not usable:
        return None
    by_name = sorted(usable, key=lambda c: c.site)
    if any(c.health.samples < MIN_SAMPLES or c.health.predicted_ms is None for c in usable):
        chosen = by_name[turn % len(by_name)]
        reason = "round_robin: fewer than 5 samples of a candidate"
    else:
        chosen = min(by_name, key=lambda c: c.health.predicted_ms or 0.0)
        reason = "fastest: lowest predicted latency"
    if len(by_name) == 1:
        reason = "only_replica" if len(candidates) == 1 else "only_usable: the others are failing or unreachable"
    predicted = chosen.health.predicted_ms
    if sla_ms is not None and predicted is not None and predicted > sla_ms:
        reason += f"; over the SLA of {sla_ms:g} ms"
    others = tuple(_alternative(c, usable) for c in sorted(candidates, key=lambda c: c.site) if c is not chosen)
    return Route(chosen.site, reason, predicted, others)


def _alternative(candidate: Candidate, usable: Sequence[Candidate]) -> dict[str, object]:
    if not candidate.reachable:
        why = "unreachable"
    elif candidate not in usable:
        why = f"{candidate.health.errors_in_row} errors in a row"
    else:
        why = "slower or not its turn"
    return {"site": candidate.site, "predicted_ms": candidate.health.predicted_ms, "why_not": why}
