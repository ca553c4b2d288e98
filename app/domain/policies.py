"""The rules that hold for a key: policy documents checked and resolved, the longest matching prefix winning.

Documents, by policy name (a field left out has its default):
  sla        {"default": RULES, "prefixes": [{"prefix": "demo/", ...RULES}]}, RULES as in `Rules` below
  residency  {"default": {"sites": [...]}, "prefixes": [{"prefix": "eu/", "sites": ["aws-eu"]}]}; null: any site
  security   {"enforce": bool}                    destinations must be encrypted
  budget     {"usd_per_day", "bytes_per_day", "moves_per_day", "requests_per_day"}; null: no limit
  limits     {"requests_per_s", "bytes_per_s", "concurrency", "sites": {NAME: the same}, "canary_moves",
              "abort_error_rate"}, as app/domain/limits.py reads them
  pause      {"reason": why no move goes on, or null}
  retention  {"days": int, "propagate_deletes": bool, "old_versions_days": int}; null: versions that moves leave stay
  mode       {"mode": observe | approve | auto | paused, "reason": str}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from math import isfinite
from typing import Any

from app.domain.states import Mode
from app.errors import FieldError, Invalid, NotFound

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
    never_archive: bool = False
    allow_restore: bool = False
    """Classes that must be restored before a read may be used."""
    payback: float = 1.5
    """A move must save so many times what it costs, within the horizon."""
    confidence: float = 0.8
    """Least probability that a move saves money."""
    min_residency_days: float = 7.0
    """Least time between two voluntary moves of an object."""
    preferences: Mapping[str, float] = field(default_factory=dict)
    """Weight by site of the sources' score; shown, never counted as money."""
    sites: frozenset[str] | None = None
    """Residency: the sites where copies may lie; None: any."""
    encrypted_only: bool = False
    """New copies go to encrypted sites only."""


Check = tuple[Callable[[Any], bool], str]


