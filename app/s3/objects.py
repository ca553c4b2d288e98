"""Objects at a site: look, read under a pin, write under a condition, re-hash, change class, delete under a guard."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from app.domain.pins import Pin
from app.errors import ChecksumMismatch, ConditionFailed, ObjectMissing, SourceChanged
from app.s3.client import Bucket
from app.s3.outcomes import classed, http_date

INTENT = "foretide-intent"
"""User metadata that names the migration and claim which wrote an object, so that its own work is recognised."""
METADATA_LIMIT = 2048
CHUNK = 1 << 18
_HEADERS = {
    "content_type": "ContentType",
    "content_encoding": "ContentEncoding",
    "cache_control": "CacheControl",
    "content_disposition": "ContentDisposition",
    "content_language": "ContentLanguage",
    "website_redirect": "WebsiteRedirectLocation",
}


@dataclass(frozen=True)
class Carried:
    """What travels with the bytes: headers by the names above, user metadata (keys in lower case), tags."""

    headers: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def parameters(self, intent: str) -> dict[str, Any]:
        """For PutObject, CreateMultipartUpload and CopyObject, marked with the intent when it fits in the 2 KB."""
        metadata = dict(self.metadata)
        if sum(len(k) + len(v) for k, v in metadata.items()) + len(INTENT) + len(intent) <= METADATA_LIMIT:
            metadata[INTENT] = intent
        return {_HEADERS[name]: value for name, value in self.headers.items()} | {"Metadata": metadata}


@dataclass(frozen=True)
class Head:
    """What a HEAD answered."""

    pin: Pin
    carried: Carried
    """Without tags; `tag_count` says how many there are."""
    intent: str | None
    tag_count: int
    sha256: str | None
    """The full object's, in hexadecimal, where the server keeps one."""
    server_date: datetime | None
    customer_key: bool
    encryption: str | None
    kms_key: str | None
    locked_until: datetime | None
    legal_hold: bool

    def is_locked(self, now: datetime) -> bool:
        """Whether object lock forbids a delete."""
        return self.legal_hold or (self.locked_until is not None and self.locked_until > now)


def head(bucket: Bucket, key: str) -> Head:
    """Looks at the current version. Raises ObjectMissing, or BucketMissing when it is the bucket that is not there."""
    try:
        answer = bucket.call("head_object", Key=key, ChecksumMode="ENABLED")
    except ObjectMissing:
        bucket.call("list_objects_v2", MaxKeys=1)  # HEAD tells a missing bucket and object apart only so
        raise
    metadata = {name.lower(): value for name, value in answer.get("Metadata", {}).items()}
    intent = metadata.pop(INTENT, None)
    return Head(
        pin=_pin(bucket, answer, answer["ContentLength"], answer.get("VersionId")),
        carried=Carried({name: answer[field] for name, field in _HEADERS.items() if answer.get(field)}, metadata),
        intent=intent,
        tag_count=answer.get("TagCount", 0),
        sha256=_full_sha256(answer),
        server_date=http_date(answer["ResponseMetadata"]["HTTPHeaders"].get("date", "")),
        customer_key="SSECustomerAlgorithm" in answer,
        encryption=answer.get("ServerSideEncryption"),
        kms_key=answer.get("SSEKMSKeyId"),
        locked_until=answer.get("ObjectLockRetainUntilDate"),
        legal_hold=answer.get("ObjectLockLegalHoldStatus") == "ON",
    )


def find(bucket: Bucket, key: str) -> Head | None:
    """As `head`, with None for an object that is not there."""
    try:
        return head(bucket, key)
    except ObjectMissing:
        return None


def _pin(bucket: Bucket, answer: dict[str, Any], size: int, version_id: str | None) -> Pin:
    return Pin(
        etag=answer["ETag"].strip('"'),
        size=size,
        last_modified=answer["LastModified"].replace(microsecond=0),
        version_id=None if version_id in (None, "", "null") else version_id,
        storage_class=bucket.booked_class(answer.get("StorageClass")),
    )


def _full_sha256(answer: dict[str, Any]) -> str | None:
    found = answer.get("ChecksumSHA256", "")
    if not found or "-" in found or answer.get("ChecksumType") == "COMPOSITE":
        return None
    return base64.b64decode(found).hex()


def tags(bucket: Bucket, key: str, version_id: str | None = None) -> dict[str, str]:
    """The object's tags."""
    answer = bucket.call("get_object_tagging", Key=key, VersionId=version_id)
    return {tag["Key"]: tag["Value"] for tag in answer["TagSet"]}


def with_tags(bucket: Bucket, key: str, found: Head) -> Carried:
    """All that travels with the object; asks for tags only where HEAD counted some."""
    return replace(found.carried, tags=tags(bucket, key, found.pin.version_id)) if found.tag_count else found.carried


# -- Reading ----------------------------------------------------------------------------------------------------------


class Reader:
    """The body of a pinned object, read in pieces of bounded size."""

    def __init__(self, bucket: Bucket, body: Any) -> None:
        self._site, self._body = bucket.name, body

    def read(self, size: int) -> bytes:
        """Up to `size` bytes, fewer only at the end. Raises SiteUnavailable when the answer breaks off."""
        with classed(self._site):
            piece: bytes = self._body.read(size)
        return piece


