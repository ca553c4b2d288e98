"""The migration protocol's decisions: whether a move may start, what a failure means, when a source may be deleted.

Everything here is decided from values that the engine (workers/migrations.py) has just read; docs/guarantees.md has the
protocol that they belong to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from app.domain.jobs import RetryPolicy
from app.domain.keys import not_kept
from app.domain.pins import Pin
from app.domain.policies import Readers, Rules
from app.domain.prices import IN_PLACE_LIMIT
from app.domain.restores import check_allowed
from app.domain.sites import Capabilities
from app.domain.states import JobState, MigrationState, MoveKind, ObjectState, ReplicaState, SiteState
from app.errors import (
    Blocked,
    Cancelled,
    ChecksumMismatch,
    Deadlocked,
    ForetideError,
    HeldBack,
    OverBudget,
    SiteUnavailable,
    Skipped,
    Transient,
)

MAX_PARTS = 10_000
MIN_PART = 5 * 2**20
MAX_MISMATCHES = 2
BUDGETED_PART = 8 * 2**20
"""Bytes of a part, as the budget of requests counts them."""
RECHECK_S = 3600.0
"""How often a source whose delete is not allowed yet is looked at again."""
SITE_WAIT_S = 15.0
"""How long a move waits for a site that does not answer, if the site's next probe does not end the wait sooner."""

COPIES = frozenset({MoveKind.COPY, MoveKind.MOVE})
SWITCHED = frozenset({MigrationState.SWITCHED, MigrationState.DRAINING})
EARLY = frozenset({MigrationState.QUEUED, MigrationState.WAITING, MigrationState.COPYING, MigrationState.VERIFIED})
COPIED = frozenset({MigrationState.SWITCHED, MigrationState.DRAINING, MigrationState.DONE, MigrationState.ROLLED_BACK})


# -- May it start? ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SiteFacts:
    """A site as a move sees it."""

    name: str
    state: SiteState
    capabilities: Capabilities
    encrypted: bool
    allow_unguarded_delete: bool = False
    archives: frozenset[str] = frozenset()
    """Classes whose objects must be restored before they are read."""
    kms_keys: Mapping[str, str] = field(default_factory=dict)
    """As app/domain/encryption.py reads them."""


@dataclass(frozen=True)
class ReplicaFacts:
    """A replica as a move sees it; `ours`: Foretide wrote it, so Foretide may overwrite it."""

    state: ReplicaState
    storage_class: str
    current: bool
    """Holds the object's current version."""
    ours: bool
    pin: Pin | None

    @property
    def may_be_replaced(self) -> Pin | None:
        """What stands there, if it is an older copy that Foretide wrote itself."""
        there = self.state not in (ReplicaState.DELETED, ReplicaState.LOST)
        return self.pin if self.ours and there else None


@dataclass(frozen=True)
class MoveFacts:
    """What is known of a move when a worker takes it up."""

    kind: MoveKind
    key: str
    object_state: ObjectState
    to_class: str | None
    rules: Rules
    source: SiteFacts
    source_replica: ReplicaFacts | None
    destination: SiteFacts | None = None
    destination_replica: ReplicaFacts | None = None
    elsewhere: int = 0
    """Replicas of the current version at other sites than the source."""
    is_over: bool = False
    """What it was made for, a peak of reads, is over."""


def admit(move: MoveFacts) -> None:
    """Returns when the move may start. Raises Skipped, Blocked or SiteUnavailable with the reason why it may not."""
    if move.object_state is ObjectState.GONE:
        raise Skipped("its owner deleted the object", reason="object_gone")
    if move.is_over:
        raise Skipped("the peak that it was planned for is over", reason="peak_over")
    source = move.source_replica
    if source is None or source.state is not ReplicaState.SERVING or not source.current:
        raise Skipped(f"{move.source.name} no longer holds the object's current version", reason="source_not_serving")
    if move.rules.pinned:
        raise Blocked("a policy pins the object where it is", reason="pinned")
    _answers(move.source)
    if move.kind in COPIES:
        _admit_copy(move)
    elif move.kind is MoveKind.CLASS:
        _admit_class(move, source)
    else:
        _admit_removal(move)


