"""The one error tree: what may be tried again (Transient) and what may not (Permanent).

Errors are classed once, where a library's error is caught; every retry loop, HTTP reply and exit code looks at the
class alone. A class's docstring is the message a user reads when the raiser gives no detail.
"""

from __future__ import annotations

import ast
import sys
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from pathlib import Path
from typing import ClassVar


class ExitCode(IntEnum):
    """Exit codes of the command line, documented in docs/cli.md."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    CONFLICT = 4
    RETRYABLE = 5
    POLICY = 6
    PARTIAL = 7
    LIMIT = 8
    TIMEOUT = 10
    CHANGES = 20


@dataclass(frozen=True)
class FieldError:
    """One field that is wrong: an RFC 6901 pointer into the request and what to do about it."""

    pointer: str
    detail: str


def pointer_to(*parts: str | int) -> str:
    """An RFC 6901 pointer of names and numbers, as they stand in the request."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


@cache
def docstrings(module: str) -> dict[str, str]:
    """What a module's functions and classes say of themselves, by its source: `serve` runs without docstrings."""
    tree = ast.parse(Path(str(sys.modules[module].__file__)).read_text())
    kinds = (ast.FunctionDef, ast.ClassDef)
    return {node.name: ast.get_docstring(node) or "" for node in tree.body if isinstance(node, kinds)}


def _message(kind: type) -> str:
    return (kind.__doc__ or docstrings(kind.__module__)[kind.__name__]).partition("\n")[0]


class ForetideError(Exception):
    """Something went wrong."""

    slug: ClassVar[str] = "error"
    status: ClassVar[int] = 500
    exit_code: ClassVar[ExitCode] = ExitCode.FAILED

    def __init__(
        self, detail: str | None = None, *, reason: str | None = None, errors: tuple[FieldError, ...] = ()
    ) -> None:
        """detail: one sentence for the user; reason: a stable machine word kept in job and migration rows."""
        self.detail = detail or _message(type(self))
        self.reason = reason or self.slug.replace("-", "_")
        self.errors = errors
        super().__init__(self.detail)


class Transient(ForetideError):
    """The same request may succeed later."""

    slug = "transient"
    status = 503
    exit_code = ExitCode.RETRYABLE

    def __init__(
        self, detail: str | None = None, *, reason: str | None = None, retry_after_s: float | None = None
    ) -> None:
        """retry_after_s: the earliest time from now, in seconds, at which the other side asked to be tried again."""
        super().__init__(detail, reason=reason)
        self.retry_after_s = retry_after_s


class Permanent(ForetideError):
    """The same request will fail again: something must change first."""

    slug = "permanent"
    status = 422


# -- Transient -------------------------------------------------------------------------------------------------------


class Unavailable(Transient):
    """A part that this needs does not answer."""

    slug = "unavailable"


class DatabaseUnavailable(Unavailable):
    """The database does not answer."""

    slug = "database-unavailable"


class Deadlocked(DatabaseUnavailable):
    """The database ended a transaction that waited for another in a circle; nothing of it happened."""

    slug = "deadlocked"


class BrokerUnavailable(Unavailable):
    """The message broker does not answer; the work is committed and will be rung again."""

    slug = "broker-unavailable"


class Throttled(Transient):
    """Too many requests."""

    slug = "throttled"
    status = 429
    exit_code = ExitCode.LIMIT


class Overloaded(Transient):
    """The queue is full; try again later."""

    slug = "overloaded"
    exit_code = ExitCode.LIMIT


class SiteUnavailable(Unavailable):
    """The site does not answer."""

    slug = "site-unavailable"


class SiteFaulty(Transient):
    """The site answered with an error of its own."""

    slug = "site-faulty"


class SourceChanged(Transient):
    """The source changed while it was copied; the copy was given up and will be started anew."""

    slug = "source-changed"


class ChecksumMismatch(Transient):
    """The copy's bytes differ from the source's; the copy was given up."""

    slug = "checksum-mismatch"


class UnknownOutcome(Transient):
    """A write timed out: whether it happened must be found out before it is tried again."""

    slug = "unknown-outcome"


