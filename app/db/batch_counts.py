"""Counts what batch operations came to, for /metrics (step: batch)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy.orm import Session

from app.db import watch

SUCCEEDED, FAILED = "succeeded", "failed"
EVENTS = "foretide_batch_events_total"
_RUNS, _SECONDS = "foretide_batch_runs_total", "foretide_batch_milliseconds"


@dataclass(frozen=True)
class Count:
    """Attempts at an operation on an engine that ended so, and the seconds that they took together."""

    operation: str
    engine: str
    ended: str
    runs: int
    seconds: float


def count(session: Session, operation: str, engine: str, ended: str, seconds: float, events: int) -> None:
    """Adds an attempt."""
    labels = f"{operation} {engine} {ended}"
    watch.count(session, f"{_RUNS} {labels}", 1)
    watch.count(session, f"{_SECONDS} {labels}", round(seconds * 1000))
    watch.count(session, EVENTS, events)


def counts(counters: Mapping[str, int]) -> list[Count]:
    """What was counted, of all counters by name."""
    found = []
    for name, runs in sorted(counters.items()):
        kind, _, labels = name.partition(" ")
        if kind == _RUNS:
            operation, engine, ended = labels.split(" ")
            found.append(Count(operation, engine, ended, runs, counters.get(f"{_SECONDS} {labels}", 0) / 1000))
    return found
