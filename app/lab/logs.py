"""The forms of access logs: where each says what, and how the first lines tell which it is (step: ingest).

Requests that failed, or that concern no object, are passed over; lines of another form are named. app/lab/log_lines.py
reads by them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from app.errors import Invalid
from app.lab.blocks import BOM, head

_METHODS = {"GET": "GET", "HEAD": "HEAD", "PUT": "PUT", "POST": "PUT", "DELETE": "DELETE"}
_BLOBS = {
    "GetBlob": "GET", "GetBlobProperties": "HEAD", "PutBlob": "PUT", "PutBlobFromURL": "PUT+unsized", "PutBlockList":
    "PUT+unsized", "CopyBlob": "PUT+unsized", "DeleteBlob": "DELETE",
}  # fmt: skip
OK = (200, 201, 202, 204, 206, 304, -1)
"""Statuses of requests that were answered well; -1: none is told."""


@dataclass(frozen=True)
class LogFormat:
    """How a provider writes a request: fields between delimiters, or members of a JSON object."""

    name: str
    """As in `foretide ingest NAME`."""
    mark: str
    """What event_ids begin with."""
    line: str
    """A pattern of `re` that a line of this form matches from its begin."""
    columns: Mapping[str, int]
    """Numbers of the fields that are read, the first 0 (that of the clock, where it comes first): time, at will
    time_of_day; operation; key; status; sent, received, size (bytes); id and id_part (of the request)."""
    operations: Mapping[str, str]
    """What an operation or method means, with `once` (its key is encoded once only), `unsized` (its bytes are not the
    object's) and `shared` (it has its request's id in common with other lines) behind a +."""
    delimiter: str
    clock: str
    """named (06/Feb/2019:02:00:00 +0200), iso, or micros (since 1970)."""
    quotes: str = "bare"
    """bare: none; quoted; escaped: with backslashes before quotes inside; doubled: with quotes doubled."""
    clock_first: bool = False
    """Fields count from the one in brackets, which may follow on any number of others."""
    key: tuple[str, ...] = ()
    """How the key stands there, as app/lab/log_loops.py names it."""
    members: Mapping[str, str] | None = None
    """Where lines are JSON: the members, by column, with points between levels."""
    header: Mapping[str, str] | None = None
    """Where a comment `#Fields:` names the fields: their names, by column."""

    def of_header(self, line: bytes) -> LogFormat:
        """The format with the fields in the order of a comment `#Fields:`. Raises Invalid where one is missing."""
        names = line.decode(errors="replace").split()[1:]
        wanted = self.header or {}
        missing = [name for what, name in wanted.items() if name not in names and what != "id"]
        if missing:
            raise Invalid(f"the fields of the log lack {', '.join(missing)}")
        return replace(self, columns={what: names.index(name) for what, name in wanted.items() if name in names})


_EDGE = {
    "time": "date", "time_of_day": "time", "sent": "sc-bytes", "operation": "cs-method", "key": "cs-uri-stem",
    "status": "sc-status", "id": "x-edge-request-id",
}  # fmt: skip
_EDGE_ORDER = {"time": 0, "time_of_day": 1, "sent": 3, "operation": 5, "key": 7, "status": 8, "id": 14}
FLAT = "\x01"
"""Between the members of a JSON line once they stand in a row."""

FORMATS = (
    LogFormat(
        name="s3-access-logs", mark="s3",
        line=r"\S+ \S+ \[\d\d/\w{3}/\d{4}:[^\]]+\] \S+ \S+ \S+ (?:REST|WEBSITE|BATCH|S3|SOAP)\.\S+ \S+ ",
        columns={"time": 0, "id": 3, "operation": 4, "key": 5, "status": 7, "sent": 9, "received": 10, "size": 10},
        operations={
            "REST.GET.OBJECT": "GET", "REST.HEAD.OBJECT": "HEAD", "WEBSITE.GET.OBJECT": "GET",
            "WEBSITE.HEAD.OBJECT": "HEAD", "REST.COPY.OBJECT_GET": "GET+shared", "REST.COPY.PART_GET": "GET+shared",
            "REST.PUT.OBJECT": "PUT", "REST.POST.OBJECT": "PUT", "REST.POST.UPLOAD": "PUT",
            "REST.COPY.OBJECT": "PUT+shared", "REST.DELETE.OBJECT": "DELETE",
            "BATCH.DELETE.OBJECT": "DELETE+once+shared", "S3.EXPIRE.OBJECT": "DELETE+once+shared",
            "S3.CREATE.DELETEMARKER": "DELETE+once+shared",
        },
        delimiter=" ", clock="named", quotes="quoted", clock_first=True, key=("twice",),
    ),
    LogFormat(
        name="gcs-logs", mark="gcs", line=r'(?:"time_micros",|"?\d{16}"?,"[^"]*","\d*",)',
        columns={"time": 0, "operation": 4, "status": 6, "received": 7, "size": 7, "sent": 8, "id": 13, "key": 16},
        operations=_METHODS, delimiter=",", clock="micros", quotes="doubled", key=("raw",),
    ),
    LogFormat(
        name="azure-logs", mark="az", line=r"[12]\.0;[^;]+;\w+;[^;]*;\w*;",
        columns={
            "time": 1, "operation": 2, "status": 4, "key": 12, "id": 13, "id_part": 14, "received": 18, "sent": 20,
        },
        operations=_BLOBS, delimiter=";", clock="iso", quotes="quoted", key=("bucket", "html"),
    ),
    LogFormat(
        name="azure-logs", mark="az", line=r'\s*\{.*"operationName"\s*:.*\}\s*$',
        columns={"time": 0, "operation": 1, "status": 2, "key": 3, "received": 4, "sent": 5, "id": 6},
        operations=_BLOBS, delimiter=FLAT, clock="iso", key=("bucket",),
        members={
            "time": "time", "operation": "operationName", "status": "statusCode", "key": "properties.objectKey",
            "received": "properties.requestBodySize", "sent": "properties.responseBodySize", "id": "correlationId",
        },
    ),
    LogFormat(
        name="cloudfront", mark="cf",
        line=r"(?:#Fields:.*cs-uri-stem|\d{4}-\d\d-\d\d\t\d\d:\d\d:\d\d\t\S+\t\d+\t\S+\t[A-Z]+\t)",
        columns=_EDGE_ORDER, operations={"GET": "GET", "HEAD": "HEAD"}, delimiter="\t", clock="iso",
        key=("rooted", "twice"), header=_EDGE,
    ),
    LogFormat(
        name="cloudfront", mark="cf", line=r'\s*\{.*"cs-uri-stem"\s*:.*\}\s*$',
        columns={what: number for number, what in enumerate(_EDGE)}, operations={"GET": "GET", "HEAD": "HEAD"},
        delimiter=FLAT, clock="iso", key=("rooted", "twice"), members=_EDGE,
    ),
    LogFormat(
        name="nginx", mark="web", line=r'.*?\[\d\d/\w{3}/\d{4}:[^\]]+\] "(?:[^"\\]|\\.)*" \d{3} (?:\d+|-)',
        columns={"time": 0, "operation": 1, "key": 1, "status": 2, "sent": 3}, operations=_METHODS,
        delimiter=" ", clock="named", quotes="escaped", clock_first=True, key=("request", "rooted", "backslashes"),
    ),
    LogFormat(
        name="ndjson", mark="nd", line=r'\s*\{.*"ts"\s*:.*\}\s*$',
        columns={}, operations={}, delimiter=FLAT, clock="iso",
    ),
)  # fmt: skip
"""The last is what the API itself takes: app/lab/log_source.py reads it."""
NAMES = tuple(dict.fromkeys(entry.name for entry in FORMATS))
LOOKED_AT = 20
"""Lines of a file that may be of no form before it is one of none."""


def detect(path: Path) -> LogFormat | None:
    """The format of one of a file's first lines; None: none that is known. Raises Invalid for what cannot be read."""
    return detect_in(head(path))


def detect_in(data: bytes, name: str | None = None) -> LogFormat | None:
    """The same of a file's first bytes; name: only of this format."""
    formats = [entry for entry in FORMATS if name is None or entry.name == name]
    for line in data.removeprefix(BOM).splitlines()[:LOOKED_AT]:
        text = line.decode(errors="replace")
        found = next((entry for entry in formats if re.match(entry.line, text)), None)
        if found:
            return found.of_header(line) if found.header and line.startswith(b"#Fields:") else found
    return None
