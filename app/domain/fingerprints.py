"""What an object is, told without its content: kept before a copy onto itself replaces it, compared afterwards."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from app.domain.pins import Pin


@dataclass(frozen=True)
class Fingerprint:
    """One object at one site. Headers, metadata and tags stand as hashes: what they say is not kept.

    What is None is not known, and not compared.
    """

    size: int
    etag: str | None = None
    """Where it depends on the bytes alone."""
    sha256: str | None = None
    crc32: int | None = None
    encryption: str | None = None
    """How it is encrypted, with the key where one is named."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """By name; those that were added later are not compared."""
    metadata: str | None = None
    tags: str | None = None

    def differences(self, after: Fingerprint) -> list[str]:
        """What is not as it was. Of the checksums the ETag is compared only where there is no better one."""
        lost = {name for name, value in self.headers.items() if after.headers.get(name) != value}
        named = ["size", "sha256", "crc32", "encryption", "metadata", "tags"]
        if not self._share_a_checksum(after):
            named.append("etag")
        return sorted(lost.union(name for name in named if _differ(getattr(self, name), getattr(after, name))))

    def proves_equal(self, after: Fingerprint) -> bool:
        """Whether nothing differs, all that it says of itself included, and a checksum of both shows the same bytes."""
        shown = self._share_a_checksum(after) or None not in (self.etag, after.etag)
        return shown and None not in (self.metadata, self.tags) and not self.differences(after)

    def _share_a_checksum(self, other: Fingerprint) -> bool:
        return None not in (self.sha256, other.sha256) or None not in (self.crc32, other.crc32)

    def as_json(self) -> dict[str, Any]:
        """As it stands in migration.fingerprint."""
        return asdict(self)

    @staticmethod
    def from_json(stored: Mapping[str, Any] | None) -> Fingerprint | None:
        """From what `as_json` stored; None when nothing was."""
        return Fingerprint(**stored) if stored else None

    @staticmethod
    def of_pin(pin: Pin) -> Fingerprint:
        """What a pin alone tells of an object."""
        return Fingerprint(pin.size, None if pin.etag_is_of_parts else pin.etag)


def hash_of(told: Mapping[str, str] | str) -> str:
    """A hash of something that an object says of itself."""
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _differ(before: object, after: object) -> bool:
    return None not in (before, after) and before != after
