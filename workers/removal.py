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
from app.errors import ConditionFailed, ForetideError, Permanent, SiteFaulty, SiteUnavailable, Throttled, UnknownOutcome
from app.s3 import objects
from app.s3.client import connect
from app.s3.heads import Head
from workers.base import JobContext


def remove(job: JobContext, left: Left, *, dry_run: bool) -> tuple[RemovalAction, str]:
    """Removes the copy if every condition holds; returns what was done, or would be, and why. Raises LeaseLost."""
    try:
        return _remove(job, left, dry_run=dry_run)
    except (SiteUnavailable, SiteFaulty, Throttled, UnknownOutcome, Permanent) as error:
        return RemovalAction.KEEP, error.reason  # looked at again by the next pass; the others are not held up


def _remove(job: JobContext, left: Left, *, dry_run: bool) -> tuple[RemovalAction, str]:
    bucket, mark = connect(left.address), f"{job.id}.{job.fence}"
    found = objects.find(bucket, left.key)
    verdict = may_remove(_facts(left, found))
    if dry_run or verdict.action in (RemovalAction.WAIT, RemovalAction.KEEP):
        return verdict.action, verdict.reason
    with job.saving() as session:
        free = store.claim(session, left, verdict, found.pin, mark) if found else store.absent(session, left)
    if not free:
        return RemovalAction.KEEP, "object_is_changing"
    if found is None:
        return verdict.action, verdict.reason
    with job.saving():
        pass  # a worker that was frozen until now would delete what may have come back since
    try:
        objects.delete(bucket, left.key, found.pin, conditional=left.conditional)
    except Permanent as refused:
        with job.saving() as session:
            store.kept(session, left, mark)
        return RemovalAction.KEEP, "changed" if isinstance(refused, ConditionFailed) else refused.reason
    with job.saving() as session:
        store.removed(session, left, mark)
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
