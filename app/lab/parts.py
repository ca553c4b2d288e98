"""Parts of files that users already have, as the API takes them: what an import sends, and from where it goes on."""

from __future__ import annotations

from dataclasses import dataclass

from app.lab.blocks import Refused


@dataclass(frozen=True)
class Place:
    """Where reading may begin: an offset and the number of the line there; of a table the number of the row, twice."""

    offset: int = 0
    line: int = 1


@dataclass(frozen=True)
class Part:
    """Lines for POST /v1/accesses, and what the others of the same stretch of the file are."""

    body: bytes
    ends: list[int]
    """Where each line of the body ends."""
    lines: list[int]
    """The number of each within the file."""
    refused: list[Refused]
    passed: int
    """Lines that concern no object, or of requests that failed."""
    total: int
    begin: Place
    """Where reading must begin to go on behind this part: a stretch before it, so that equal lines are told apart."""
    end: int | None
    """The offset behind it; None: the stretch has further parts."""
    read: int
    """Bytes of the file that have been read, packed if it is."""
    uncounted: int = 0
    """Accesses that rows stand for beside the one that is sent of each."""


@dataclass(frozen=True)
class Source:
    """What files are read as. name: tells apart equal lines of several servers; site: where the accesses were made."""

    kind: str
    name: str = ""
    site: str | None = None
