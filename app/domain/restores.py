"""Objects in classes that must be restored before a read: which classes, whether a move may ask, how it waits."""

from __future__ import annotations

from app.domain.policies import Rules
from app.domain.prices import PriceBook
from app.errors import Blocked

LOOK_S = 1800.0
"""How often an object that its site restores is looked at: that takes hours."""
DAYS = 3
"""How long a restored copy is to stand: the move may have to wait for the next day's budget."""
RESTORING = "restoring"
"""The reason of a move that waits for its source to be restored."""
NEEDED = "restore_needed"
"""The reason of a move whose restored source has gone back to sleep: a retry alone asks for it again."""
USUAL = frozenset({"GLACIER", "DEEP_ARCHIVE"})
"""Classes that must be restored wherever no price book says otherwise."""


def archives(book: PriceBook | None) -> frozenset[str]:
    """A site's classes that must be restored, by its price book."""
    if book is None:
        return USUAL
    told = {entry.name for entry in book.classes if entry.restore}
    return frozenset(told | (USUAL - book.by_name.keys()))


def check_allowed(rules: Rules, without: str) -> None:
    """Raises Blocked unless the rules allow restores. without: what is so without one, for the user."""
    if not rules.allow_restore:
        fix = "to allow it: foretide policy set sla default.allow_restore=true, then foretide migrate retry"
        raise Blocked(f"{without} without a restore, which the policy forbids; {fix}", reason="restore_not_allowed")
