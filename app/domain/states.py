"""Every state a durable thing can be in, one sentence each, and the one table of allowed transitions a thing.

Stored as these very strings; `check_transition` is what writers call before they save.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

from app.errors import Conflict


class JobState(StrEnum):
    """What was submitted and is polled."""

    QUEUED = "queued"
    """Ready to be claimed by a worker of its queue."""
    WAITING = "waiting"
    """Not ready before a time or an event that `reason` names."""
    RUNNING = "running"
    """Claimed by a worker whose lease has not lapsed."""
    SUCCEEDED = "succeeded"
    """Done; `result` says what came of it."""
    FAILED = "failed"
    """Ended by an error that trying again would not mend."""
    DEAD = "dead"
    """Given up after too many attempts; an alert stands and a retry is possible."""
    CANCELLED = "cancelled"
    """Ended at a user's request."""


class MoveKind(StrEnum):
    """What a move changes."""

    COPY = "copy"
    """A replica is added; the one that it is copied from goes on serving."""
    MOVE = "move"
    """A replica is added; the one that it is copied from goes after the grace, unless its prefix is read directly."""
    CLASS = "class"
    """The storage class changes in place."""
    REMOVE = "remove"
    """A replica goes after the grace."""


class MigrationState(StrEnum):
    """One object's move on its way."""

    QUEUED = "queued"
    """Ready to be claimed."""
    WAITING = "waiting"
    """Not ready before `next_attempt_at`, for the `reason` given."""
    COPYING = "copying"
    """Its bytes are on their way under protection (multipart or condition)."""
    VERIFIED = "verified"
    """The copy was proven equal to the pinned source."""
    SWITCHED = "switched"
    """Reads go to the new replica; the old one is kept for the grace."""
    DRAINING = "draining"
    """The grace is over or a delete is not allowed yet; the old replica still exists."""
    DONE = "done"
    """Complete."""
    SKIPPED = "skipped"
    """Not done because there was nothing to do or the source is still being written."""
    BLOCKED = "blocked"
    """A policy or the destination forbids it; nothing was changed."""
    FAILED = "failed"
    """Ended by an error that trying again would not mend; the source is untouched."""
    DEAD = "dead"
    """Given up after too many attempts; the source is untouched."""
    CANCELLED = "cancelled"
    """Ended at a user's request before the switch."""
    ROLLED_BACK = "rolled_back"
    """The switch was reversed; the source serves again."""


class TeeState(StrEnum):
    """What came of a reader's writing the bytes that it had read where a move wants them."""

    OFFERED = "offered"
    """A reader has the move's lease; nobody knows yet what it has written."""
    WRITTEN = "written"
    """It says that all is there; the engine has not looked yet."""
    FAILED = "failed"
    """It gave up, and the engine copies."""
    REFUSED = "refused"
    """What the engine found there was not shown to be the source's bytes: it copies."""
    ADOPTED = "adopted"
    """The engine has proven the copy equal to the pinned source, and read the source no second time."""


class ReplicaState(StrEnum):
    """One copy of an object at one site."""

    COPYING = "copying"
    """Being written; never read."""
    VERIFIED = "verified"
    """Complete and proven, not yet read."""
    SERVING = "serving"
    """Routed to."""
    STALE = "stale"
    """Holds an older version of the object; never routed to, copied anew by the next plan."""
    DRAINING = "draining"
    """Replaced; still readable for those who hold its address."""
    REMOVING = "removing"
    """Being tidied away: nothing reads it, and nothing is copied there."""
    DELETED = "deleted"
    """Gone from the site."""
    LOST = "lost"
    """Recorded, yet missing at the site."""
    CORRUPT = "corrupt"
    """Its bytes do not match its checksum."""


class ObjectState(StrEnum):
    """A key in the catalogue."""

    UNKNOWN = "unknown"
    """Seen in accesses, not yet found by a scan; has no size and is not planned."""
    PRESENT = "present"
    """Has at least one replica."""
    GONE = "gone"
    """Deleted by its owner; repair never re-creates it."""


class PlanState(StrEnum):
    """A saved set of moves."""

    READY = "ready"
    """Solved and saved; waits for approval or apply."""
    APPROVED = "approved"
    """Approved by a user; waits for apply."""
    APPLYING = "applying"
    """Its migrations are on their way."""
    APPLIED = "applied"
    """All its migrations have ended."""
    INFEASIBLE = "infeasible"
    """The rules conflict; the plan says which and the cheapest relaxation."""
    CANCELLED = "cancelled"
    """Ended at a user's request."""
    ROLLED_BACK = "rolled_back"
    """Its switches were reversed."""


class SiteState(StrEnum):
    """One bucket at an S3 endpoint."""

    PROBING = "probing"
    """Registered; not used before its probe passes."""
    READY = "ready"
    """Probed and used."""
    UNREACHABLE = "unreachable"
    """Does not answer; nothing is moved to it until it does."""
    REFUSED = "refused"
    """The probe found what must be mended first: credentials, bucket or encryption."""
    DRAINING = "draining"
    """Receives nothing more; its replicas are moved away."""


class ModelState(StrEnum):
    """One version of a model."""

    CANDIDATE = "candidate"
    """Trained and past its gate; waits until the place of the shadow is free."""
    SHADOW = "shadow"
    """Scores a sample beside the champion without being used, and is judged on what then happens."""
    CHAMPION = "champion"
    """Serves."""
    RETIRED = "retired"
    """Served once, or was not good enough."""


class AlertState(StrEnum):
    """Something that a person should know."""

    ACTIVE = "active"
    """Stands and was not acknowledged."""
    ACKED = "acked"
    """Stands and somebody has seen it."""
    RESOLVED = "resolved"
    """Over."""


