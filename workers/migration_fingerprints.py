"""What objects are and carry, as looks have found them, told without their content."""

from __future__ import annotations

from app.domain.encryption import is_by_key
from app.domain.fingerprints import Fingerprint, hash_of
from app.s3.heads import Carried, Head


def fingerprint_of(found: Head, carried: Carried) -> Fingerprint:
    """What the object is. carried: with its tags."""
    encrypted_by_key = found.kms_key is not None or is_by_key(found.encryption)
    return Fingerprint(
        size=found.pin.size,
        etag=None if encrypted_by_key or found.pin.etag_is_of_parts else found.pin.etag,
        sha256=found.sha256,
        crc32=found.crc32,
        encryption=" ".join(filter(None, (found.encryption, found.kms_key))) or None,
        headers={name: hash_of(value) for name, value in carried.headers.items()},
        metadata=hash_of(carried.metadata),
        tags=hash_of(carried.tags),
    )


def carried_by(found: Head, carried: Carried) -> Fingerprint:
    """What travels with the object's bytes alone. carried: with its tags."""
    return Fingerprint(
        size=found.pin.size,
        headers={name: hash_of(value) for name, value in carried.headers.items()},
        metadata=hash_of(carried.metadata),
        tags=hash_of(carried.tags),
    )
