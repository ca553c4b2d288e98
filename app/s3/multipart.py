"""Multipart uploads: parts under an upload id that nobody sees until they are completed under a condition."""

from __future__ import annotations

from collections.abc import Sequence

from app.errors import ObjectMissing, SiteFaulty
from app.s3 import documents
from app.s3.client import Bucket, Query
from app.s3.heads import Carried
from app.s3.objects import Target, sha256_header
from app.s3.wire import Buffer


def begin(bucket: Bucket, target: Target, carried: Carried) -> str:
    """Starts an upload; returns its id, to be kept before any part is sent."""
    headers = target.headers(bucket, carried) | ({"x-amz-checksum-algorithm": "SHA256"} if target.checksum else {})
    _, body = bucket.ask("POST", target.key, headers, query={"uploads": ""}, writes=True)
    return documents.text(bucket.document(body, writes=True), "UploadId")


def send_part(
    bucket: Bucket,
    key: str,
    upload_id: str,
    number: int,
    body: Buffer,
    sha256: str | None = None,
    *,
    checksum: bool = False,
) -> str:
    """Sends a part, again if need be; returns its ETag. sha256: the body's, in hexadecimal; checksum: as in Target.

    Raises ObjectMissing when the upload does not exist, ChecksumMismatch when the body is another.
    """
    part: Query = {"partNumber": number, "uploadId": upload_id}
    wanted = sha256_header(sha256) if checksum and sha256 else None
    headers, _ = bucket.ask("PUT", key, wanted, query=part, body=body, sha256=sha256, writes=True)
    if not headers.get("etag"):
        raise SiteFaulty(f"{bucket.name} told no ETag of a part", reason="answer_garbled")
    return headers["etag"]


def complete(bucket: Bucket, target: Target, upload_id: str, etags: Sequence[str], sha256s: Sequence[str] = ()) -> None:
    """Makes the object of its parts. Raises ConditionFailed when the destination is not as `target` says.

    sha256s: the parts' in hexadecimal, needed where the upload was begun with checksums.
    """
    wanted = documents.completion(etags, sha256s if target.checksum else ())
    query = {"uploadId": upload_id}
    _, body = bucket.ask("POST", target.key, target.condition, query=query, body=wanted, writes=True)
    bucket.document(body, writes=True)


def sent_parts(bucket: Bucket, key: str, upload_id: str) -> dict[int, str] | None:
    """The ETags of the parts that the site holds, by number; None when there is no such upload."""
    found: dict[int, str] = {}
    marker: str | None = None
    try:
        while True:
            _, body = bucket.ask("GET", key, query={"uploadId": upload_id, "part-number-marker": marker})
            listed = bucket.document(body)
            for part in listed.iter("Part"):
                if (number := documents.text(part, "PartNumber")).isdecimal():
                    found[int(number)] = documents.text(part, "ETag")
            marker = documents.text(listed, "NextPartNumberMarker")
            if documents.text(listed, "IsTruncated") != "true" or not marker:
                return found
    except ObjectMissing:
        return None


def abort(bucket: Bucket, key: str, upload_id: str) -> None:
    """Ends an upload and frees its parts; nothing happens when there is no such upload."""
    try:
        bucket.ask("DELETE", key, query={"uploadId": upload_id}, writes=True)
    except ObjectMissing:
        return
