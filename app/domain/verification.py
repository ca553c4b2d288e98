"""Whether replicas still hold their bytes: how each may be looked at, what that costs, what the looks say together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from app.domain.placement_problem import SiteOption
from app.domain.prices import GB, egress_per_gb, read_once_usd

ASLEEP = frozenset({"INTELLIGENT_TIERING", "GLACIER", "DEEP_ARCHIVE"})
"""Classes that a read would wake, or that must be restored first, where no price book tells."""


class Seen(StrEnum):
    """What came of one look at a replica."""

    READ = "read"
    """All of it was read."""
    LOOKED = "looked"
    """It was looked at without being read: it is what it was, by size, ETag and the server's checksum."""
    WRONG = "wrong"
    """The server's own checksum of it is not the recorded one."""
    ABSENT = "absent"
    """The site does not hold it."""
    OTHER = "other"
    """The site holds another write than the catalogue knows: the next scan decides."""
    MISREAD = "misread"
    """Two reads of the same object differ: the way from the site is at fault."""
    SILENT = "silent"
    """The site does not answer, or refuses."""


class Verdict(StrEnum):
    """What is known of a replica now."""

    GOOD = "good"
    """Its bytes are the recorded ones."""
    RECORDED = "recorded"
    """Nothing was recorded; it agrees with another replica, which is recorded now."""
    UNPROVEN = "unproven"
    """It could be read, but there is nothing to compare it with."""
    CORRUPT = "corrupt"
    """Its bytes are not the recorded ones."""
    MISSING = "missing"
    """The site does not hold it."""
    CHANGED = "changed"
    """The site holds another write than the catalogue knows."""
    MISREAD = "misread"
    """It could not be read the same way twice."""
    SILENT = "silent"
    """Its site does not answer, or refuses."""


@dataclass(frozen=True)
class Look:
    """One look at a replica. recorded, read: SHA-256 in hexadecimal, where known."""

    seen: Seen
    recorded: str | None = None
    read: str | None = None
    current: bool = True
    """Whether what was recorded is of the object's current version."""


@dataclass(frozen=True)
class Judgement:
    """The verdict on a replica; sha256: what is to be recorded of it."""

    verdict: Verdict
    sha256: str | None = None


_PLAIN: Mapping[Seen, Verdict] = {
    Seen.LOOKED: Verdict.GOOD,
    Seen.WRONG: Verdict.CORRUPT,
    Seen.ABSENT: Verdict.MISSING,
    Seen.OTHER: Verdict.CHANGED,
    Seen.MISREAD: Verdict.MISREAD,
    Seen.SILENT: Verdict.SILENT,
}


def judge(looks: Mapping[str, Look], elsewhere: str | None = None) -> dict[str, Judgement]:
    """The verdicts on the replicas of one version of one object, by site.

    What was recorded of one holds for all, since they are copies of one another; where nothing was, what two of them
    agree on. elsewhere: what was recorded of replicas that are not looked at.
    """
    recorded = {look.recorded for look in looks.values() if look.recorded and look.current}
    known = elsewhere or (next(iter(recorded)) if len(recorded) == 1 else None)
    if known is None and not recorded:
        read = Counter(look.read for look in looks.values() if look.read)
        agreed = [sha256 for sha256, sites in read.items() if sites > 1]
        known = agreed[0] if len(agreed) == 1 else None
    return {site: _judge(look, look.recorded or known) for site, look in looks.items()}


def _judge(look: Look, expected: str | None) -> Judgement:
    if look.seen is not Seen.READ:
        return Judgement(_PLAIN[look.seen])
    if expected is None:
        return Judgement(Verdict.UNPROVEN)
    if look.read != expected:
        return Judgement(Verdict.CORRUPT)
    return Judgement(Verdict.GOOD if look.recorded else Verdict.RECORDED, expected)


def may_be_read(site: SiteOption | None, storage_class: str) -> bool:
    """Whether reading the replica wakes nothing and needs no restore."""
    if site is None or storage_class not in site.book.by_name:
        return storage_class not in ASLEEP
    entry = site.book.storage_class(storage_class)
    return not entry.idle_steps and not entry.restore


@dataclass
class ReadCost:
    """What reading replicas costs at most: $ for requests, retrieval and the way to readers on the internet."""

    replicas: int = 0
    bytes: int = 0
    looked_at: int = 0
    """Those that are looked at without being read."""
    usd: float = 0.0
    unpriced: int = 0
    """Those whose site or class has no prices."""

    def add(self, site: SiteOption | None, storage_class: str, sizes: Iterable[int]) -> None:
        """Counts replicas of one class at one site."""
        read = may_be_read(site, storage_class)
        for size in sizes:
            self.replicas += 1
            self.looked_at += not read
            self.bytes += size if read else 0
            if site is None or storage_class not in site.book.by_name:
                self.unpriced += 1
                continue
            entry = site.book.storage_class(storage_class)
            away = egress_per_gb(site.book, site.place, None) * (size if read else 0) / GB
            self.usd += read_once_usd(entry, size if read else 0) + away
