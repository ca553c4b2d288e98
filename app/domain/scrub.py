"""Whether a site holds what the catalogue says: judged of two dumps of the catalogue and a listing between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from app.domain.pins import Pin
from app.domain.states import ReplicaState


class FindingKind(StrEnum):
    """How a site and the catalogue differ."""

    DARK = "dark"
    """The site holds an object that the catalogue does not have there."""
    MISSING = "missing"
    """The catalogue has a replica that the site does not hold."""
    CORRUPT = "corrupt"
    """The site holds other bytes than the catalogue says."""


class Why(StrEnum):
    """What a finding rests on."""

    LEFTOVER = "leftover"
    """Dark: it bears the mark of a migration."""
    UNKNOWN = "unknown"
    """Dark: nothing says that Foretide wrote it."""
    ABSENT = "absent"
    """Missing: neither the listing nor a HEAD finds it."""
    REWRITTEN = "rewritten"
    """Corrupt: it bears the mark of the migration that wrote it, but its ETag or size is another."""
    OLDER = "older"
    """Corrupt: it is an older write than the one that was recorded."""
    BYTES = "bytes"
    """Corrupt: its bytes were read and are not the recorded ones."""


@dataclass(frozen=True)
class Suspicion:
    """What dumps and listing say together; a look at the site has to confirm it."""

    kind: FindingKind
    why: Why

    @property
    def counts_as(self) -> str:
        """Its name among the counts of a scrub."""
        return f"{self.kind}_{self.why}" if self.kind is FindingKind.DARK else str(self.kind)


@dataclass(frozen=True)
class Dumped:
    """A replica as one dump has it. moving: a migration has the object in hand."""

    state: ReplicaState
    pin: Pin | None
    version: int
    moving: bool

    @staticmethod
    def from_json(stored: Mapping[str, Any] | None) -> Dumped | None:
        """From what a dump holds of a key; None when it has no replica there."""
        if stored is None:
            return None
        state = ReplicaState(stored["state"])
        return Dumped(state, Pin.from_json(stored["pin"]), stored["version"], stored["moving"])


EXPECTED = frozenset({ReplicaState.SERVING, ReplicaState.DRAINING, ReplicaState.CORRUPT, ReplicaState.LOST})
UNFINISHED = frozenset({ReplicaState.COPYING, ReplicaState.VERIFIED, ReplicaState.STALE})


def suspect(first: Dumped | None, listed: Pin | None, second: Dumped | None, before: datetime) -> Suspicion | None:
    """What is suspicious about a key. Where the dumps differ somebody is at work, and nothing is said.

    before: what was written since, by the server's clock, may be younger than the first dump.
    """
    if first != second or (first and first.moving):
        return None
    if first is None or first.state is ReplicaState.DELETED:
        return _dark(listed, before)
    if first.state in UNFINISHED:
        return _dark(listed, before) if first.pin is None else None
    if first.pin is None or first.state not in EXPECTED:
        return None
    if listed is None:
        return Suspicion(FindingKind.MISSING, Why.ABSENT)
    return _other(first, first.pin, listed)


def _dark(listed: Pin | None, before: datetime) -> Suspicion | None:
    if listed is None or listed.last_modified >= before:
        return None
    return Suspicion(FindingKind.DARK, Why.UNKNOWN)


def _other(known: Dumped, pin: Pin, listed: Pin) -> Suspicion | None:
    if known.state is ReplicaState.LOST:
        return None  # it is back: the next scan sees that
    if (listed.etag, listed.size) == (pin.etag, pin.size):
        return Suspicion(FindingKind.CORRUPT, Why.BYTES) if known.state is ReplicaState.CORRUPT else None
    older = listed.last_modified < pin.last_modified
    return Suspicion(FindingKind.CORRUPT, Why.OLDER if older else Why.REWRITTEN)


class Mark(StrEnum):
    """Whose mark an object bears."""

    NONE = "none"
    """None: nothing says that Foretide wrote it."""
    OURS = "ours"
    """That of a migration of this very key at this very site."""
    FOREIGN = "foreign"
    """That of a migration of another key or site: somebody has copied what Foretide wrote."""
    UNRECORDED = "unrecorded"
    """That of a migration that the database does not know."""


@dataclass(frozen=True)
class Looked:
    """What a look at the site found of a suspicious key."""

    pin: Pin
    mark: Mark


def confirm(suspicion: Suspicion, listed: Pin | None, found: Looked | None) -> Suspicion | None:
    """The suspicion as a look at the site leaves it; None when there is nothing to it, or somebody wrote meanwhile."""
    if suspicion.kind is FindingKind.MISSING:
        return suspicion if found is None else None
    if found is None or listed is None or not found.pin.same_object(listed):
        return None
    if suspicion.kind is FindingKind.DARK:
        ours = found.mark in (Mark.OURS, Mark.UNRECORDED)
        return Suspicion(FindingKind.DARK, Why.LEFTOVER if ours else Why.UNKNOWN)
    if suspicion.why is Why.REWRITTEN and found.mark is not Mark.OURS:
        return None  # its owner wrote it: the next scan sees that
    return suspicion


def is_corrupt(suspicion: Suspicion, known: Pin, found: Pin, *, bytes_right: bool | None) -> bool:
    """Whether a confirmed suspicion of other bytes is true. bytes_right: as far as they could be compared.

    A change of class in place that came to nothing leaves the same bytes under another ETag.
    """
    if bytes_right is not None:
        return not bytes_right
    return suspicion.why is not Why.REWRITTEN or found.size != known.size
