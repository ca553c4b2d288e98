"""One planned change of an object's copies: from where to where, its money, when it may be made, and what it brings."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from app.domain.states import MoveKind


@dataclass(frozen=True)
class Times:
    """When a move may start, by when it must be verified, and when it would come too late; None: whenever."""

    not_before: datetime | None = None
    ready_by: datetime | None = None
    useful_until: datetime | None = None


@dataclass(frozen=True)
class PlannedMove:
    """One change of copies; money in dollars, `monthly_delta` negative when it saves."""

    kind: MoveKind
    from_site: str | None
    from_class: str | None
    to_site: str | None
    to_class: str | None
    bytes: int
    one_off: float
    monthly_delta: float
    times: Times | None = None


@dataclass(frozen=True)
class Rush:
    """Reads that a site answers from a peak's beginning to its end, beside its usual ones."""

    site: str
    begins: datetime
    ends: datetime
    rate: float
    """Reads a second."""

    @staticmethod
    def of(moves: Iterable[PlannedMove], rate: float) -> list[Rush]:
        """What the copies among moves for a peak bring to their sites; another class brings nothing."""
        found = []
        for move in moves:
            at = move.times
            if move.kind is MoveKind.COPY and move.to_site and at and at.ready_by and at.useful_until:
                found.append(Rush(move.to_site, at.ready_by, at.useful_until, rate))
        return found