def _admit_copy(move: MoveFacts) -> None:
    to, there = move.destination, move.destination_replica
    if to is None:
        raise Blocked("the move names no destination", reason="no_destination")
    if there and there.state is ReplicaState.SERVING and there.current:
        raise Skipped(f"{to.name} holds the object already", reason="already_there")
    if there and there.state in (ReplicaState.DRAINING, ReplicaState.REMOVING):
        raise Skipped(f"{to.name} still holds a copy that is being removed", reason="destination_draining")
    if move.rules.encrypted_only and not to.encrypted:
        raise Blocked(f"{to.name} is not encrypted and the policy demands it", reason="destination_not_encrypted")
    if move.rules.sites is not None and to.name not in move.rules.sites:
        raise Blocked(f"a policy keeps the object away from {to.name}", reason="residency")
    _answers(to)
    if to.state is not SiteState.READY:
        raise Blocked(f"{to.name} is {to.state} and receives nothing", reason="destination_not_ready")
    _keeps(to, move.to_class)
    _may_be_archived(to, move)
    can = to.capabilities
    if move.to_class in to.archives and not (can.checksum_sha256 and can.checksum_parts):
        why = f"{to.name} tells no SHA-256, and a copy in class {move.to_class} cannot be read back"
        raise Blocked(why, reason="archive_unproven")
    if lost := not_kept(move.key, to.capabilities.keys):
        raise Blocked(f"{to.name} would not keep the object's key: {', '.join(lost)}", reason="key_not_kept")


def _admit_class(move: MoveFacts, source: ReplicaFacts) -> None:
    if source.storage_class == move.to_class:
        raise Skipped(f"the object is in class {move.to_class} already", reason="already_there")
    _keeps(move.source, move.to_class)
    _may_be_archived(move.source, move)
    if not move.source.capabilities.conditional_copy:
        raise Blocked(f"{move.source.name} ignores the condition of a copy in place", reason="no_conditional_copy")


def _admit_removal(move: MoveFacts) -> None:
    if move.rules.readers is Readers.DIRECT:
        raise Blocked("readers use this copy's address directly", reason="readers_direct")
    if move.elsewhere < max(1, move.rules.rf):
        raise Blocked(f"only {move.elsewhere} other copies serve the object", reason="too_few_replicas")


def _keeps(site: SiteFacts, storage_class: str | None) -> None:
    if site.capabilities.read_only:
        raise Blocked(f"the credentials of {site.name} may not write", reason="site_read_only")
    if storage_class not in site.capabilities.classes:
        raise Blocked(f"{site.name} does not keep class {storage_class}", reason="class_not_kept")


def _may_be_archived(site: SiteFacts, move: MoveFacts) -> None:
    if move.to_class in site.archives:
        check_allowed(move.rules, f"objects in class {move.to_class} at {site.name} cannot be read")


def _answers(site: SiteFacts) -> None:
    if site.state is SiteState.UNREACHABLE:
        raise SiteUnavailable(f"{site.name} does not answer; waiting for its next good probe")


def is_growing(last_modified: datetime, server_date: datetime | None, age_s: float) -> bool:
    """Whether an object was written so recently, by its own server's clock, that it may still be written.

    The first filter only (source 004's five seconds); the pin is the guard. A server without a Date is not judged.
    """
    return server_date is not None and server_date - last_modified < timedelta(seconds=age_s)


