"""What in a key makes some servers rewrite it or take it for another key: known before a copy is written.

Keys that are merely refused, such as long ones, need no such care.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from enum import StrEnum

PROBES = ".foretide-probe/"
"""Where probes of a site write, and remove again."""
EXPORTS = "foretide/accesses/day="
"""Where days of accesses are exported to, a folder a day as engines read partitions."""


def is_own(key: str) -> bool:
    """Whether an object at a site is Foretide's own and none of the catalogue's."""
    return key.startswith((PROBES, EXPORTS))


class KeyTrait(StrEnum):
    """Something unusual in a key."""

    EMPTY_PART = "empty_part"
    """A slash at its start, or two in a row: servers that store keys as paths join them."""
    DOT_PART = "dot_part"
    """A part that is . or .. between slashes: a path would mean another place."""
    FOLDER = "folder"
    """A slash at its end: the marker of a folder, where it is not taken for the folder itself."""
    BACKSLASH = "backslash"
    """A backslash: another slash to some servers."""
    CONTROL = "control"
    """Control characters, such as a line feed."""
    DECOMPOSED = "decomposed"
    """Characters that Unicode also has in one piece: some servers take both keys for one."""


EXAMPLES: dict[KeyTrait, tuple[str, ...]] = {
    KeyTrait.EMPTY_PART: ("a//b", "a/b"),
    KeyTrait.DOT_PART: ("a/./b", "a/../b", "a/b", "b"),
    KeyTrait.FOLDER: ("a/", "a/b"),
    KeyTrait.BACKSLASH: ("a\\b", "a/b"),
    KeyTrait.CONTROL: ("a\nb", "a\rb", "a\tb", "a\x07b"),
    KeyTrait.DECOMPOSED: ("e\u0301", "\u00e9"),
}
"""Keys that a server keeps apart and as they are if it keeps the trait; the first of each has it."""


def traits(key: str) -> set[KeyTrait]:
    """What is unusual in a key; nothing in most."""
    parts = key.split("/")
    found = {
        KeyTrait.EMPTY_PART: "" in parts[:-1],
        KeyTrait.DOT_PART: "." in parts or ".." in parts,
        KeyTrait.FOLDER: parts[-1] == "",
        KeyTrait.BACKSLASH: "\\" in key,
        KeyTrait.CONTROL: any(ord(letter) < 32 or ord(letter) == 127 for letter in key),
        KeyTrait.DECOMPOSED: not unicodedata.is_normalized("NFC", key),
    }
    return {trait for trait, has in found.items() if has}


def not_kept(key: str, kept: Iterable[str]) -> list[str]:
    """What in the key a server does not keep. kept: the traits that it was found to keep."""
    return sorted(traits(key).difference(kept))
