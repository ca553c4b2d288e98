"""Unfinished multipart uploads of a bucket, as the site lists them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from app.s3.client import Bucket


@dataclass(frozen=True)
class Upload:
    """One that is neither completed nor aborted. initiated: by the server's clock, aware."""

    key: str
    upload_id: str
    initiated: datetime


def pages(bucket: Bucket, prefix: str = "") -> Iterator[list[Upload]]:
    """The bucket's unfinished uploads under a prefix, page by page."""
    key_marker: str | None = None
    id_marker: str | None = None
    while True:
        answer = bucket.call("list_multipart_uploads", Prefix=prefix, KeyMarker=key_marker, UploadIdMarker=id_marker)
        found = answer.get("Uploads", [])
        yield [Upload(entry["Key"], entry["UploadId"], entry["Initiated"]) for entry in found if "Initiated" in entry]
        key_marker, id_marker = answer.get("NextKeyMarker"), answer.get("NextUploadIdMarker")
        if not answer.get("IsTruncated") or not key_marker:
            return
