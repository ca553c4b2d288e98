"""Objects at a site: look, read under a pin, write under a condition, re-hash, change class, delete under a guard."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote

from app.domain.pins import Pin
from app.errors import (
    ChecksumMismatch,
    ConditionFailed,
    ObjectMissing,
    Permanent,
    SiteFaulty,
    SourceChanged,
    UnknownOutcome,
)
from app.s3 import documents, outcomes
from app.s3.client import Bucket
from app.s3.exchange import Stream
from app.s3.heads import Carried, Head, head_of
from app.s3.wire import Buffer

__all__ = ["Carried", "Head"]  # what this module's functions take and give is found beside them
CHUNK = 1 << 18
_WITH_CHECKSUM = {"x-amz-checksum-mode": "ENABLED"}


def head(bucket: Bucket, key: str, version_id: str | None = None) -> Head:
    """Looks at the current version, or that of an id.

    Raises ObjectMissing, BucketMissing when it is the bucket that is not there, or Blocked when only its owner has the
    key that it is encrypted with.
    """
    try:
        headers, _ = bucket.ask("HEAD", key, _WITH_CHECKSUM, query={"versionId": version_id})
    except ObjectMissing:
        bucket.ask("GET", None, query={"list-type": 2, "max-keys": 1})  # a HEAD does not tell which of them is missing
        raise
    except Permanent as error:
        if error.reason == outcomes.BAD_REQUEST:  # as for a key that only its owner has; a HEAD does not tell
            with bucket.open(key, {"range": "bytes=0-0"}, version_id):
                pass
        raise
    return head_of(bucket.name, headers, bucket.booked_class)


def find(bucket: Bucket, key: str, version_id: str | None = None) -> Head | None:
    """As `head`, with None for an object that is not there."""
    try:
        return head(bucket, key, version_id)
    except ObjectMissing:
        return None


def tags(bucket: Bucket, key: str, version_id: str | None = None) -> dict[str, str]:
    """The object's tags."""
    _, body = bucket.ask("GET", key, query={"tagging": "", "versionId": version_id})
    found = bucket.document(body).iter("Tag")
    return {documents.text(tag, "Key"): documents.text(tag, "Value") for tag in found}


def with_tags(bucket: Bucket, key: str, found: Head) -> Carried:
    """All that travels with the object; asks for tags only where HEAD counted some."""
    return replace(found.carried, tags=tags(bucket, key, found.pin.version_id)) if found.tag_count else found.carried


# -- Reading ----------------------------------------------------------------------------------------------------------


def fetch(bucket: Bucket, key: str, limit: int) -> tuple[Head, bytes | bytearray | None]:
    """Looks at the current version and reads it in the same request; None for a body of more than `limit` bytes.

    Raises ObjectMissing, BucketMissing, or SiteUnavailable or SiteFaulty when the answer breaks off.
    """
    with bucket.open(key, _WITH_CHECKSUM) as stream:
        headers, body = stream.headers, _up_to(limit, stream)
    if body is not None:
        headers = {**headers, "content-length": str(len(body))}  # an answer in chunks does not tell it
    found = head_of(bucket.name, headers, bucket.booked_class)
    if body is not None and not stream.tells_end and head(bucket, key).pin.size != len(body):
        raise SiteFaulty(f"{bucket.name} broke off its answer", reason="answer_broken_off")
    return found, body


def _up_to(limit: int, stream: Stream) -> bytearray | None:
    if stream.length is not None and stream.length > limit:
        return None
    body = bytearray(limit + 1 if stream.length is None else stream.length)
    read = fill(stream, body)
    del body[read:]
    return body if read <= limit else None


def fill(stream: Stream, into: bytearray | memoryview) -> int:
    """Reads until `into` is full or the body ends; how much was read."""
    view, read = memoryview(into), 0
    while read < len(view) and (count := stream.readinto(view[read:])):
        read += count
    view.release()
    return read


@contextmanager
def reading(bucket: Bucket, key: str, pin: Pin) -> Iterator[Stream]:
    """Reads the pinned object. Raises SourceChanged when it is another one now, or gone."""
    with _pinned(bucket, key, pin, None, pin.size) as stream:
        yield stream


@contextmanager
def _pinned(bucket: Bucket, key: str, pin: Pin, span: str | None, size: int) -> Iterator[Stream]:
    wanted = {"if-match": f'"{pin.etag}"'} | ({"range": span} if span else {})
    with ExitStack() as held:
        try:
            stream = held.enter_context(bucket.open(key, wanted, pin.version_id))
        except (ConditionFailed, ObjectMissing):
            raise SourceChanged from None
        same = stream.headers.get("etag", "").strip('"') == pin.etag
        if not same or stream.length not in (None, size):
            raise SourceChanged  # servers that ignore If-Match
        yield stream


def read_part(bucket: Bucket, key: str, pin: Pin, start: int, into: memoryview) -> None:
    """Fills `into` with the pinned object's bytes from `start` on. Raises SourceChanged when it is another one now."""
    last = start + len(into) - 1
    with _pinned(bucket, key, pin, f"bytes={start}-{last}", len(into)) as stream:
        told = stream.headers.get("content-range", "")
        if not told.startswith(f"bytes {start}-{last}/") and len(into) < pin.size:
            raise SiteFaulty(f"{bucket.name} answered another range than was asked for", reason="answer_garbled")
        if (read := fill(stream, into)) < len(into):
            raise SourceChanged(f"the source ended {len(into) - read} bytes early")