class DeadLetterState(StrEnum):
    """An event that a group of consumers could not handle."""

    DEAD = "dead"
    """Waits for a person to say what becomes of it."""
    RETRY = "retry"
    """To be handled once more by its group."""
    DONE = "done"
    """Handled at a later try."""
    DISCARDED = "discarded"
    """Given up at a user's request."""


class Mode(StrEnum):
    """How far Foretide goes by itself."""

    OBSERVE = "observe"
    """Plans only."""
    APPROVE = "approve"
    """Plans wait for a person's approval."""
    AUTO = "auto"
    """Plans are applied."""
    PAUSED = "paused"
    """Kill switch: nothing is moved."""


JOB_FINAL = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.DEAD, JobState.CANCELLED})
MIGRATION_FINAL = frozenset(
    {
        MigrationState.DONE,
        MigrationState.SKIPPED,
        MigrationState.BLOCKED,
        MigrationState.FAILED,
        MigrationState.DEAD,
        MigrationState.CANCELLED,
        MigrationState.ROLLED_BACK,
    }
)

_J, _M = JobState, MigrationState

JOB_TRANSITIONS: Mapping[JobState, frozenset[JobState]] = {
    _J.QUEUED: frozenset({_J.RUNNING, _J.WAITING, _J.CANCELLED}),
    _J.WAITING: frozenset({_J.QUEUED, _J.RUNNING, _J.CANCELLED, _J.SUCCEEDED, _J.FAILED, _J.DEAD}),
    _J.RUNNING: frozenset({_J.SUCCEEDED, _J.FAILED, _J.DEAD, _J.CANCELLED, _J.WAITING, _J.QUEUED, _J.RUNNING}),
    _J.SUCCEEDED: frozenset(),
    _J.FAILED: frozenset({_J.QUEUED}),
    _J.DEAD: frozenset({_J.QUEUED}),
    _J.CANCELLED: frozenset({_J.QUEUED}),
}

_EARLY = frozenset({_M.WAITING, _M.QUEUED, _M.SKIPPED, _M.BLOCKED, _M.FAILED, _M.DEAD, _M.CANCELLED})
MIGRATION_TRANSITIONS: Mapping[MigrationState, frozenset[MigrationState]] = {
    _M.QUEUED: frozenset({_M.COPYING, _M.SWITCHED, _M.DRAINING, _M.DONE}) | _EARLY - {_M.QUEUED},
    _M.WAITING: frozenset({_M.COPYING, _M.SWITCHED, _M.DRAINING, _M.DONE}) | _EARLY - {_M.WAITING},
    _M.COPYING: frozenset({_M.VERIFIED}) | _EARLY,
    _M.VERIFIED: frozenset({_M.SWITCHED, _M.DONE, _M.COPYING}) | _EARLY,
    _M.SWITCHED: frozenset({_M.DRAINING, _M.DONE, _M.ROLLED_BACK}),
    _M.DRAINING: frozenset({_M.DONE, _M.ROLLED_BACK}),
    **{final: frozenset({_M.QUEUED}) for final in (_M.FAILED, _M.DEAD, _M.SKIPPED, _M.BLOCKED, _M.CANCELLED)},
    _M.DONE: frozenset({_M.ROLLED_BACK, _M.DRAINING}),
    _M.ROLLED_BACK: frozenset(),
}

_P = PlanState
PLAN_TRANSITIONS: Mapping[PlanState, frozenset[PlanState]] = {
    _P.READY: frozenset({_P.APPROVED, _P.APPLYING, _P.CANCELLED}),
    _P.APPROVED: frozenset({_P.APPLYING, _P.CANCELLED}),
    _P.APPLYING: frozenset({_P.APPLIED, _P.ROLLED_BACK}),
    _P.APPLIED: frozenset({_P.APPLYING, _P.ROLLED_BACK}),
    _P.INFEASIBLE: frozenset(),
    _P.CANCELLED: frozenset(),
    _P.ROLLED_BACK: frozenset(),
}

_V = ModelState
MODEL_TRANSITIONS: Mapping[ModelState, frozenset[ModelState]] = {
    _V.CANDIDATE: frozenset({_V.SHADOW, _V.CHAMPION, _V.RETIRED}),
    _V.SHADOW: frozenset({_V.CHAMPION, _V.RETIRED}),
    _V.CHAMPION: frozenset({_V.RETIRED}),
    _V.RETIRED: frozenset({_V.SHADOW, _V.CHAMPION}),
}

_D = DeadLetterState
DEAD_LETTER_TRANSITIONS: Mapping[DeadLetterState, frozenset[DeadLetterState]] = {
    _D.DEAD: frozenset({_D.RETRY, _D.DISCARDED}),
    _D.RETRY: frozenset({_D.DEAD, _D.DONE, _D.DISCARDED}),
    _D.DONE: frozenset({_D.DEAD}),
    _D.DISCARDED: frozenset({_D.RETRY, _D.DEAD}),
}


S = TypeVar("S", bound=StrEnum)


def check_transition(table: Mapping[S, frozenset[S]], old: S, new: S) -> None:
    """Raises Conflict unless the table lets `old` become `new`."""
    if new not in table[old]:
        raise Conflict(f"{type(old).__name__.removesuffix('State').lower()} cannot go from {old} to {new}")


class BreakerState(StrEnum):
    """Whether a site gets reads."""

    CLOSED = "closed"
    """It gets reads."""
    OPEN = "open"
    """It gets none but one probe a second, until it answers well again."""
