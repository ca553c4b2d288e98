"""What an S3 error means: every answer that says no, every broken exchange and every error of botocore becomes one of
app.errors here and nowhere else."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache

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

from app.domain.restores import NEEDED
from app.errors import (
    AccessDenied,
    Blocked,
    BucketMissing,
    ChecksumMismatch,
    ConditionFailed,
    ForetideError,
    NotRestored,
    ObjectMissing,
    Permanent,
    SiteFaulty,
    SiteUnavailable,
    Throttled,
    UnknownOutcome,
)
from app.s3.wire import Garbled, Unsent, WireError

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
ARCHIVED = frozenset({"InvalidObjectState", "ObjectNotInActiveTierError"})
UPLOAD_MISSING = "upload_missing"
RESTORE_UNDER_WAY = "restore_already_in_progress"
CORRUPT = frozenset({"BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch"})
BAD_REQUEST = "http_400"
"""The reason of a 400 without a body to tell more."""
_CUSTOMER_KEY = re.compile(r"server.side encryption|SSE-?C\b|SSECustomerKey|customer.(provided )?key", re.IGNORECASE)
"""What servers say of an object that cannot be read without its owner's key."""
MESSAGE_LIMIT = 500
"""Characters of a server's message that are shown."""
NEVER_REACHED = (EndpointConnectionError, ConnectTimeoutError, ProxyConnectionError, SSLError)
"""Raised before the server saw the request, so that a write surely did not happen."""


@contextmanager
def classed(site: str, *, writes: bool = False) -> Iterator[None]:
    """Turns what botocore raises into the error tree.

    writes: the request changes something, so that a lost reply leaves its outcome unknown.
    Raises SiteUnavailable, SiteFaulty, Throttled, UnknownOutcome, ChecksumMismatch (transient), AccessDenied,
    BucketMissing, ObjectMissing, ConditionFailed, NotRestored or another Permanent.
    """
    try:
        yield
    except ClientError as error:
        told, meta = error.response.get("Error", {}), error.response.get("ResponseMetadata", {})
        code, status = str(told.get("Code", "")), int(meta.get("HTTPStatusCode", 0))
        raise refusal(site, status, code, str(told.get("Message", "")), meta.get("HTTPHeaders", {})) from error
    except ParamValidationError as error:
        raise Permanent(f"{site}: the request cannot be sent: {error}", reason="unsendable_request") from error
    except NEVER_REACHED as error:
        raise SiteUnavailable(f"{site} does not answer") from error
    except (ReadTimeoutError, ResponseStreamingError, IncompleteReadError, HTTPClientError) as error:
        cause = error.kwargs.get("error") if isinstance(error, HTTPClientError) else None
        if isinstance(cause, ForetideError):  # raised by our own connection, such as a refused address
            raise cause from None
        raise _no_answer(site, writes=writes) from error
    except BotoCoreError as error:
        raise Permanent(f"{site}: {error}", reason="unsendable_request") from error


def broken(site: str, error: WireError, *, writes: bool) -> ForetideError:
    """What it means that an exchange failed below HTTP; `writes` as in `classed`."""
    if isinstance(error, Unsent):
        return SiteUnavailable(f"{site} does not answer")
    if isinstance(error, Garbled) and not writes:
        return SiteFaulty(f"{site} answered what is not HTTP: {error}", reason="answer_garbled")
    return _no_answer(site, writes=writes)


def _no_answer(site: str, *, writes: bool) -> ForetideError:
    if writes:
        return UnknownOutcome(f"{site} did not answer a write; whether it happened is not known")
    return SiteUnavailable(f"{site} broke off its answer")


def refusal(site: str, status: int, code: str, message: str, headers: Mapping[str, str]) -> ForetideError:
    """What an answer means that says no; code and message: of its <Error>, which a HEAD has not.

    status: below 300 for an <Error> that came after the server had begun to say yes; headers: names in lower case.
    """
    says = f"{site}: {code or status} {message[:MESSAGE_LIMIT]}".strip()
    if code in THROTTLING or status in (429, 503):
        return Throttled(says, reason="throttled", retry_after_s=_retry_after_s(headers))
    if code == "NotImplemented":
        return Permanent(says, reason="not_implemented")
    if code in FAULTY or status >= 500:
        return SiteFaulty(says, reason=_snake(code) if code in FAULTY else None)
    if code in CORRUPT:
        return ChecksumMismatch(says)
    return _permanent(code, status, says)


def _permanent(code: str, status: int, says: str) -> Permanent:
    if status == 400 and _CUSTOMER_KEY.search(says):
        return Blocked(f"{says} (only its owner has the key)", reason="customer_key")
    if code in ARCHIVED:
        return NotRestored(says, reason=NEEDED)
    if code == "NoSuchBucket":
        return BucketMissing(says)
    if code == "NoSuchUpload":
        return ObjectMissing(says, reason=UPLOAD_MISSING)
    if code in MISSING or status == 404:
        return ObjectMissing(says)
    if code == "PreconditionFailed" or status == 412:
        return ConditionFailed(says)
    if status in (401, 403) or code == "AccessDenied":
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


@lru_cache(maxsize=1024)
def http_date(value: str) -> datetime | None:
    """An HTTP date as aware UTC; None when it is not one."""
    try:
        found = parsedate_to_datetime(value)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _snake(code: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", code).lower()