@contextmanager
def reading(bucket: Bucket, key: str, pin: Pin, start: int = 0) -> Iterator[Reader]:
    """Reads the pinned object from byte `start` on. Raises SourceChanged when it is another one now, or gone."""
    try:
        answer = bucket.call(
            "get_object",
            Key=key,
            IfMatch=f'"{pin.etag}"',
            VersionId=pin.version_id,
            Range=f"bytes={start}-" if start else None,
        )
    except (ConditionFailed, ObjectMissing):
        raise SourceChanged from None
    body = answer["Body"]
    try:
        if answer["ETag"].strip('"') != pin.etag or answer["ContentLength"] != pin.size - start:
            raise SourceChanged  # servers that ignore If-Match
        yield Reader(bucket, body)
    finally:
        body.close()


def hashes(bucket: Bucket, key: str, pin: Pin, part_size: int) -> tuple[str, list[str]]:
    """SHA-256 of the whole object and of each part of `part_size` bytes, read back from the site."""
    whole, parts = hashlib.sha256(), [hashlib.sha256()]
    read = in_part = 0
    with reading(bucket, key, pin) as source:
        while read < pin.size:
            if in_part == part_size:
                parts.append(hashlib.sha256())
                in_part = 0
            piece = source.read(min(CHUNK, part_size - in_part))
            if not piece:
                raise ChecksumMismatch(f"{bucket.name}: the object ends after {read} of {pin.size} bytes")
            whole.update(piece)
            parts[-1].update(piece)
            read, in_part = read + len(piece), in_part + len(piece)
    return whole.hexdigest(), [part.hexdigest() for part in parts]


# -- Writing ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Target:
    """How an object is to be written: its class, the mark of who writes it, and what must be there before.

    replaces: the ETag of the object that may be overwritten; None: nothing may be there.
    """

    key: str
    storage_class: str
    intent: str
    replaces: str | None = None
    conditional: bool = True
    """Whether the site honours conditions; where it does not, the caller has looked first."""
    checksum: bool = False
    """Whether the site checks a SHA-256 that is sent along."""

    @property
    def condition(self) -> dict[str, Any]:
        """If-None-Match or If-Match."""
        if not self.conditional:
            return {}
        return {"IfMatch": f'"{self.replaces}"'} if self.replaces else {"IfNoneMatch": "*"}


def put(bucket: Bucket, target: Target, body: bytes | bytearray, sha256: str, carried: Carried) -> None:
    """Writes a whole object. Raises ConditionFailed when the destination is not as `target` says."""
    bucket.call(
        "put_object",
        writes=True,
        Key=target.key,
        Body=body,
        StorageClass=bucket.servers_class(target.storage_class),
        Tagging=tagging(carried.tags),
        ChecksumSHA256=base64.b64encode(bytes.fromhex(sha256)).decode() if target.checksum else None,
        **carried.parameters(target.intent),
        **target.condition,
    )


def tagging(found: dict[str, str]) -> str | None:
    """Tags as the header x-amz-tagging carries them; None when there are none."""
    return urlencode(found) or None


def change_class(bucket: Bucket, key: str, found: Head, carried: Carried, storage_class: str, intent: str) -> None:
    """Copies the pinned object onto itself in another class, with all that it carries (up to 5 GB).

    The metadata are sent again: a copy that only names a new class is refused by some servers. Raises ConditionFailed
    when the object is no longer the pinned one.
    """
    bucket.call(
        "copy_object",
        writes=True,
        Key=key,
        CopySource={"Bucket": bucket.bucket, "Key": key},  # naming a version would bring back one that was overwritten
        CopySourceIfMatch=f'"{found.pin.etag}"',
        StorageClass=bucket.servers_class(storage_class),
        MetadataDirective="REPLACE",
        ServerSideEncryption=found.encryption,
        SSEKMSKeyId=found.kms_key,
        **carried.parameters(intent),
    )


def delete(bucket: Bucket, key: str, pin: Pin, *, conditional: bool) -> None:
    """Deletes the pinned object, in a versioned bucket by a delete marker. Raises ConditionFailed when it is another.

    Without conditional deletes a versioned bucket is looked at afterwards: when the marker hid a newer version than the
    pinned one, the marker is taken back.
    """
    condition = f'"{pin.etag}"' if conditional else None
    answer = bucket.call("delete_object", writes=True, Key=key, IfMatch=condition)
    marker = answer.get("VersionId") if answer.get("DeleteMarker") else None
    if marker and not conditional and _newest_version(bucket, key) != (pin.version_id or "null"):
        bucket.call("delete_object", writes=True, Key=key, VersionId=marker)
        raise ConditionFailed(f"{bucket.name}: a newer version was written before the delete; it stands again")


def _newest_version(bucket: Bucket, key: str) -> str | None:
    versions = bucket.call("list_object_versions", Prefix=key, MaxKeys=10).get("Versions", [])
    return next((version["VersionId"] for version in versions if version["Key"] == key), None)


# -- Listing ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Listed:
    """One line of a listing."""

    key: str
    pin: Pin


def pages(bucket: Bucket, prefix: str = "") -> Iterator[list[Listed]]:
    """The bucket's objects under a prefix, in pages of at most 1,000, in the server's order."""
    token: str | None = None
    while True:
        answer = bucket.call("list_objects_v2", Prefix=prefix, ContinuationToken=token)
        yield [Listed(entry["Key"], _pin(bucket, entry, entry["Size"], None)) for entry in answer.get("Contents", [])]
        token = answer.get("NextContinuationToken")
        if not token:
            return
