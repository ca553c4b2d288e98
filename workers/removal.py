"""One copy that nothing reads any more, removed: looked at, claimed, deleted on condition, and told."""

from __future__ import annotations

from app.db import objects as catalogue
from app.db import removal as store
from app.db import scrub
from app.db.removal import Left
from app.db.session import session_scope
from app.domain.pins import Pin
from app.domain.sites import SiteAddress
from app.domain.tidying import RemovalAction, RemovalFacts, may_remove
from app.errors import ConditionFailed, ForetideError, SiteFaulty, SiteUnavailable, Throttled, UnknownOutcome
from app.s3 import objects
from app.s3.client import connect
from app.s3.heads import Head


def remove(left: Left, *, dry_run: bool) -> tuple[RemovalAction, str]:
    """Removes the copy if every condition holds; returns what was done, or would be, and why."""
    try:
        return _remove(left, dry_run=dry_run)
    except (SiteUnavailable, SiteFaulty, Throttled, UnknownOutcome) as error:
        return RemovalAction.KEEP, error.reason  # looked at again by the next pass


def _remove(left: Left, *, dry_run: bool) -> tuple[RemovalAction, str]:
    bucket = connect(left.address)
    found = objects.find(bucket, left.key)
    verdict = may_remove(_facts(left, found))
    if dry_run or verdict.action in (RemovalAction.WAIT, RemovalAction.KEEP):
        return verdict.action, verdict.reason
    if found is None:
        with session_scope() as session:
            store.removed(session, left)
        return verdict.action, verdict.reason
    with session_scope() as session:
        if not store.claim(session, left, verdict, found.pin):
            return RemovalAction.KEEP, "object_is_changing"
    try:
        objects.delete(bucket, left.key, found.pin, conditional=left.conditional)
    except ConditionFailed:
        with session_scope() as session:
            store.kept(session, left)
        return RemovalAction.KEEP, "changed"
    with session_scope() as session:
        store.removed(session, left)
    return verdict.action, verdict.reason


def _facts(left: Left, found: Head | None) -> RemovalFacts:
    with session_scope() as session:
        now = catalogue.clock(session)
        mark = scrub.mark_of(session, left.site_id, left.key, found.intent if found else None)
    return RemovalFacts(
        cause=left.cause,
        rules=left.rules,
        now=now,
        not_before=left.not_before,
        pinned=left.pin,
        proven=left.proven,
        found=found.pin if found else None,
        mark=mark,
        witnesses=sum(_witnesses(address, left.key, pin, found) for address, pin in left.witnesses) if found else 0,
        locked=found.is_locked(now) if found else False,
        guarded=left.guarded,
    )


def _witnesses(address: SiteAddress, key: str, pin: Pin, leftover: Head) -> bool:
    """Whether another site truly holds the current version, and is not the same bucket under another address."""
    try:
        found = objects.find(connect(address), key)
    except ForetideError:
        return False
    itself = found is not None and found.pin.same_object(leftover.pin) and found.intent == leftover.intent
    return found is not None and found.pin.same_object(pin) and not itself
