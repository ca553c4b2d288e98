"""What a change of class keeps of the object before a copy onto itself replaces it."""

from __future__ import annotations

from sqlalchemy.orm import Session

from app.db.migration_parts import clear_copy
from app.db.migration_work import mine
from app.db.migrations import Claim
from app.db.tables import Migration
from app.domain.fingerprints import Fingerprint


def keep_fingerprint(session: Session, claim: Claim, found: Fingerprint) -> None:
    """Keeps what the object is, so that a successor can tell what has become of it. Raises LeaseLost.

    An upload that an earlier claim began carries what the object did then: where that has changed it begins anew.
    """
    row, kept = mine(session, claim), found.as_json()
    if row.fingerprint not in (None, kept):
        clear_copy(session, row)
    row.fingerprint = kept


def fingerprint(session: Session, claim: Claim) -> Fingerprint | None:
    """What an earlier claim has kept; None when none came so far."""
    return Fingerprint.from_json(session.get_one(Migration, claim.id).fingerprint)