def hashes(bucket: Bucket, key: str, pin: Pin, part_size: int) -> tuple[str, list[str]]:
    """SHA-256 of the whole object and of each part of `part_size` bytes, read back from the site."""
    whole, parts = hashlib.sha256(), [hashlib.sha256()]
    read = in_part = 0
    buffer = memoryview(bytearray(CHUNK))
    with reading(bucket, key, pin) as stream:
        while read < pin.size:
            if in_part == part_size:
                parts.append(hashlib.sha256())
                in_part = 0
            count = stream.readinto(buffer[: part_size - in_part])
            if not count:
                raise ChecksumMismatch(f"{bucket.name}: the object ends after {read} of {pin.size} bytes")
            whole.update(buffer[:count])
            parts[-1].update(buffer[:count])
            read, in_part = read + count, in_part + count
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
    encrypting: dict[str, str] = field(default_factory=dict)
    """The headers that ask for an encryption beside the bucket's own."""

    @property
    def condition(self) -> dict[str, str]:
        """If-None-Match or If-Match."""
        if not self.conditional:
            return {}
        return {"if-match": f'"{self.replaces}"'} if self.replaces else {"if-none-match": "*"}

    def headers(self, bucket: Bucket, carried: Carried) -> dict[str, str]:
        """What says how the object is to be: its class, and all that travels with the bytes."""
        storage_class = {"x-amz-storage-class": bucket.servers_class(self.storage_class)}
        return carried.sent(self.intent) | carried.tagging() | storage_class | self.encrypting


def put(bucket: Bucket, target: Target, body: Buffer, sha256: str, carried: Carried) -> None:
    """Writes a whole object. sha256: the body's, in hexadecimal, which the server checks as far as it can.

    Raises ConditionFailed when the destination is not as `target` says, ChecksumMismatch when the body is another.
    """
    headers = target.headers(bucket, carried) | target.condition
    if target.checksum:
        headers |= sha256_header(sha256)
    bucket.ask("PUT", target.key, headers, body=body, sha256=sha256, writes=True)


def sha256_header(sha256: str) -> dict[str, str]:
    """The header by which a server checks a body and keeps its SHA-256, given in hexadecimal."""
    return {"x-amz-checksum-sha256": documents.base64_of(sha256)}


def change_class(
    bucket: Bucket, key: str, found: Head, carried: Carried, storage_class: str, intent: str, over: str | None = None
) -> None:
    """Copies the pinned object onto itself in another class, with all that it carries (up to 5 GB).

    The metadata are sent again: a copy that only names a new class is refused by some servers. over: the ETag that has
    to stand there when the copy takes its place, for sites that look at that too. Raises ConditionFailed when the
    object is no longer the pinned one.
    """
    headers = carried.sent(intent) | found.encrypting | copy_source(bucket, key, found.pin)
    headers["x-amz-storage-class"] = bucket.servers_class(storage_class)
    headers["x-amz-metadata-directive"] = "REPLACE"
    if over:
        headers["if-match"] = f'"{over}"'
    _, body = bucket.ask("PUT", key, headers, writes=True)
    bucket.document(body, writes=True)


def copy_source(bucket: Bucket, key: str, pin: Pin) -> dict[str, str]:
    """The headers that name the pinned object as what is copied within its bucket."""
    source = quote(f"{bucket.bucket}/{key}", safe="/-._~")  # naming a version would bring back one that was overwritten
    return {"x-amz-copy-source": source, "x-amz-copy-source-if-match": f'"{pin.etag}"'}


def delete(bucket: Bucket, key: str, pin: Pin, *, conditional: bool) -> None:
    """Deletes the pinned object, in a versioned bucket by a delete marker. Raises ConditionFailed when it is another.

    A versioned bucket is looked at afterwards: when the marker hid a newer version than the pinned one, the marker is
    taken back. Conditions do not replace that: a server may check one and put its marker over what came meanwhile.
    """
    answer, _ = bucket.ask("DELETE", key, {"if-match": f'"{pin.etag}"'} if conditional else None, writes=True)
    marker = answer.get("x-amz-version-id") if answer.get("x-amz-delete-marker") == "true" else None
    newest = newest_version(bucket, key) if marker else None
    unseen = newest is None and conditional  # a listing that does not show the key shows nothing newer either
    if marker and not unseen and newest != (pin.version_id or "null"):
        bucket.ask("DELETE", key, query={"versionId": marker}, writes=True)
        raise ConditionFailed(f"{bucket.name}: a newer version was written before the delete; it stands again")


def delete_version(bucket: Bucket, key: str, version_id: str) -> None:
    """Removes one version for good, again if need be. Whoever asks has looked that it is not the current one."""
    try:
        bucket.ask("DELETE", key, query={"versionId": version_id}, writes=True)
    except ObjectMissing:
        return
    except UnknownOutcome:
        if find(bucket, key, version_id) is not None:
            raise


def newest_version(bucket: Bucket, key: str) -> str | None:
    """The id of the newest version, delete markers left out; None when there is none."""
    return next(iter(versions(bucket, key)), None)


def versions(bucket: Bucket, key: str) -> list[str]:
    """The ids of the key's newest versions, the newest first, delete markers left out."""
    found = bucket.call("list_object_versions", Prefix=key, MaxKeys=10).get("Versions", [])
    return [version["VersionId"] for version in found if version["Key"] == key]


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
        yield [Listed(entry["Key"], _pin(bucket, entry)) for entry in answer.get("Contents", [])]
        before, token = token, answer.get("NextContinuationToken")
        if not token and not answer.get("IsTruncated"):
            return
        if not token or token == before:  # what was not listed would be taken for deleted
            raise SiteFaulty(f"{bucket.name} does not list all that it holds", reason="answer_garbled")


def _pin(bucket: Bucket, entry: dict[str, Any]) -> Pin:
    return Pin(
        etag=entry["ETag"].strip('"'),
        size=entry["Size"],
        last_modified=entry["LastModified"].replace(microsecond=0),
        storage_class=bucket.booked_class(entry.get("StorageClass")),
    )