class OverBudget(Transient):
    """The day's budget for moves is used up; the move waits for the next day."""

    slug = "over-budget"


class HeldBack(Transient):
    """This waits for its turn: a limit, a pause or the worker's end keeps it back."""

    slug = "held-back"


class LeaseLost(Transient):
    """Another worker has taken this work over; nothing more is written here."""

    slug = "lease-lost"


class Cancelled(ForetideError):
    """The work was cancelled at the user's request."""

    slug = "cancelled"
    status = 409
    exit_code = ExitCode.CONFLICT


class WaitTimeout(Transient):
    """The time given for waiting is over; the work goes on."""

    slug = "wait-timeout"
    status = 408
    exit_code = ExitCode.TIMEOUT


# -- Permanent -------------------------------------------------------------------------------------------------------


class Invalid(Permanent):
    """The request is not valid."""

    slug = "invalid"
    exit_code = ExitCode.USAGE


class BadRequest(Permanent):
    """The request cannot be read."""

    slug = "bad-request"
    status = 400
    exit_code = ExitCode.USAGE


class Unauthorized(Permanent):
    """A valid bearer token is needed; make one with `foretide tokens create`."""

    slug = "unauthorized"
    status = 401


class Forbidden(Permanent):
    """The token's role does not allow this."""

    slug = "forbidden"
    status = 403
    exit_code = ExitCode.POLICY


class NotFound(Permanent):
    """There is no such thing."""

    slug = "not-found"
    status = 404
    exit_code = ExitCode.NOT_FOUND


class Conflict(Permanent):
    """The state of the thing does not allow this."""

    slug = "conflict"
    status = 409
    exit_code = ExitCode.CONFLICT


class PlanStale(Conflict):
    """The world has changed since the plan was made."""

    slug = "plan-stale"


class PreconditionFailed(Permanent):
    """The document changed since it was read; read it again."""

    slug = "precondition-failed"
    status = 412
    exit_code = ExitCode.CONFLICT


class PreconditionRequired(Permanent):
    """Send If-Match with the ETag of the document that you read."""

    slug = "precondition-required"
    status = 428
    exit_code = ExitCode.USAGE


class TooLarge(Permanent):
    """The request is larger than allowed."""

    slug = "too-large"
    status = 413
    exit_code = ExitCode.LIMIT


class UnsupportedMedia(Permanent):
    """The content type is not one that this route reads."""

    slug = "unsupported-media-type"
    status = 415
    exit_code = ExitCode.USAGE


class OffsetGone(Permanent):
    """The events from this offset on were removed by retention."""

    slug = "offset-gone"
    status = 410
    exit_code = ExitCode.CONFLICT


class PolicyForbids(Permanent):
    """A policy forbids this."""

    slug = "policy"
    status = 409
    exit_code = ExitCode.POLICY


class Infeasible(Permanent):
    """No placement meets all the rules at once."""

    slug = "infeasible"
    exit_code = ExitCode.POLICY


class AccessDenied(Permanent):
    """The site refused the credentials."""

    slug = "access-denied"


class BucketMissing(Permanent):
    """The bucket does not exist at the site."""

    slug = "bucket-missing"


class ObjectMissing(Permanent):
    """The object does not exist at the site."""

    slug = "object-missing"
    status = 404
    exit_code = ExitCode.NOT_FOUND


class ConditionFailed(Permanent):
    """A condition sent with the request does not hold: the object at the site is not the expected one."""

    slug = "condition-failed"
    status = 412


class NotEnoughData(Permanent):
    """There are too few accesses to learn from."""

    slug = "not-enough-data"


class ArtifactRefused(Permanent):
    """The model's file does not match its recorded hash and signature, or holds types that are not trusted."""

    slug = "artifact-refused"


class Blocked(Permanent):
    """A rule keeps this move from being made."""

    slug = "blocked"


class NotRestored(Blocked):
    """The object lies in an archive and has to be restored before it is read."""

    slug = "not-restored"


class Skipped(Permanent):
    """There is nothing to do for this move now."""

    slug = "skipped"


class SettingsError(Permanent):
    """The settings are not valid."""

    slug = "settings"
    exit_code = ExitCode.USAGE
