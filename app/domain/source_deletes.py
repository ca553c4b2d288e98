"""Whether a source may be deleted after the switch and the grace: only when every condition holds at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from app.domain.migrations import RECHECK_S, SiteFacts
from app.domain.pins import Pin
from app.domain.policies import Readers, Rules

RECHECK_CAP_S = 86_400.0
KEPT_FOR_NOW = frozenset({"no_guarded_delete", "object_lock", "pinned", "too_few_replicas", "version_hidden"})
"""Reasons for which a source is kept that may change: it is looked at again."""


class DeleteAction(StrEnum):
    """What is to be done about a source after the switch."""

    DELETE = "delete"
    """All conditions hold."""
    GONE = "gone"
    """It does not exist any more."""
    WAIT = "wait"
    """Something that may change by itself forbids it."""
    KEEP = "keep"
    """It stays, and is reported; for some reasons it is looked at again."""
    REVERSE = "reverse"
    """It is the newest version or the last good copy: the switch is undone."""


@dataclass(frozen=True)
class DeleteFacts:
    """Everything that a delete of a source depends on, read just before it."""

    rules: Rules
    now: datetime
    grace_until: datetime
    pinned: Pin
    source_now: Pin | None
    source_draining: bool
    destination_pinned: Pin | None
    """The verified copy that took the source's place; None when a replica is removed without one."""
    destination_now: Pin | None
    verified_elsewhere: int
    """Serving replicas of the current version at other sites, as looks have found them."""
    serving_elsewhere: int
    """The same as the catalogue has them."""
    locked: bool
    site: SiteFacts
    version_hidden: bool = False
    """In a bucket whose deletes take no condition: a marker stands over a newer version than the pinned one."""
    source_rewritten: bool = False
    """It carries other headers, metadata or tags than were copied, which its ETag does not tell."""
    destination_rewritten: bool = False
    """The same of the copy; looked at only where the source is rewritten."""

    @property
    def guarded(self) -> bool:
        """Whether the site can refuse to delete another version, or keep it, or the operator waived that."""
        can = self.site.capabilities
        return can.conditional_delete or can.versioning or self.site.allow_unguarded_delete


@dataclass(frozen=True)
class DeleteVerdict:
    """What to do, why, and each condition as it was found (for the audit log)."""

    action: DeleteAction
    reason: str
    conditions: Mapping[str, Any]


def may_delete(facts: DeleteFacts) -> DeleteVerdict:
    """Whether the source may go now: only when every condition of the protocol holds at once."""
    source_same = facts.source_now is not None and facts.source_now.same_object(facts.pinned)
    source_same = source_same and not facts.source_rewritten
    destination_same = facts.destination_pinned is None or (
        facts.destination_now is not None and facts.destination_now.same_object(facts.destination_pinned)
    )
    destination_same = destination_same and not facts.destination_rewritten
    conditions: dict[str, Any] = {
        "grace_over": facts.now >= facts.grace_until,
        "readers_routed": facts.rules.readers is Readers.ROUTED,
        "not_pinned": not facts.rules.pinned,
        "source_unchanged": source_same,
        "source_draining": facts.source_draining,
        "destination_unchanged": destination_same,
        "verified_elsewhere": facts.verified_elsewhere,
        "rf": facts.rules.rf,
        "not_locked": not facts.locked,
        "guarded": facts.guarded,
        "source_pin": facts.pinned.as_json(),
    }
    action, reason = _judge(facts, source_same=source_same, destination_same=destination_same)
    return DeleteVerdict(action, reason, conditions)


def _judge(facts: DeleteFacts, *, source_same: bool, destination_same: bool) -> tuple[DeleteAction, str]:
    if facts.now < facts.grace_until:
        return DeleteAction.WAIT, "grace"
    if facts.version_hidden:
        return DeleteAction.KEEP, "version_hidden"
    if facts.source_now is None:
        return DeleteAction.GONE, "source_gone"
    if facts.destination_pinned is not None and facts.destination_now is None:
        return DeleteAction.REVERSE, "destination_lost"
    if not source_same:
        if not destination_same:
            return DeleteAction.KEEP, "both_changed"
        return DeleteAction.REVERSE, "source_changed_after_switch"
    if facts.rules.readers is Readers.DIRECT:
        return DeleteAction.KEEP, "readers_direct"
    if not facts.source_draining:
        return DeleteAction.KEEP, "source_not_draining"
    if not facts.serving_elsewhere:
        return DeleteAction.REVERSE, "last_copy"
    if not destination_same:
        return DeleteAction.KEEP, "destination_changed"
    if facts.rules.pinned:
        return DeleteAction.KEEP, "pinned"
    if facts.locked:
        return DeleteAction.KEEP, "object_lock"
    if not facts.guarded:
        return DeleteAction.KEEP, "no_guarded_delete"
    if facts.verified_elsewhere < max(1, facts.rules.rf):
        return DeleteAction.KEEP, "too_few_replicas"
    return DeleteAction.DELETE, "all_conditions_hold"


def look_again_s(since_switch_s: float) -> float:
    """Seconds until a source that is kept for now is looked at again: ever more seldom, and once a day at last."""
    return min(RECHECK_CAP_S, max(RECHECK_S, since_switch_s))