def part_size(size: int, least: int) -> int:
    """Bytes a part, so that at most 10,000 parts suffice: `least`, or more in whole MiB."""
    least = max(least, MIN_PART)
    needed = -(-size // MAX_PARTS)
    return least if needed <= least else -(-needed // 2**20) * 2**20


def requests_needed(kind: MoveKind, size: int) -> int:
    """Requests that a move makes at both sites together when nothing goes wrong, for the budget of requests.

    A copy looks, reads, writes, looks again at both ends and is deleted after as many looks; each part of a large one
    is read, written and read back. A change of class of one beyond IN_PLACE_LIMIT copies it in parts.
    """
    if kind is MoveKind.CLASS:
        return 4 + (5 + -(-size // BUDGETED_PART) if size > IN_PLACE_LIMIT else 0)
    if kind is MoveKind.REMOVE:
        return 5
    return 9 + (3 * -(-size // BUDGETED_PART) if size >= BUDGETED_PART else 0)


class Owner(StrEnum):
    """Who wrote the object that stands at a destination."""

    OURS = "ours"
    """This migration, in this claim or an earlier one."""
    SUCCESSOR = "successor"
    """A later claim of this migration: ours has lapsed."""
    OTHER = "other"
    """Somebody else, or nobody knows."""


def owner(intent_id: str, fence: int, found: str | None) -> Owner:
    """Who wrote an object, by the mark `<intent id>.<fence>` found in its metadata."""
    name, _, number = (found or "").rpartition(".")
    if name != intent_id or not number.isdigit():
        return Owner.OTHER
    return Owner.OURS if int(number) <= fence else Owner.SUCCESSOR


# -- What does a failure mean? ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Setback:
    """What becomes of a migration whose attempt ended with an error."""

    state: MigrationState
    reason: str
    delay_s: float = 0.0
    counts: bool = True
    """Whether it counts as one of the attempts after which the migration is dead."""


def after_failure(
    error: Exception, attempts: int, retries: int, mismatches: int, policy: RetryPolicy, jitter: float
) -> Setback:
    """What becomes of a migration before its switch after `attempts` counted and `retries` earlier ends of attempts.

    mismatches: how many of them were checksum mismatches; the second ends the migration. A site that does not answer at
    all is no fault of the object: such waits do not count, so that an outage never uses the attempts up.
    """
    if isinstance(error, Cancelled):
        return Setback(MigrationState.CANCELLED, error.reason, counts=False)
    if isinstance(error, Skipped | Blocked):
        state = MigrationState.SKIPPED if isinstance(error, Skipped) else MigrationState.BLOCKED
        return Setback(state, error.reason, counts=False)
    if isinstance(error, ForetideError) and not isinstance(error, Transient):
        return Setback(MigrationState.FAILED, error.reason)
    if isinstance(error, OverBudget | HeldBack):
        delay_s = RECHECK_S if isinstance(error, OverBudget) else 0.0
        return Setback(MigrationState.WAITING, error.reason, error.retry_after_s or delay_s, counts=False)
    if isinstance(error, Deadlocked):
        return Setback(MigrationState.WAITING, error.reason, policy.delay_s(1, jitter), counts=False)
    if isinstance(error, SiteUnavailable):
        return Setback(MigrationState.WAITING, error.reason, wait_for_site_s(retries, policy, jitter), counts=False)
    reason = error.reason if isinstance(error, ForetideError) else "unexpected_error"
    if isinstance(error, ChecksumMismatch) and mismatches + 1 >= MAX_MISMATCHES:
        return Setback(MigrationState.FAILED, reason)
    if attempts + 1 >= policy.max_attempts:
        return Setback(MigrationState.DEAD, reason)
    retry_after = error.retry_after_s if isinstance(error, Transient) else None
    return Setback(MigrationState.WAITING, reason, policy.delay_s(attempts + 1, jitter, retry_after))


def wait_for_site_s(retries: int, policy: RetryPolicy, jitter: float) -> float:
    """Seconds to wait for a site that does not answer: backs off, but never past SITE_WAIT_S."""
    return min(SITE_WAIT_S, policy.delay_s(retries + 1, jitter))


# -- What comes after the switch? -------------------------------------------------------------------------------------


def drains_source(kind: MoveKind, rules: Rules) -> bool:
    """Whether the switch takes the source out of service: never where readers use its address directly."""
    return kind is MoveKind.REMOVE or (kind is MoveKind.MOVE and rules.readers is Readers.ROUTED)


# -- What came of the job? --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tally:
    """A job's migrations: `verified` were copied, proven and switched, `open` have not got so far or ended."""

    planned: int
    verified: int
    skipped: int
    blocked: int
    failed: int
    cancelled: int
    open: int
    retried: int
    """How many needed more than one attempt."""
    reasons: Mapping[str, int]
    """How often each reason stands in those that were skipped, blocked or failed."""

    def as_json(self) -> dict[str, Any]:
        """As it stands in the job's result."""
        return asdict(self)

    @property
    def outcome(self) -> JobState | None:
        """The job's end: None while moves are open. What waits for its grace does not keep a job open."""
        if self.open:
            return None
        if self.failed:
            return JobState.FAILED
        return JobState.CANCELLED if self.cancelled and not self.verified else JobState.SUCCEEDED
