"""Removes versions that moves have left in versioned buckets, by their ids, once the retention policy lets them go."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import structlog

from app.db import alerts, policies
from app.db import old_versions as store
from app.db.old_versions import Left
from app.db.session import session_scope
from app.db.tables import Json
from app.domain.old_versions import VersionAction, VersionFacts, may_remove, older_is_read
from app.domain.policies import Rules
from app.errors import ForetideError
from app.queue import TaskName
from app.s3 import objects
from app.s3.client import connect
from app.settings import get_settings
from workers.base import JobContext, job_task
from workers.faults import obey_faults

log = structlog.get_logger()
BATCH = 200


@job_task(TaskName.EXPIRE)
def expire(job: JobContext) -> Json:
    """Looks at each version that is due, and removes it where nothing protects it and it is not read again."""
    obey_faults()
    settings = get_settings()
    with session_scope() as session:
        known = policies.load(session)
    counts: Counter[str] = Counter()
    if known.old_versions_days is not None:
        age = max(timedelta(days=known.old_versions_days), timedelta(seconds=settings.grace_s))
        with ThreadPoolExecutor(settings.migrate_concurrency, thread_name_prefix="expire") as threads:
            after: int | None = 0
            while after is not None:
                with session_scope() as session:
                    batch = store.due(session, age, after, BATCH)
                counts.update(threads.map(lambda left: _look_at(left, known.rules(left.key)), batch))
                job.progress(sum(counts.values()), 0, "versions")
                after = batch[-1].id if len(batch) == BATCH else None
    with session_scope() as session:
        count, size = store.standing(session)
    return {"looked_at": dict(counts), "standing": {"versions": count, "bytes": size}}


def _look_at(left: Left, rules: Rules) -> str:
    """What has come of the version; one that could not be looked at, or removed, stands until the next time."""
    try:
        return _see_to(left, rules)
    except ForetideError as error:
        log.warning("old version not removed", key=left.key, site=left.address.name, reason=error.reason)
        with session_scope() as session:
            store.waits(session, left, error.reason)
        return error.reason


def _see_to(left: Left, rules: Rules) -> str:
    facts = _facts(left, rules)
    action, reason = may_remove(facts)
    if action is VersionAction.REMOVE:
        _remove(left, facts)
    with session_scope() as session:
        if action is VersionAction.WAIT:
            store.waits(session, left, reason)
        else:
            store.ended(session, left, action, reason)
    return "removed" if action is VersionAction.REMOVE else reason


def _facts(left: Left, rules: Rules) -> VersionFacts:
    bucket = connect(left.address)
    there = objects.find(bucket, left.key, left.version_id)
    current = objects.find(bucket, left.key)
    return VersionFacts(
        version_id=left.version_id,
        pinned=left.pin,
        there=there.pin if there else None,
        current=current.pin if current else None,
        locked=rules.legal_hold or (there is not None and there.is_locked(there.server_date or datetime.now(UTC))),
        copies=left.copies,
        rf=rules.rf,
    )


def _remove(left: Left, facts: VersionFacts) -> None:
    bucket = connect(left.address)
    with session_scope() as session:
        store.intend(session, left, facts)
    objects.delete_version(bucket, left.key, left.version_id)
    now = objects.find(bucket, left.key)
    if older_is_read(facts, now.pin if now else None):
        message = f"{left.address.name} reads an older version of {left.key} since its newest was removed"
        with session_scope() as session:
            alerts.raise_alert(session, "older_version_read", "critical", message, subject=left.key, data=left.told)
