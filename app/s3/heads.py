"""What is known of an object beside its bytes: read from the headers of a HEAD or GET, sent with those of a write."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import urlencode

from app.domain.headers import CARRIED, INTENT, METADATA, METADATA_LIMIT
from app.domain.pins import Pin
from app.errors import SiteFaulty
from app.s3.outcomes import http_date

_ENCRYPTION = "x-amz-server-side-encryption"
_KMS_KEY = "x-amz-server-side-encryption-aws-kms-key-id"


@dataclass(frozen=True)
class Carried:
    """What travels with the bytes: headers by the names above, user metadata (keys in lower case), tags.

    Characters of headers and metadata stand for bytes (Latin-1), as they came.
    """

    headers: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def has_room(self, intent: str) -> bool:
        """Whether the mark fits beside the user's metadata."""
        taken = sum(len(name) + len(value) for name, value in self.metadata.items())
        return taken + len(INTENT) + len(intent) <= METADATA_LIMIT

    def sent(self, intent: str) -> dict[str, str]:
        """The headers of PutObject, CreateMultipartUpload and CopyObject without tags.

        They are marked with the intent when it fits in the 2 KB.
        """
        metadata = self.metadata | ({INTENT: intent} if self.has_room(intent) else {})
        named = {CARRIED[name]: value for name, value in self.headers.items()}
        return named | {METADATA + name: value for name, value in metadata.items()}

    def tagging(self) -> dict[str, str]:
        """The header that carries the tags; none when there are none."""
        return {"x-amz-tagging": urlencode(self.tags)} if self.tags else {}


@dataclass(frozen=True)
class Head:
    """What a HEAD answered, or the headers of a GET."""

    pin: Pin
    carried: Carried
    """Without tags; `tag_count` says how many there are."""
    intent: str | None
    tag_count: int
    sha256: str | None
    """The full object's, in hexadecimal, where the server keeps one."""
    sha256_of_parts: str | None
    """Of the concatenated SHA-256 of its parts, in hexadecimal and with `-` and their number, where it keeps that."""
    crc32: int | None
    """The full object's, where the server keeps one."""
    server_date: datetime | None
    customer_key: bool
    encryption: str | None
    kms_key: str | None
    locked_until: datetime | None
    legal_hold: bool
    restoring: bool | None = None
    """Whether a restore from an archive is on its way; False: a copy stands that can be read; None: none was asked."""
    is_archived: bool = False
    """In an archive tier of a class that is none by its name."""

    @property
    def encrypting(self) -> dict[str, str]:
        """The headers that ask for the same encryption."""
        asked = {_ENCRYPTION: self.encryption, _KMS_KEY: self.kms_key}
        return {name: value for name, value in asked.items() if value}

    def is_locked(self, now: datetime) -> bool:
        """Whether object lock forbids a delete."""
        return self.legal_hold or (self.locked_until is not None and self.locked_until > now)


def head_of(site: str, headers: Mapping[str, str], booked_class: Callable[[str | None], str]) -> Head:
    """What headers say of a whole object. booked_class: the price book's name of the server's class.

    Raises SiteFaulty when they lack what every S3 server says.
    """
    modified = http_date(headers.get("last-modified", ""))
    size = headers.get("content-length", "")
    if modified is None or "etag" not in headers or not (size.isascii() and size.isdigit()):
        raise SiteFaulty(f"{site} told no ETag, size or time of an object", reason="answer_garbled")
    version_id = headers.get("x-amz-version-id")
    pin = Pin(
        etag=headers["etag"].strip('"'),
        size=int(size),
        last_modified=modified,
        version_id=None if version_id in (None, "", "null") else version_id,
        storage_class=booked_class(headers.get("x-amz-storage-class")),
    )
    metadata = {name[len(METADATA) :]: value for name, value in headers.items() if name.startswith(METADATA)}
    intent = metadata.pop(INTENT, None)
    tag_count = headers.get("x-amz-tagging-count", "")
    return Head(
        pin=pin,
        carried=Carried({name: headers[sent] for name, sent in CARRIED.items() if headers.get(sent)}, metadata),
        intent=intent,
        tag_count=int(tag_count) if tag_count.isascii() and tag_count.isdigit() else 0,
        sha256=_sum(headers, "sha256"),
        sha256_of_parts=_sum(headers, "sha256", of_parts=True),
        crc32=int(crc32, 16) if (crc32 := _sum(headers, "crc32")) else None,
        server_date=http_date(headers.get("date", "")),
        customer_key="x-amz-server-side-encryption-customer-algorithm" in headers,
        encryption=headers.get(_ENCRYPTION),
        kms_key=headers.get(_KMS_KEY),
        locked_until=_retained_until(site, headers.get("x-amz-object-lock-retain-until-date")),
        legal_hold=headers.get("x-amz-object-lock-legal-hold") == "ON",
        restoring=None if (restore := headers.get("x-amz-restore")) is None else 'ongoing-request="true"' in restore,
        is_archived="x-amz-archive-status" in headers,
    )


def _sum(headers: Mapping[str, str], name: str, *, of_parts: bool = False) -> str | None:
    """A checksum in hexadecimal: the full object's, or that of its parts' checksums with their number."""
    found, dash, parts = headers.get(f"x-amz-checksum-{name}", "").partition("-")
    is_of_parts = bool(dash) or headers.get("x-amz-checksum-type") == "COMPOSITE"
    if not found or is_of_parts is not of_parts:
        return None
    try:
        return base64.b64decode(found, validate=True).hex() + dash + parts
    except binascii.Error:
        return None


def _retained_until(site: str, told: str | None) -> datetime | None:
    if not told:
        return None
    try:
        until = datetime.fromisoformat(told)
    except ValueError:  # to take it for unlocked would be unsafe
        raise SiteFaulty(f"{site} told no time until which an object is locked", reason="answer_garbled") from None
    return until if until.tzinfo else until.replace(tzinfo=UTC)
