"""What a change of class keeps of the object before a copy onto itself replaces it."""

from __future__ import annotations

from sqlalchemy.orm import Session

from app.db.migration_work import mine
from app.db.migrations import Claim
from app.db.tables import Migration
from app.domain.fingerprints import Fingerprint


def keep_fingerprint(session: Session, claim: Claim, found: Fingerprint) -> None:
    """Keeps what the object is, so that a successor can tell what has become of it. Raises LeaseLost."""
    mine(session, claim).fingerprint = found.as_json()


def fingerprint(session: Session, claim: Claim) -> Fingerprint | None:
    """What an earlier claim has kept; None when none came so far."""
    return Fingerprint.from_json(session.get_one(Migration, claim.id).fingerprint)
