"""Injected faults (chaos): their kinds and bounds, and what a request asks for. A fault always has an end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from app.errors import FieldError, Invalid

MAX_TTL_S = 3600.0
DEFAULT_TTL_S = 300.0
MAX_LATENCY_MS = 60_000.0
DEFAULT_LATENCY_MS = 1000.0
DEFAULT_STATUS = 503
"""What a throttled request is answered unless 429 was asked for."""


class FaultKind(StrEnum):
    """What is injected."""

    FAIL = "fail"
    """The site does not answer."""
    LATENCY = "latency"
    """Every request takes longer."""
    THROTTLE = "throttle"
    """The site answers 503 SlowDown, or 429, with Retry-After: 1."""
    CORRUPT = "corrupt"
    """One byte of an object that is read is another; what is written is left alone."""


@dataclass(frozen=True)
class Wanted:
    """A fault to begin at a site; latency_ms and status are None where the kind has none."""

    kind: FaultKind
    probability: float
    ttl_s: float
    latency_ms: float | None = None
    status: int | None = None


def wanted(
    switches: Mapping[FaultKind, bool | None],
    *,
    probability: float = 1.0,
    ttl_s: float = DEFAULT_TTL_S,
    latency_ms: float | None = None,
    status: int | None = None,
) -> tuple[list[Wanted], list[FaultKind]]:
    """The faults to begin and the kinds to end: true begins one, or begins it anew, false ends it, None leaves it.

    Raises Invalid when nothing is asked for, or a value belongs to no fault that begins.
    """
    begun = [kind for kind, on in switches.items() if on]
    ended = [kind for kind, on in switches.items() if on is False]
    errors = []
    if not begun and not ended:
        errors.append(FieldError("", f"say which fault: {', '.join(FaultKind)}"))
    if latency_ms is not None and FaultKind.LATENCY not in begun:
        errors.append(FieldError("/ms", "belongs to latency, which does not begin here"))
    if status is not None and FaultKind.THROTTLE not in begun:
        errors.append(FieldError("/status", "belongs to throttle, which does not begin here"))
    if errors:
        raise Invalid(errors=tuple(errors))
    return [_begun(kind, probability, ttl_s, latency_ms, status) for kind in begun], ended


def _begun(kind: FaultKind, probability: float, ttl_s: float, latency_ms: float | None, status: int | None) -> Wanted:
    if kind is FaultKind.LATENCY:
        given = DEFAULT_LATENCY_MS if latency_ms is None else latency_ms
        return Wanted(kind, probability, ttl_s, latency_ms=given)
    if kind is FaultKind.THROTTLE:
        return Wanted(kind, probability, ttl_s, status=status or DEFAULT_STATUS)
    return Wanted(kind, probability, ttl_s)
