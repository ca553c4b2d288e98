"""What an object was when it was looked at, and whether it still is: the identity that every copy and delete guards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from json import dumps
from typing import Any


@dataclass(frozen=True)
class Pin:
    """One object at one site as a HEAD or a listing answered. A listing knows no version_id."""

    etag: str
    """As the server gave it, quotes removed; never taken for an MD5."""
    size: int
    last_modified: datetime
    """Aware UTC, cut to the second: HEAD has no more, and listings that have would never compare equal."""
    version_id: str | None = None
    storage_class: str = "STANDARD"

    def same_object(self, other: Pin) -> bool:
        """Whether both are the same write of the object, whatever its storage class."""
        versions = {self.version_id, other.version_id} - {None}
        return (
            self.etag == other.etag
            and self.size == other.size
            and self.last_modified == other.last_modified
            and len(versions) < 2
        )

    @property
    def etag_is_of_parts(self) -> bool:
        """Whether the ETag depends on how the object was cut into parts."""
        return "-" in self.etag

    def as_json(self) -> dict[str, Any]:
        """As it stands in replica.pin and migration.pin."""
        return {
            "etag": self.etag,
            "version_id": self.version_id,
            "size": self.size,
            "last_modified": self.last_modified.isoformat(),
            "storage_class": self.storage_class,
        }

    def as_text(self) -> str:
        """The JSON as text."""
        return dumps(self.as_json())

    @staticmethod
    def from_json(stored: Mapping[str, Any] | None) -> Pin | None:
        """From what `as_json` stored; None when nothing was."""
        if not stored:
            return None
        return Pin(
            etag=stored["etag"],
            size=stored["size"],
            last_modified=datetime.fromisoformat(stored["last_modified"]),
            version_id=stored.get("version_id"),
            storage_class=stored.get("storage_class", "STANDARD"),
        )
