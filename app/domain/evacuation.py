"""Emptying a site: which of its copies may go, why others stay, and how long the rest will take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from app.domain.policies import Readers, Rules
from app.domain.states import ObjectState, ReplicaState

TRIES = 2
"""A copy whose moves came to nothing so often is not tried again in the same evacuation."""


@dataclass(frozen=True)
class Held:
    """A copy at the site. ours: Foretide wrote it; tried: how many of this evacuation's moves came to nothing."""

    object_state: ObjectState
    state: ReplicaState
    current: bool
    ours: bool
    rules: Rules
    moving: bool = False
    tried: int = 0
    last_reason: str = ""


def why_stays(held: Held) -> str | None:
    """Why the copy is not moved by a plan now; None when it is to be.

    `being_removed` and `object_is_moving` end by themselves; what stays for another reason is blocked.
    """
    if held.object_state is ObjectState.GONE:
        return "object_gone"
    if held.moving:
        return "object_is_moving"
    if held.state is ReplicaState.DRAINING:
        return "source_kept"
    if held.state is ReplicaState.REMOVING or (held.state is ReplicaState.STALE and held.ours):
        return "being_removed"
    if held.state is not ReplicaState.SERVING or not held.current:
        return str(held.state) if held.state is not ReplicaState.SERVING else "outdated"
    if held.rules.pinned:
        return "pinned"
    if held.rules.readers is Readers.DIRECT:
        return "readers_direct"
    if held.tried >= TRIES:
        return held.last_reason or "not_moved"
    return None


PASSING = frozenset({"object_is_moving", "being_removed"})
"""Reasons that end by themselves."""
NOT_REMOVED = "not_removed"
"""Why a copy stays that was to be removed: tidying has left it, and will again."""
AWAITED = frozenset({"grace", "object_is_changing", "site_unavailable", "site_faulty", "throttled", "unknown_outcome"})
"""Why tidying leaves a copy that a later pass may remove."""


def is_in_vain(removed: int, kept: Mapping[str, int]) -> bool:
    """Whether a tidy pass that removed so many, and left others for these reasons, would do no more a second time."""
    return removed == 0 and not AWAITED & kept.keys()


@dataclass(frozen=True)
class Rate:
    """What was moved within so many seconds."""

    objects: int
    bytes: int
    seconds: float


def eta_s(objects_left: int, bytes_left: int, rate: Rate, grace_s: float) -> float | None:
    """Seconds until the rest is gone, its grace included, by the slower of objects and bytes; None without a rate."""
    if objects_left <= 0:
        return 0.0
    if rate.objects <= 0 or rate.seconds <= 0:
        return None
    by_objects = objects_left * rate.seconds / rate.objects
    by_bytes = bytes_left * rate.seconds / rate.bytes if rate.bytes else 0.0
    return max(by_objects, by_bytes) + grace_s
