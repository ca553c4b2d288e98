"""What an S3 error means: every ClientError and BotoCoreError becomes one of app.errors here and nowhere else."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
    IncompleteReadError,
    ParamValidationError,
    ProxyConnectionError,
    ReadTimeoutError,
    ResponseStreamingError,
    SSLError,
)

from app.errors import (
    AccessDenied,
    Blocked,
    BucketMissing,
    ChecksumMismatch,
    ConditionFailed,
    ForetideError,
    ObjectMissing,
    Permanent,
    SiteFaulty,
    SiteUnavailable,
    Throttled,
    UnknownOutcome,
)

THROTTLING = frozenset(
    {
        "SlowDown",
        "ServiceUnavailable",
        "Throttling",
        "ThrottlingException",
        "TooManyRequests",
        "TooManyRequestsException",
        "RequestLimitExceeded",
        "BandwidthLimitExceeded",
        "429",
        "503",
    }
)
FAULTY = frozenset(
    {
        "InternalError",
        "RequestTimeout",
        "OperationAborted",
        "ConditionalRequestConflict",
        "RequestTimeTooSkewed",
    }
)
MISSING = frozenset({"NoSuchKey", "NoSuchVersion", "NotFound", "404"})
UPLOAD_MISSING = "upload_missing"
CORRUPT = frozenset({"BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch"})
NEVER_REACHED = (EndpointConnectionError, ConnectTimeoutError, ProxyConnectionError, SSLError)
"""Raised before the server saw the request, so that a write surely did not happen."""


@contextmanager
def classed(site: str, *, writes: bool = False) -> Iterator[None]:
    """Turns what botocore raises into the error tree.

    writes: the request changes something, so that a lost reply leaves its outcome unknown.
    Raises SiteUnavailable, SiteFaulty, Throttled, UnknownOutcome, ChecksumMismatch (transient), AccessDenied,
    BucketMissing, ObjectMissing, ConditionFailed, Blocked or another Permanent.
    """
    try:
        yield
    except ClientError as error:
        raise _from_answer(site, error.response) from error
    except ParamValidationError as error:
        raise Permanent(f"{site}: the request cannot be sent: {error}", reason="unsendable_request") from error
    except NEVER_REACHED as error:
        raise SiteUnavailable(f"{site} does not answer") from error
    except (ReadTimeoutError, ResponseStreamingError, IncompleteReadError, HTTPClientError) as error:
        cause = error.kwargs.get("error") if isinstance(error, HTTPClientError) else None
        if isinstance(cause, ForetideError):  # raised by our own connection, such as a refused address
            raise cause from None
        if writes:
            raise UnknownOutcome(f"{site} did not answer a write; whether it happened is not known") from error
        raise SiteUnavailable(f"{site} broke off its answer") from error
    except BotoCoreError as error:
        raise Permanent(f"{site}: {error}", reason="unsendable_request") from error


def _from_answer(site: str, response: Mapping[str, Any]) -> ForetideError:
    told, meta = response.get("Error", {}), response.get("ResponseMetadata", {})
    code, status = str(told.get("Code", "")), int(meta.get("HTTPStatusCode", 0))
    says = f"{site}: {code or status} {told.get('Message', '')}".strip()
    if code in THROTTLING or status in (429, 503):
        return Throttled(says, reason="throttled", retry_after_s=_retry_after_s(meta.get("HTTPHeaders", {})))
    if code == "NotImplemented":
        return Permanent(says, reason="not_implemented")
    if code in FAULTY or status >= 500:
        return SiteFaulty(says, reason=_snake(code) if code in FAULTY else None)
    if code in CORRUPT:
        return ChecksumMismatch(says)
    return _permanent(code, status, says)


def _permanent(code: str, status: int, says: str) -> Permanent:
    if code == "InvalidObjectState":
        return Blocked(says, reason="restore_needed")
    if code == "NoSuchBucket":
        return BucketMissing(says)
    if code == "NoSuchUpload":
        return ObjectMissing(says, reason=UPLOAD_MISSING)
    if code in MISSING or status == 404:
        return ObjectMissing(says)
    if code == "PreconditionFailed" or status == 412:
        return ConditionFailed(says)
    if status in (401, 403):
        return AccessDenied(says)
    return Permanent(says, reason=_snake(code) or f"http_{status}")


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds named by Retry-After, a number or a date (RFC 9110, 10.2.3); None when it is absent or unreadable."""
    value = headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d{1,6}(\.\d+)?", value):
        return float(value)
    until = http_date(value)
    since = http_date(headers.get("date", "")) or datetime.now(UTC)
    return max(0.0, (until - since).total_seconds()) if until else None


def http_date(value: str) -> datetime | None:
    """An HTTP date as aware UTC; None when it is not one."""
    try:
        found = parsedate_to_datetime(value)
    except ValueError:
        return None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)


def _snake(code: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", code).lower()
