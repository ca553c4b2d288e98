"""One planned change of an object's copies: from where to where, its money, and when it may be made."""

from __future__ import annotations

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
