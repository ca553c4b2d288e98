"""Multipart uploads: parts under an upload id that nobody sees until they are completed under a condition."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from app.domain.pins import Pin
from app.errors import Blocked, ObjectMissing, Permanent, SiteFaulty, SourceChanged, UnknownOutcome
from app.s3 import documents, objects
from app.s3.client import Bucket, Query
from app.s3.heads import Carried, Head
from app.s3.objects import Target, sha256_header
from app.s3.outcomes import UPLOAD_MISSING
from app.s3.wire import Buffer

UNKNOWN = frozenset({"method_not_allowed", "not_implemented", "http_405"})
"""Why a server refuses a request that it does not have."""
NO_PART_COPY = "no_part_copy"
"""The reason of a change of class in parts at a site that does not copy a part itself."""


@dataclass(frozen=True)
class SentPart:
    """A part that the destination has."""

    number: int
    etag: str
    size: int
    sha256: str
    """Empty for one that the site has copied itself."""


class Ledger(Protocol):
    """Where an upload's progress is kept, so that a successor goes on with it."""

    def check(self) -> None:
        """Raises when the work must stop."""

    def started(self, upload_id: str) -> None:
        """Keeps the upload's id."""

    def sent(self, part: SentPart) -> None:
        """Keeps a finished part."""


def begin(bucket: Bucket, target: Target, carried: Carried, encrypting: Mapping[str, str] | None = None) -> str:
    """Starts an upload; returns its id, to be kept before any part is sent. encrypting: as in Head."""
    headers = target.headers(bucket, carried) | dict(encrypting or {})
    if target.checksum:
        headers["x-amz-checksum-algorithm"] = "SHA256"
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
    return _etag(bucket, headers.get("etag"))


def _etag(bucket: Bucket, told: str | None) -> str:
    if not told:
        raise SiteFaulty(f"{bucket.name} told no ETag of a part", reason="answer_garbled")
    return told


def complete(bucket: Bucket, target: Target, upload_id: str, etags: Sequence[str], sha256s: Sequence[str] = ()) -> None:
    """Makes the object of its parts. Raises ConditionFailed when the destination is not as `target` says.

    sha256s: the parts' in hexadecimal, needed where the upload was begun with checksums.
    """
    wanted = documents.completion(etags, sha256s if target.checksum else ())
    query = {"uploadId": upload_id}
    _, body = bucket.ask("POST", target.key, target.condition, query=query, body=wanted, writes=True)
    bucket.document(body, writes=True)


def copy_in_place(
    bucket: Bucket,
    found: Head,
    target: Target,
    carried: Carried,
    part_size: int,
    upload_id: str | None,
    done: Sequence[SentPart],
    ledger: Ledger,
    at: Callable[[str], None],
) -> None:
    """Copies the object that was found onto itself in parts, with all that it carries; for those beyond 5 GB.

    target: names the class, and as `replaces` the ETag that was found. upload_id, done: an earlier claim's upload and
    its parts; carried: with the tags, as that upload was begun with. The site copies the bytes itself. Raises
    ConditionFailed or SourceChanged when the object is another now or carries something else, Blocked when the site
    does not copy parts.
    """
    if upload_id is None:
        upload_id = begin(bucket, target, carried, found.encrypting)
        at("upload_begun")
        ledger.started(upload_id)
    parts, size = list(done), found.pin.size
    for start in range(sum(part.size for part in parts), size, part_size):
        ledger.check()
        number, end = len(parts) + 1, min(start + part_size, size)
        etag = _copy_part(bucket, target.key, found.pin, upload_id, number, (start, end - 1))
        at("part_sent")
        parts.append(SentPart(number, etag, end - start, ""))
        ledger.sent(parts[-1])
    _holds_all(bucket, target.key, upload_id, size)
    ledger.check()
    at("parts_copied")
    _is_as_it_was(bucket, target.key, found.pin, carried)
    complete(bucket, target, upload_id, [part.etag for part in parts])