def _number(low: float, high: float) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def _whole(low: int, high: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _optional(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or check(value)


def _is_bool(value: object) -> bool:
    return isinstance(value, bool)


def _is_weights(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(weight, int | float) and not isinstance(weight, bool) and isfinite(weight)
        for weight in value.values()
    )


def _is_names(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(name, str) and name for name in value)


BOOL: Check = (_is_bool, "true or false")
_SLA: Mapping[str, Check] = {
    "rf": (_whole(1, MAX_RF), f"a whole number from 1 to {MAX_RF}"),
    "sla_ms": (_optional(_number(1e-9, 1e9)), "milliseconds above 0, or null"),
    "diversity": BOOL,
    "readers": (lambda value: value in list(Readers), "direct or routed"),
    "pinned": BOOL,
    "never_archive": BOOL,
    "allow_restore": BOOL,
    "payback": (_number(0, 1e6), "a number from 0"),
    "confidence": (_number(0, 1), "a number from 0 to 1"),
    "min_residency_days": (_number(0, 36_500), "days from 0"),
    "preferences": (_is_weights, "an object of site names and weights"),
}
_RESIDENCY: Mapping[str, Check] = {"sites": (_optional(_is_names), "a list of site names, or null")}
_LIMIT: Check = (_optional(_number(0, 1e18)), "a number from 0, or null")
_FLOW: Mapping[str, Check] = {
    "requests_per_s": (_optional(_number(1e-3, 1e9)), "a number above 0, or null"),
    "bytes_per_s": (_optional(_number(1, 1e15)), "a number from 1, or null"),
    "concurrency": (_optional(_whole(1, 10**6)), "a whole number from 1, or null"),
}
_FLAT: Mapping[str, Mapping[str, Check]] = {
    "security": {"enforce": BOOL},
    "budget": dict.fromkeys(("usd_per_day", "bytes_per_day", "moves_per_day", "requests_per_day"), _LIMIT),
    "limits": {
        **_FLOW,
        "sites": (lambda value: isinstance(value, dict), "an object of site names"),
        "canary_moves": (_whole(0, 10**9), "a whole number from 0"),
        "abort_error_rate": (_number(0, 1), "a number from 0 to 1"),
    },
    "pause": {"reason": (lambda value: value is None or (isinstance(value, str) and value != ""), "a reason, or null")},
    "retention": {
        "days": (_whole(1, 36_500), "a whole number of days from 1"),
        "propagate_deletes": BOOL,
        "old_versions_days": (_optional(_whole(0, 36_500)), "a whole number of days from 0, or null"),
    },
    "mode": {
        "mode": (lambda value: value in list(Mode), "observe, approve, auto or paused"),
        "reason": (lambda value: isinstance(value, str), "a text"),
    },
}
_BY_PREFIX: Mapping[str, Mapping[str, Check]] = {"sla": _SLA, "residency": _RESIDENCY}
POLICIES = (*_FLAT, *_BY_PREFIX)


def validate(name: str, document: object) -> None:
    """Raises Invalid with a pointer for each field that is wrong, or NotFound when there is no such policy."""
    if name not in POLICIES:
        raise NotFound(f"there is no policy {name}; there are {', '.join(POLICIES)}")
    errors: list[FieldError] = []
    if name in _FLAT:
        _check(document, _FLAT[name], "", errors)
        sites = document.get("sites") if name == "limits" and isinstance(document, dict) else None
        for site, given in sites.items() if isinstance(sites, dict) else ():
            _check(given, _FLOW, f"/sites/{site}", errors)
    else:
        _check_prefixes(document, _BY_PREFIX[name], errors)
    if errors:
        raise Invalid(f"the {name} policy is not valid", errors=tuple(errors))


def _check(document: object, checks: Mapping[str, Check], pointer: str, errors: list[FieldError]) -> None:
    if not isinstance(document, dict):
        errors.append(FieldError(pointer, "an object is expected"))
        return
    for name, value in document.items():
        if name not in checks:
            errors.append(FieldError(f"{pointer}/{name}", f"there is no such field; there are {', '.join(checks)}"))
        elif not checks[name][0](value):
            errors.append(FieldError(f"{pointer}/{name}", f"{checks[name][1]} is expected"))


def _check_prefixes(document: object, checks: Mapping[str, Check], errors: list[FieldError]) -> None:
    outer: Mapping[str, Check] = {
        "default": (lambda value: isinstance(value, dict), "an object"),
        "prefixes": (lambda value: isinstance(value, list), "a list"),
    }
    _check(document, outer, "", errors)
    if errors or not isinstance(document, dict):
        return
    _check(document.get("default", {}), checks, "/default", errors)
    inner = {"prefix": (lambda value: isinstance(value, str) and value != "", "a text that is not empty"), **checks}
    seen: set[object] = set()
    for index, entry in enumerate(document.get("prefixes", [])):
        pointer = f"/prefixes/{index}"
        _check(entry, inner, pointer, errors)
        prefix = entry.get("prefix") if isinstance(entry, dict) else None
        if isinstance(entry, dict) and (prefix is None or (isinstance(prefix, str) and prefix in seen)):
            wrong = "a prefix is needed" if prefix is None else f"{prefix} stands twice"
            errors.append(FieldError(f"{pointer}/prefix", wrong))
        seen.add(prefix if isinstance(prefix, str) else None)


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

    def rules(self, key: str, **overrides: Any) -> Rules:
        """The rules for a key; `overrides` (rf, sla_ms) come last, None meaning not given.

        Keys under the same prefixes get the very same object, by which the planner groups them.
        """
        sla, residency = _match(self.document("sla"), key), _match(self.document("residency"), key)
        given = {name: value for name, value in overrides.items() if value is not None}
        known = (sla.get("prefix"), residency.get("prefix"), *sorted(given.items()))
        if known not in self._resolved:
            fields = {**self._fields("sla", sla), **given}
            sites = self._fields("residency", residency).get("sites")
            rules = replace(Rules(), **fields, encrypted_only=self.encryption_enforced)
            self._resolved[known] = replace(
                rules, readers=Readers(rules.readers), sites=None if sites is None else frozenset(sites)
            )
        return self._resolved[known]

    def _fields(self, name: str, entry: Json) -> Json:
        """The default's fields under those of a prefix."""
        own = {field: value for field, value in entry.items() if field != "prefix"}
        return {**self.document(name).get("default", {}), **own}


def _match(document: Json, key: str) -> Json:
    """The entry of the longest prefix that the key starts with; empty when there is none."""
    entries = [entry for entry in document.get("prefixes", []) if key.startswith(entry["prefix"])]
    return max(entries, key=lambda entry: len(entry["prefix"]), default={})
