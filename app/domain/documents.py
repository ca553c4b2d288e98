"""What differs between two JSON documents, field by field; lists of objects with a `prefix` are told apart by it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.errors import pointer_to

MISSING: Any = object()


@dataclass(frozen=True)
class Difference:
    """One field: a JSON pointer (a prefix's name stands for its place in a list), old and new value, and what became
    of it: added, removed or changed.
    """

    pointer: str
    change: str
    old: Any
    new: Any


def differences(old: Any, new: Any, pointer: str = "") -> list[Difference]:
    """Every field in which two documents differ, in the order of their names."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return list(_fields(old, new, pointer))
    if _named(old) and _named(new):
        return list(_fields(_by_prefix(old), _by_prefix(new), pointer))
    if old == new:
        return []
    change = "added" if old is MISSING else "removed" if new is MISSING else "changed"
    return [Difference(pointer, change, None if old is MISSING else old, None if new is MISSING else new)]


def _fields(old: Mapping[str, Any], new: Mapping[str, Any], pointer: str) -> Iterator[Difference]:
    for name in sorted({*old, *new}):
        yield from differences(old.get(name, MISSING), new.get(name, MISSING), pointer + pointer_to(name))


def _by_prefix(entries: Sequence[Any]) -> dict[str, Any]:
    return {entry["prefix"]: entry for entry in entries}


def _named(value: Any) -> bool:
    return (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and all(isinstance(entry, Mapping) and "prefix" in entry for entry in value)
    )
