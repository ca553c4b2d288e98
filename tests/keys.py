"""Names that servers, shells, browsers and programs have stumbled over: each is a key that S3 allows."""

from __future__ import annotations

PART = "x" * 255
HOSTILE = (
    "with space", " leading", "trailing ", "two  spaces", "plus+plus", "percent%20", "100%", "%2F", "%00",
    "#hash?query&amp=", "'quote'\"", "<script>alert(1)</script>", "{curly}[square]|^`", "semi;colon:@$!*()=,",
    "🎉.png", "é", "e\u0301", "\u202ertl\u202c", "\u200f", "עברית", "日本語", "zero\u200bwidth", "\ufeffmark",
    "tab\there", "line\nfeed", "carriage\rreturn", "bell\x07", "delete\x7f",
    "Case", "case", ".hidden", "...", "dash-", "-rf", "~", "nul",
    PART,
)  # fmt: skip
"""Kept as they are by every server that the suite runs on."""

PATHS = ("a//b", "a/b", "/leading", "//two", "back\\slash", "folder/", "folder/file", "a/./dot", "a/../up", "../up")
"""Servers that store keys as paths refuse some of these and rewrite others."""


def longest(folder: str, size: int) -> str:
    """A name that makes a key of `size` bytes under the folder, its parts no longer than a path's may be."""
    left = size - len(folder.encode())
    parts = ["y" * 100] * (left // 101)
    rest = left - 101 * len(parts)
    return "/".join([*parts, "z" * rest]) if rest else "/".join(parts)[:-1] + "zz"
