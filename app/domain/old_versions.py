"""When a version that a move has left in a versioned bucket may go, by its own id; nothing that is read ever does."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from app.domain.pins import Pin

NULL = "null"
"""What S3 calls the version of an object that was written without one."""
KEPT = "old_version_kept"
"""What a migration says that has left a version for good, since no policy lets it go."""


def left_behind(pin: Pin, *, versioning: bool) -> str | None:
    """The id under which a version lives on once it is replaced or hidden; None where it does not."""
    return pin.version_id or (NULL if versioning else None)


class VersionAction(StrEnum):
    """What is to be done about a version."""

    REMOVE = "remove"
    """It is replaced or hidden, and nothing protects it."""
    GONE = "gone"
    """It does not exist any more."""
    WAIT = "wait"
    """It is protected for now, and looked at again."""
    KEEP = "keep"
    """It is what is read there again: it is left for good."""


@dataclass(frozen=True)
class VersionFacts:
    """A version as the looks just before its removal found it."""

    version_id: str
    pinned: Pin
    there: Pin | None
    """The version itself."""
    current: Pin | None
    """What is read there now; None: a delete marker stands over all versions."""
    locked: bool
    copies: int | None
    """Replicas that serve the object; None: its owner has deleted it."""
    rf: int


def may_remove(facts: VersionFacts) -> tuple[VersionAction, str]:
    """What to do about the version, and why."""
    overwritten = facts.version_id == NULL and facts.there is not None and not facts.there.same_object(facts.pinned)
    if facts.there is None or overwritten:
        return VersionAction.GONE, "version_gone"
    if facts.current is not None and (facts.current.version_id or NULL) == facts.version_id:
        return VersionAction.KEEP, "current_again"
    if facts.locked:
        return VersionAction.WAIT, "object_lock"
    if facts.copies is not None and facts.copies < max(1, facts.rf):
        return VersionAction.WAIT, "too_few_replicas"
    return VersionAction.REMOVE, "all_conditions_hold"


def older_is_read(facts: VersionFacts, now: Pin | None) -> bool:
    """Whether an older version is what is read there since the removal: its owner had made the removed one current.

    now: what is read there after it. No request can exclude this, since a version's id and a condition are never sent
    together.
    """
    if now is None or (facts.current is not None and now.same_object(facts.current)):
        return False
    return now.last_modified <= facts.pinned.last_modified
