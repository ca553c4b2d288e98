"""Every S3 error means one thing: what is tried again, what is not, and when."""

import pytest
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    EndpointConnectionError,
    HTTPClientError,
    IncompleteReadError,
    ReadTimeoutError,
)

from app.errors import (
    AccessDenied,
    BucketMissing,
    ChecksumMismatch,
    ConditionFailed,
    NotRestored,
    ObjectMissing,
    Permanent,
    PolicyForbids,
    SiteFaulty,
    SiteUnavailable,
    Throttled,
    UnknownOutcome,
)
from app.s3.outcomes import classed


def answer(code, status, **headers):
    meta = {"HTTPStatusCode": status, "HTTPHeaders": headers}
    return ClientError({"Error": {"Code": code, "Message": "m"}, "ResponseMetadata": meta}, "PutObject")


def meaning(error, *, writes=False):
    with pytest.raises((Exception,)) as caught, classed("site", writes=writes):
        raise error
    return caught.value


@pytest.mark.parametrize(
    ("code", "status", "kind", "reason"),
    [
        ("InternalError", 500, SiteFaulty, "internal_error"),
        ("InternalError", 200, SiteFaulty, "internal_error"),
        ("502", 502, SiteFaulty, "site_faulty"),
        ("RequestTimeout", 400, SiteFaulty, "request_timeout"),
        ("OperationAborted", 409, SiteFaulty, "operation_aborted"),
        ("ConditionalRequestConflict", 409, SiteFaulty, "conditional_request_conflict"),
        ("RequestTimeTooSkewed", 403, SiteFaulty, "request_time_too_skewed"),
        ("SlowDown", 503, Throttled, "throttled"),
        ("ServiceUnavailable", 503, Throttled, "throttled"),
        ("503", 503, Throttled, "throttled"),
        ("TooManyRequests", 429, Throttled, "throttled"),
        ("ThrottlingException", 400, Throttled, "throttled"),
        ("AccessDenied", 403, AccessDenied, "access_denied"),
        ("SignatureDoesNotMatch", 403, AccessDenied, "access_denied"),
        ("403", 403, AccessDenied, "access_denied"),
        ("NoSuchBucket", 404, BucketMissing, "bucket_missing"),
        ("NoSuchKey", 404, ObjectMissing, "object_missing"),
        ("404", 404, ObjectMissing, "object_missing"),
        ("NoSuchUpload", 404, ObjectMissing, "upload_missing"),
        ("PreconditionFailed", 412, ConditionFailed, "condition_failed"),
        ("412", 412, ConditionFailed, "condition_failed"),
        ("BadDigest", 400, ChecksumMismatch, "checksum_mismatch"),
        ("InvalidObjectState", 403, NotRestored, "restore_needed"),
        ("ObjectNotInActiveTierError", 403, NotRestored, "restore_needed"),
        ("InvalidArgument", 400, Permanent, "invalid_argument"),
        ("NotImplemented", 501, Permanent, "not_implemented"),
    ],
)
def test_an_answer_is_classed(code, status, kind, reason):
    found = meaning(answer(code, status))
    assert (type(found), found.reason) == (kind, reason)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "Fri, 01 May 2026 12:00:30 GMT", "date": "Fri, 01 May 2026 12:00:00 GMT"}, 30),
        ({"retry-after": "Fri, 01 May 2026 11:00:00 GMT", "date": "Fri, 01 May 2026 12:00:00 GMT"}, 0),
        ({"retry-after": "soon"}, None),
        ({}, None),
    ],
)
def test_retry_after_is_read_in_both_its_forms(headers, seconds):
    assert meaning(answer("SlowDown", 503, **headers)).retry_after_s == seconds


def test_a_lost_reply_to_a_write_is_an_unknown_outcome():
    lost = (
        ReadTimeoutError(endpoint_url="u", error="e"),
        ConnectionClosedError(endpoint_url="u", error="e"),
        IncompleteReadError(actual_bytes=1, expected_bytes=2),
    )
    for error in lost:
        assert type(meaning(error, writes=True)) is UnknownOutcome
        assert type(meaning(error)) is SiteUnavailable
    never_sent = EndpointConnectionError(endpoint_url="u", error="e")
    assert type(meaning(never_sent, writes=True)) is SiteUnavailable


def test_an_address_that_was_refused_stays_that():
    found = meaning(HTTPClientError(error=PolicyForbids("internal", reason="endpoint_refused")), writes=True)
    assert (type(found), found.reason) == (PolicyForbids, "endpoint_refused")