def _is_as_it_was(bucket: Bucket, key: str, pin: Pin, carried: Carried) -> None:
    """Raises SourceChanged when it is another object, of which sites that ignore conditions may have copied parts.

    Or one that carries something else by now: its tags, or metadata written with equal bytes, change no ETag.
    """
    now = objects.find(bucket, key)
    if now is None or not now.pin.same_object(pin) or objects.with_tags(bucket, key, now) != carried:
        raise SourceChanged


def _copy_part(bucket: Bucket, key: str, pin: Pin, upload_id: str, number: int, span: tuple[int, int]) -> str:
    """The site copies these bytes, first and last, of the pinned object into a part; returns the part's ETag."""
    headers = objects.copy_source(bucket, key, pin) | {"x-amz-copy-source-range": f"bytes={span[0]}-{span[1]}"}
    query: Query = {"partNumber": number, "uploadId": upload_id}
    try:
        _, body = bucket.ask("PUT", key, headers, query=query, writes=True)
    except Permanent as refused:
        if refused.reason not in UNKNOWN:
            raise
        raise Blocked(f"{bucket.name} copies no part of an object", reason=NO_PART_COPY) from None
    if not body.strip():  # it has taken the request for a part of no bytes
        raise Blocked(f"{bucket.name} does not copy what a part is to be a copy of", reason=NO_PART_COPY)
    return _etag(bucket, documents.text(bucket.document(body, writes=True), "ETag"))


def _holds_all(bucket: Bucket, key: str, upload_id: str, size: int) -> None:
    """Raises Blocked unless the parts have the object's size together: once completed they stand in its place."""
    held = listed_parts(bucket, key, upload_id)
    if held is None:
        raise ObjectMissing(f"{bucket.name} does not know the upload", reason=UPLOAD_MISSING)
    if (copied := sum(part.size for part in held.values())) != size:
        told = f"{bucket.name} has copied {copied} bytes into the parts of an object of {size}"
        raise Blocked(told, reason=NO_PART_COPY)


@dataclass(frozen=True)
class ListedPart:
    """A part as the site lists it."""

    etag: str
    size: int


def sent_parts(bucket: Bucket, key: str, upload_id: str) -> dict[int, str] | None:
    """The ETags of the parts that the site holds, by number; None when there is no such upload."""
    held = listed_parts(bucket, key, upload_id)
    return None if held is None else {number: part.etag for number, part in held.items()}


def listed_parts(bucket: Bucket, key: str, upload_id: str) -> dict[int, ListedPart] | None:
    """The parts that the site holds, by number; None when there is no such upload."""
    found: dict[int, ListedPart] = {}
    marker: str | None = None
    try:
        while True:
            _, body = bucket.ask("GET", key, query={"uploadId": upload_id, "part-number-marker": marker})
            listed = bucket.document(body)
            for part in listed.iter("Part"):
                if (number := documents.text(part, "PartNumber")).isdecimal():
                    size = documents.text(part, "Size")
                    found[int(number)] = ListedPart(documents.text(part, "ETag"), int(size) if size.isdecimal() else 0)
            before, marker = marker, documents.text(listed, "NextPartNumberMarker")
            if documents.text(listed, "IsTruncated") != "true" or not marker:
                return found
            if marker == before:
                raise SiteFaulty(f"{bucket.name} lists the same parts again", reason="answer_garbled")
    except ObjectMissing:
        return None


def abort(bucket: Bucket, key: str, upload_id: str) -> bool:
    """Ends an upload and frees its parts; nothing happens when there is no such upload.

    Returns whether it is gone: some servers know no way to end an upload, and keep its parts as they see fit.
    Raises UnknownOutcome when no answer came and the upload still stands.
    """
    try:
        bucket.ask("DELETE", key, query={"uploadId": upload_id}, writes=True)
    except ObjectMissing:
        return True
    except UnknownOutcome:
        if sent_parts(bucket, key, upload_id) is not None:
            raise
    except Permanent as refused:
        if refused.reason not in UNKNOWN:
            raise
        return False
    return True
