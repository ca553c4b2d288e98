"""What moves may ask of the sites and of the day: rates, concurrency, the first wave, when a job is stopped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

LEAST_ATTEMPTED = 10
"""Moves that must have ended before their share of errors says anything."""


@dataclass(frozen=True)
class SiteLimits:
    """What all workers together may ask of one site; None: no limit."""

    requests_per_s: float | None = None
    bytes_per_s: float | None = None
    concurrency: int | None = None
    """Requests at the same time."""

    def shared(self, processes: int) -> SiteLimits:
        """The share of one of so many worker processes, so that together they never pass the limit."""
        share = 1 / max(1, processes)
        return SiteLimits(
            None if self.requests_per_s is None else self.requests_per_s * share,
            None if self.bytes_per_s is None else self.bytes_per_s * share,
            None if self.concurrency is None else max(1, int(self.concurrency * share)),
        )


@dataclass(frozen=True)
class Limits:
    """The document `limits` in force."""

    every_site: SiteLimits = SiteLimits()
    sites: Mapping[str, SiteLimits] = field(default_factory=dict)
    """Takes the place of `every_site` for the sites named."""
    canary_moves: int = 16
    """Moves of a job that go first and alone; 0: there is no first wave."""
    abort_error_rate: float = 0.2
    """Share of a job's ended moves that may fail before the job is paused."""

    @staticmethod
    def of(document: Mapping[str, Any]) -> Limits:
        """From the stored document; what is missing has its default."""
        own = {name: document[name] for name in ("canary_moves", "abort_error_rate") if name in document}
        sites = {name: _site(given) for name, given in document.get("sites", {}).items()}
        return Limits(every_site=_site(document), sites=sites, **own)

    def at(self, site: str) -> SiteLimits:
        """The limits of a site."""
        return self.sites.get(site, self.every_site)


def _site(given: Mapping[str, Any]) -> SiteLimits:
    return SiteLimits(given.get("requests_per_s"), given.get("bytes_per_s"), given.get("concurrency"))


@dataclass(frozen=True)
class Wave:
    """How far a job's moves have come: `started` of them were claimed, `gone` have ended or wait, `failing` failed."""

    moves: int
    started: int
    gone: int
    failing: int


def may_start(wave: Wave, limits: Limits) -> int | None:
    """How many more moves of the job may be claimed now; None: any number.

    The first wave goes alone: what follows starts when all of it has ended or waits, and not while too many of it fail.
    """
    canary = limits.canary_moves
    if wave.moves <= canary or canary == 0:
        return None
    if wave.started < canary:
        return canary - wave.started
    good_enough = wave.failing <= limits.abort_error_rate * canary
    return None if wave.gone >= canary and good_enough else 0


def too_many_errors(errors: int, ended: int, limits: Limits) -> str | None:
    """Why a job is to be paused, of whose moves so many ended and so many of those with an error; None: go on."""
    if ended < LEAST_ATTEMPTED or errors <= limits.abort_error_rate * ended:
        return None
    return f"{errors} of {ended} moves failed, more than {limits.abort_error_rate:.0%}"
