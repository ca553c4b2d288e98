"""What may be tidied away: copies that nothing reads any more, and uploads that nobody will finish."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from app.domain.pins import Pin
from app.domain.policies import Readers, Rules
from app.domain.scrub import Mark

CLOCK_SLACK = timedelta(seconds=2)
"""How far a site's clock, less its probed offset, may stand from the database's."""


class Cause(StrEnum):
    """Why a copy is to be removed."""

    LEFTOVER = "leftover"
    """Foretide wrote it, and nothing reads it: a move that was given up or rolled back, an older version."""
    GONE = "gone"
    """Its owner deleted the object; the policy says that deletes are propagated."""
    OPERATOR = "operator"
    """Its owner deleted the object; an operator removes what is left."""


class RemovalAction(StrEnum):
    """What is done about it."""

    DELETE = "delete"
    """All conditions hold."""
    ABSENT = "absent"
    """The site does not hold it any more."""
    WAIT = "wait"
    """Its grace is not over."""
    KEEP = "keep"
    """It stays, for the reason given."""


@dataclass(frozen=True)
class RemovalFacts:
    """All that the removal of a copy depends on, looked at just before it."""

    cause: Cause
    rules: Rules
    now: datetime
    not_before: datetime | None
    """When its grace is over; None: nobody could have its address."""
    pinned: Pin | None
    """What the catalogue says stands there; None: a move had begun to write and came to nothing."""
    proven: bool
    """Foretide wrote it and had proven it: it may have been read."""
    found: Pin | None
    mark: Mark
    witnesses: int
    """Replicas of the current version that were seen at other sites."""
    locked: bool
    guarded: bool
    """The site can refuse to delete another version, or keep it, or the operator waived that."""


@dataclass(frozen=True)
class Removal:
    """What to do about a copy, why, and each condition as it was found (for the audit log)."""

    action: RemovalAction
    reason: str
    conditions: Mapping[str, Any]


def may_remove(facts: RemovalFacts) -> Removal:
    """Whether the copy may be deleted now: only when every condition holds at once."""
    ours = facts.mark in (Mark.OURS, Mark.UNRECORDED)
    same = facts.found is not None and facts.pinned is not None and facts.found.same_object(facts.pinned)
    conditions = {
        "cause": facts.cause,
        "grace_over": facts.not_before is None or facts.now >= facts.not_before,
        "unchanged": same,
        "mark": facts.mark,
        "witnesses": facts.witnesses,
        "readers": facts.rules.readers,
        "not_pinned": not facts.rules.pinned,
        "not_locked": not facts.locked,
        "guarded": facts.guarded,
        "pin": facts.found.as_json() if facts.found else None,
    }
    action, reason = _judge(facts, ours=ours, same=same)
    return Removal(action, reason, conditions)


def _judge(facts: RemovalFacts, *, ours: bool, same: bool) -> tuple[RemovalAction, str]:
    if facts.not_before is not None and facts.now < facts.not_before:
        return RemovalAction.WAIT, "grace"
    if facts.found is None:
        return RemovalAction.ABSENT, "absent"
    leftover = facts.cause is Cause.LEFTOVER
    if not same and not (leftover and ours):
        return RemovalAction.KEEP, "not_ours" if facts.pinned is None else "changed"
    if leftover and not facts.proven and not ours:
        return RemovalAction.KEEP, "not_ours"
    if facts.rules.pinned:
        return RemovalAction.KEEP, "pinned"
    may_be_read = facts.rules.readers is Readers.DIRECT and (facts.proven or not leftover)
    if may_be_read and facts.cause is not Cause.OPERATOR:
        return RemovalAction.KEEP, "readers_direct"
    if facts.locked:
        return RemovalAction.KEEP, "object_lock"
    if not facts.guarded:
        return RemovalAction.KEEP, "no_guarded_delete"
    if leftover and facts.witnesses < 1:
        return RemovalAction.KEEP, "no_good_copy"
    return RemovalAction.DELETE, "all_conditions_hold"


# -- Uploads ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Claimant:
    """A migration that may have begun an upload at its destination's key.

    active: it has not ended nor switched; held: a worker has it now. lapsed: when it could last have begun one.
    """

    upload_id: str | None
    active: bool
    held: bool
    began: datetime
    lapsed: datetime


def is_orphan(upload_id: str, initiated: datetime, claimants: Iterable[Claimant], *, has_parts: bool) -> bool:
    """Whether an upload was begun by a migration that will not finish it; all others may be a user's.

    initiated: by the database's clock. One whose id was kept goes by its migration alone. One whose id was never kept
    has no parts, since ids are kept before the first is sent, and was begun while such a migration was at work.
    """
    known = list(claimants)
    keepers = [each for each in known if each.upload_id == upload_id]
    if keepers:
        return not any(each.active for each in keepers)
    if has_parts or any(each.active and each.held for each in known):
        return False
    return any(each.began - CLOCK_SLACK <= initiated <= each.lapsed + CLOCK_SLACK for each in known)
