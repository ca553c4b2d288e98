"""Checks policy documents, field by field, before they are written or previewed.

Documents, by policy name (a field left out has its default):
  sla        {"classes": {NAME: RULES}, "default": RULES, "prefixes": [{"prefix": "demo/", ...RULES}]}, RULES as in
              app/domain/policies.py; `sla_class` takes those of a class, under what stands beside it
  residency  {"default": {"sites": [...]}, "prefixes": [{"prefix": "eu/", "sites": ["aws-eu"]}],
              "tags": [{"tag": "data", "value": "personal", "sites": [...]}]}; null: any site; without a value: any
              value; what prefix and tags say holds at once
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
from math import isfinite
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from app.domain.policies import MAX_RF, Json, Readers
from app.domain.states import Mode
from app.errors import FieldError, Invalid, NotFound, pointer_to

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


def _is_name(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _is_zone(value: object) -> bool:
    try:
        return isinstance(value, str) and bool(ZoneInfo(value))
    except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: a folder of zones, such as Europe
        return False


def _is_object(value: object) -> bool:
    return isinstance(value, dict)


BOOL: Check = (_is_bool, "true or false")
_SLA: Mapping[str, Check] = {
    "rf": (_whole(1, MAX_RF), f"a whole number from 1 to {MAX_RF}"),
    "sla_ms": (_optional(_number(1e-9, 1e9)), "milliseconds above 0, or null"),
    "diversity": BOOL,
    "readers": (lambda value: value in list(Readers), "direct or routed"),
    "pinned": BOOL,
    "legal_hold": BOOL,
    "sla_class": (_optional(_is_name), "the name of one of the document's classes, or null"),
    "never_archive": BOOL,
    "allow_restore": BOOL,
    "payback": (_number(0, 1e6), "a number from 0"),
    "confidence": (_number(0, 1), "a number from 0 to 1"),
    "min_residency_days": (_number(0, 36_500), "days from 0"),
    "time_zone": (_is_zone, "the IANA name of a time zone, such as Europe/Berlin,"),
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
        "sites": (_is_object, "an object of site names"),
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
        _check_prefixes(name, document, _BY_PREFIX[name], errors)
    if errors:
        raise Invalid(f"the {name} policy is not valid", errors=tuple(errors))


def _check(document: object, checks: Mapping[str, Check], pointer: str, errors: list[FieldError]) -> None:
    if not isinstance(document, dict):
        errors.append(FieldError(pointer, "an object is expected"))
        return
    for name, value in document.items():
        if name not in checks:
            errors.append(
                FieldError(pointer + pointer_to(name), f"there is no such field; there are {', '.join(checks)}")
            )
        elif not checks[name][0](value):
            errors.append(FieldError(f"{pointer}/{name}", f"{checks[name][1]} is expected"))


def _check_prefixes(name: str, document: object, checks: Mapping[str, Check], errors: list[FieldError]) -> None:
    a_list: Check = (lambda value: isinstance(value, list), "a list")
    own: Mapping[str, Check] = (
        {"classes": (_is_object, "an object of rules by name")} if name == "sla" else {"tags": a_list}
    )
    outer: Mapping[str, Check] = {"default": (_is_object, "an object"), "prefixes": a_list, **own}
    _check(document, outer, "", errors)
    if errors or not isinstance(document, dict):
        return
    _check(document.get("default", {}), checks, "/default", errors)
    for title, rules in document.get("classes", {}).items():
        _check(
            rules,
            {field: check for field, check in checks.items() if field != "sla_class"},
            f"/classes/{title}",
            errors,
        )
    text: Check = (_is_name, "a text that is not empty")
    for index, entry in enumerate(document.get("tags", [])):
        _check(entry, {"tag": text, "value": text, **checks}, f"/tags/{index}", errors)
        missing = [field for field in ("tag", "sites") if isinstance(entry, dict) and field not in entry]
        errors += [FieldError(f"/tags/{index}/{field}", "this field is needed") for field in missing]
    _check_entries(document, checks, errors)
    if name == "sla" and not errors:
        _check_classes(document, errors)


def _check_classes(document: Json, errors: list[FieldError]) -> None:
    """That each class which is named stands in the document."""
    named = {"/default": document.get("default", {})}
    named |= {f"/prefixes/{index}": entry for index, entry in enumerate(document.get("prefixes", []))}
    for pointer, entry in named.items():
        wanted = entry.get("sla_class")
        if wanted is not None and wanted not in document.get("classes", {}):
            errors.append(FieldError(f"{pointer}/sla_class", f"the document has no class {wanted}"))


def _check_entries(document: Json, checks: Mapping[str, Check], errors: list[FieldError]) -> None:
    inner = {"prefix": (_is_name, "a text that is not empty"), **checks}
    seen: set[object] = set()
    for index, entry in enumerate(document.get("prefixes", [])):
        pointer = f"/prefixes/{index}"
        _check(entry, inner, pointer, errors)
        prefix = entry.get("prefix") if isinstance(entry, dict) else None
        if isinstance(entry, dict) and (prefix is None or (isinstance(prefix, str) and prefix in seen)):
            wrong = "a prefix is needed" if prefix is None else f"{prefix} stands twice"
            errors.append(FieldError(f"{pointer}/prefix", wrong))
        seen.add(prefix if isinstance(prefix, str) else None)
