"""Multipart uploads: parts under an upload id that nobody sees until they are completed under a condition."""

from __future__ import annotations

from collections.abc import Sequence

from app.errors import ObjectMissing
from app.s3.client import Bucket
from app.s3.objects import Carried, Target, tagging


def begin(bucket: Bucket, target: Target, carried: Carried) -> str:
    """Starts an upload; returns its id, to be kept before any part is sent."""
    answer = bucket.call(
        "create_multipart_upload",
        writes=True,
        Key=target.key,
        StorageClass=bucket.servers_class(target.storage_class),
        Tagging=tagging(carried.tags),
        **carried.parameters(target.intent),
    )
    return str(answer["UploadId"])


def send_part(bucket: Bucket, key: str, upload_id: str, number: int, body: bytes | bytearray) -> str:
    """Sends a part, again if need be; returns its ETag. Raises ObjectMissing when the upload does not exist."""
    answer = bucket.call("upload_part", writes=True, Key=key, UploadId=upload_id, PartNumber=number, Body=body)
    return str(answer["ETag"])


def complete(bucket: Bucket, target: Target, upload_id: str, etags: Sequence[str]) -> None:
    """Makes the object of its parts. Raises ConditionFailed when the destination is not as `target` says."""
    bucket.call(
        "complete_multipart_upload",
        writes=True,
        Key=target.key,
        UploadId=upload_id,
        MultipartUpload={"Parts": [{"PartNumber": n, "ETag": etag} for n, etag in enumerate(etags, start=1)]},
        **target.condition,
    )


def sent_parts(bucket: Bucket, key: str, upload_id: str) -> dict[int, str] | None:
    """The ETags of the parts that the site holds, by number; None when there is no such upload."""
    found: dict[int, str] = {}
    marker: int | None = None
    try:
        while True:
            answer = bucket.call("list_parts", Key=key, UploadId=upload_id, PartNumberMarker=marker)
            found |= {part["PartNumber"]: part["ETag"] for part in answer.get("Parts", [])}
            if not answer.get("IsTruncated"):
                return found
            marker = answer["NextPartNumberMarker"]
    except ObjectMissing:
        return None


def abort(bucket: Bucket, key: str, upload_id: str) -> None:
    """Ends an upload and frees its parts; nothing happens when there is no such upload."""
    try:
        bucket.call("abort_multipart_upload", writes=True, Key=key, UploadId=upload_id)
    except ObjectMissing:
        return
