"""The rules that hold for a key: policy documents resolved, the longest matching prefix winning.

What documents hold stands in app/domain/policy_documents.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from math import inf
from typing import Any

from app.domain.states import Mode

Json = Mapping[str, Any]
MAX_RF = 16


class Readers(StrEnum):
    """Who decides which copy is read."""

    DIRECT = "direct"
    """Readers use a site's own address: the copies they may be reading are never moved away."""
    ROUTED = "routed"
    """All reads go through Foretide, which may move copies between sites."""


@dataclass(frozen=True)
class Rules:
    """What must hold for one object, and how sure a voluntary move must be."""

    rf: int = 1
    """Copies, each at a site of its own."""
    sla_ms: float | None = None
    """At least one copy's site answers within this time."""
    diversity: bool = True
    """No two copies at one provider."""
    readers: Readers = Readers.DIRECT
    pinned: bool = False
    """No copy is moved, removed or given another class."""
    legal_hold: bool = False
    """The same, and versions that moves have left behind stay too; nothing that is planned proposes to lift it."""
    sla_class: str | None = None
    """The class of the sla policy whose rules these are, where they say nothing else."""
    never_archive: bool = False
    allow_restore: bool = False
    """Classes that must be restored before a read may be used."""
    payback: float = 1.5
    """A move must save so many times what it costs, within the horizon."""
    confidence: float = 0.8
    """Least probability that a move saves money."""
    min_residency_days: float = 7.0
    """Least time between two voluntary moves of an object; what a peak brings for its hours is none."""
    time_zone: str = "UTC"
    """IANA name of the zone on whose clocks the peaks of reads recur."""
    preferences: Mapping[str, float] = field(default_factory=dict)
    """Weight by site of the sources' score; shown, never counted as money."""
    sites: frozenset[str] | None = None
    """Residency: the sites where copies may lie; None: any."""
    encrypted_only: bool = False
    """New copies go to encrypted sites only."""


@dataclass(frozen=True)
class Policies:
    """The documents in force, by name; what is missing has its defaults. `encryption_default`: before any policy."""

    documents: Mapping[str, Json] = field(default_factory=dict)
    versions: Mapping[str, int] = field(default_factory=dict)
    encryption_default: bool = False
    _resolved: dict[object, Rules] = field(default_factory=dict, init=False, repr=False, compare=False)

    def document(self, name: str) -> Json:
        """The document in force, empty when none was written."""
        return self.documents.get(name, {})

    @property
    def encryption_enforced(self) -> bool:
        """Whether destinations must be encrypted."""
        return bool(self.document("security").get("enforce", self.encryption_default))

    @property
    def mode(self) -> Mode:
        """How far Foretide goes by itself."""
        return Mode(self.document("mode").get("mode", Mode.OBSERVE))

    @property
    def old_versions_days(self) -> int | None:
        """After how many days versions go that moves have left in versioned buckets; None: they stay."""
        days: int | None = self.document("retention").get("old_versions_days")
        return days

    @property
    def days_of_old_versions(self) -> float:
        """For how many days each of them costs money; inf: as long as anybody counts."""
        return inf if self.old_versions_days is None else float(self.old_versions_days)

    def rules(self, key: str, tags: Mapping[str, str] | None = None, **overrides: Any) -> Rules:
        """The rules for a key and its object's tags; `overrides` (rf, sla_ms) come last, None meaning not given.

        Keys under the same prefixes get the very same object, by which the planner groups them.
        """
        sla, residency = _match(self.document("sla"), key), _match(self.document("residency"), key)
        tagged = self._tagged(tags) if tags else ()
        given = {name: value for name, value in overrides.items() if value is not None}
        known = (sla.get("prefix"), residency.get("prefix"), tagged, *sorted(given.items()))
        if known not in self._resolved:
            fields = {**self._fields("sla", sla), **given}
            rules = replace(Rules(), **fields, encrypted_only=self.encryption_enforced)
            self._resolved[known] = replace(
                rules,
                readers=Readers(rules.readers),
                pinned=rules.pinned or rules.legal_hold,
                sites=self._sites(residency, tagged),
            )
        return self._resolved[known]

    def _tagged(self, tags: Mapping[str, str]) -> tuple[int, ...]:
        """Which of the residency policy's entries by tag hold for an object."""
        entries = self.document("residency").get("tags", [])
        return tuple(
            index
            for index, entry in enumerate(entries)
            if entry["tag"] in tags and entry.get("value") in (None, tags[entry["tag"]])
        )

    def _sites(self, residency: Json, tagged: tuple[int, ...]) -> frozenset[str] | None:
        """The sites where copies may lie: those that the prefix and every tag allow; None: any."""
        entries = self.document("residency").get("tags", [])
        limits = [self._fields("residency", residency).get("sites"), *(entries[index]["sites"] for index in tagged)]
        allowed = [frozenset(sites) for sites in limits if sites is not None]
        return frozenset.intersection(*allowed) if allowed else None

    def _fields(self, name: str, entry: Json) -> Json:
        """The default's fields under those of a prefix, each over those of its class."""
        own = {field: value for field, value in entry.items() if field != "prefix"}
        default, classes = self.document(name).get("default", {}), self.document(name).get("classes", {})
        return {**classes.get(default.get("sla_class"), {}), **default, **classes.get(own.get("sla_class"), {}), **own}


def _match(document: Json, key: str) -> Json:
    """The entry of the longest prefix that the key starts with; empty when there is none."""
    entries = [entry for entry in document.get("prefixes", []) if key.startswith(entry["prefix"])]
    return max(entries, key=lambda entry: len(entry["prefix"]), default={})


def any_rules(policies: Policies, field: str) -> bool:
    """Whether the sla policy sets a rule that is true or false for any prefix or class, or by default."""
    document = policies.document("sla")
    entries = [document.get("default", {}), *document.get("prefixes", []), *document.get("classes", {}).values()]
    return any(entry.get(field) for entry in entries)
