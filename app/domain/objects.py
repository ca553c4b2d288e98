"""What a look at the world says of the catalogue: a listing's line or an access beside what is known of a replica."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from app.domain.pins import Pin
from app.domain.states import ReplicaState

ABSENT_SCANS = 2
"""A replica that so many scans in a row did not find is gone, if a look does not find it either."""
ABSENT_FEW = 100
ABSENT_SHARE = 0.2
"""When more than this share of a site is absent at once, and more than a few, it is not believed."""
CLOCK_SLACK = timedelta(seconds=5)
"""How far a writer's clock may stand from the site's before its PUT looks older than what it wrote."""


class Finding(StrEnum):
    """What one line of a listing says."""

    NEW = "new"
    """A replica that the catalogue does not know."""
    SAME = "same"
    """The replica is as it is known, perhaps in another class or known without a pin until now."""
    CHANGED = "changed"
    """Somebody else wrote it: it is the newest version."""
    NOTHING = "nothing"
    """The listing is older than what is known, or a migration is at work on it."""


UNFINISHED = frozenset({ReplicaState.COPYING, ReplicaState.VERIFIED, ReplicaState.STALE})
"""Without a pin: where a migration that came to nothing had begun to write, so that nobody knows what stands there."""


@dataclass(frozen=True)
class Known:
    """What the catalogue has of a replica. `moving`: a migration that has not switched yet is at work on the object."""

    state: ReplicaState
    pin: Pin | None
    moving: bool
    marked: bool = False
    """Whether what stands there bears a migration's mark; asked only of what is unfinished."""
    was_deleted: bool = False
    """Whether there was nothing before the migration that is unfinished."""


def judge(listed: Pin, known: Known | None) -> Finding:
    """What a listing's line says of one key at one site."""
    if known is None:
        return Finding.NEW
    if known.moving:
        return Finding.NOTHING  # the migration's own looks decide
    if known.pin is None and known.state in UNFINISHED:
        if known.marked:
            return Finding.NOTHING
        return Finding.CHANGED if known.was_deleted else Finding.NEW
    if known.state is ReplicaState.DELETED:
        if known.pin is None:
            return Finding.CHANGED
        if listed.same_object(known.pin):
            return Finding.NOTHING  # listed before it was deleted
    elif known.pin is None or listed.same_object(known.pin):
        return Finding.SAME
    return Finding.CHANGED if listed.last_modified >= known.pin.last_modified else Finding.NOTHING


def write_is_news(ts: datetime, state: ReplicaState, pin: Pin | None, draining_until: datetime | None = None) -> bool:
    """Whether a reported PUT at a replica's site tells of a version that the catalogue does not have.

    Logs also hold Foretide's own copies and arrive late: a PUT no later than what was last seen there says nothing.
    draining_until: of a copy that was given up, how long a reader that had it may still be writing.
    """
    if state in (ReplicaState.COPYING, ReplicaState.VERIFIED):
        return False  # Foretide's own write; an owner's makes its condition fail, and scans see it
    if state is ReplicaState.STALE and pin is None and draining_until is not None:
        return False  # perhaps a reader's; scans look at its mark
    return pin is None or ts > pin.last_modified + CLOCK_SLACK


def delete_is_news(ts: datetime, state: ReplicaState, pin: Pin | None) -> bool:
    """Whether a reported DELETE at a replica's site is its owner's end of the object.

    Foretide's own deletes stand in the logs too, and so do those of copies that were not read any more.
    """
    return state is ReplicaState.SERVING and (pin is None or ts >= pin.last_modified)


def is_believable(absent: int, held: int) -> bool:
    """Whether owners may have deleted so many of the objects that a site held; else it rather shows what it should not.

    A wrong disk mounted or a bucket emptied by accident answers each look as it answers a listing.
    """
    return absent <= max(ABSENT_FEW, ABSENT_SHARE * held)
