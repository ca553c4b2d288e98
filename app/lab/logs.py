"""Reads providers' access logs as the columns of a trace (step: ingest): what each line says of one request.

Requests that failed, or that concern no object, are passed over; lines of another form are named.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

GZIP_MAGIC = b"\x1f\x8b"
LONGEST_LINE = 2**20
_QUOTED = r'"((?:[^"]|"")*)"'
_CLOCK = "try_strptime(p.time, '%d/%b/%Y:%H:%M:%S %z')"
_BY_METHOD = (
    "case when p.method in ('GET', 'HEAD', 'DELETE') then p.method when p.method in ('PUT', 'POST') then 'PUT' end"
)
_OPERATIONS = """case when p.operation = 'GetBlob' then 'GET' when p.operation = 'GetBlobProperties' then 'HEAD'
    when p.operation in ('PutBlob', 'PutBlockList', 'CopyBlob') then 'PUT' when p.operation = 'DeleteBlob' then 'DELETE'
    end"""
_BLOB = r"url_decode(regexp_replace(p.key, '^/[^/]+/[^/]+/', ''))"
_BLOB_BYTES = "case p.operation when 'PutBlob' then p.received when 'GetBlob' then p.sent else '' end"
_PATH = r"url_decode(regexp_replace(p.path, '\?.*$', ''))"


@dataclass(frozen=True)
class LogFormat:
    """How a provider writes a request: a pattern that both RE2 and `re` know, and SQL over its groups, named p."""

    name: str
    """As in `foretide ingest NAME`."""
    line: str
    groups: Mapping[str, str] | tuple[str, ...]
    """Names of the pattern's groups; or, where lines are JSON, names with the path of each."""
    ts: str
    object: str
    op: str
    """NULL: not a request for an object."""
    bytes: str
    """Read or written; an empty text where nothing is said."""
    size: str = "''"
    region: str = "''"
    status: str = "p.status"

    @property
    def parsed(self) -> str:
        """SQL of what a line `text` says, as a struct."""
        if isinstance(self.groups, Mapping):
            fields = (f"{name} := json_extract_string(text, '{path}')" for name, path in self.groups.items())
            return f"struct_pack({', '.join(fields)})"
        names = ", ".join(f"'{group}'" for group in self.groups)
        return f"regexp_extract(text, '{self._pattern}', [{names}])"

    @property
    def known(self) -> str:
        """SQL of whether a line is of this form."""
        valid = " and json_valid(text)" if isinstance(self.groups, Mapping) else ""
        return f"(regexp_matches(text, '{self._pattern}'){valid})"

    @property
    def _pattern(self) -> str:
        return self.line.replace("'", "''")


FORMATS = (
    LogFormat(
        name="s3-access-logs",
        line=r"^\S+ \S+ \[([^\]]+)\] \S+ \S+ \S+ ((?:REST|WEBSITE|BATCH|S3|SOAP)\.\S+) (\S+) "
        r'(?:"[^"]*"|-) (\d+|-) \S+ (\d+|-) (\d+|-)',
        groups=("time", "operation", "key", "status", "sent", "size"),
        ts=_CLOCK,
        object="case when p.key = '-' then '' when p.operation in ('BATCH.DELETE.OBJECT', 'S3.EXPIRE.OBJECT')"
        " then url_decode(p.key) else url_decode(url_decode(p.key)) end",  # all others are encoded twice
        op=r"""case when regexp_full_match(p.operation, '(REST|WEBSITE)\.GET\.OBJECT|REST\.COPY\.OBJECT_GET')
            then 'GET' when regexp_full_match(p.operation, '(REST|WEBSITE)\.HEAD\.OBJECT') then 'HEAD'
            when regexp_full_match(p.operation, 'REST\.(PUT|POST|COPY)\.OBJECT|REST\.POST\.UPLOAD') then 'PUT'
            when p.operation in ('REST.DELETE.OBJECT', 'BATCH.DELETE.OBJECT', 'S3.EXPIRE.OBJECT') then 'DELETE' end""",
        bytes="case when regexp_matches(p.operation, '(PUT|POST|COPY)\\.(OBJECT|UPLOAD)$') then p.size else p.sent end",
        size="p.size",
    ),
    LogFormat(
        name="gcs-logs",
        line=r"^\"?(\d{16})\"?," + ",".join([_QUOTED] * 16) + r"\s*$",
        groups=(
            "time",
            "ip",
            "ip_type",
            "ip_region",
            "method",
            "uri",
            "status",
            "received",
            "sent",
            "took",
            "host",
            "referer",
            "agent",
            "request",
            "operation",
            "bucket",
            "key",
        ),
        ts="to_timestamp(p.time::bigint / 1e6)",
        object="replace(p.key, '\"\"', '\"')",
        op=_BY_METHOD,
        bytes="case p.method when 'GET' then p.sent when 'HEAD' then '' else p.received end",
        size="case when p.method in ('PUT', 'POST') then p.received else '' end",
    ),
    LogFormat(
        name="azure-logs",
        line=r'^[12]\.0;([^;]+);(\w+);[^;]*;(\d+);[^;]*;[^;]*;[^;]*;[^;]*;[^;]*;blob;"[^"]*";"([^"]*)";'
        r"[^;]*;[^;]*;[^;]*;[^;]*;(\d*);(\d*);(\d*);(\d*);",
        groups=("time", "operation", "status", "key", "head_in", "received", "head_out", "sent"),
        ts="try_cast(p.time as timestamptz)",
        object=_BLOB,
        op=_OPERATIONS,
        bytes=_BLOB_BYTES,
    ),
    LogFormat(
        name="azure-logs",
        line=r'^\s*\{.*"operationName"\s*:.*"objectKey"\s*:.*\}\s*$',
        groups={
            "time": "$.time",
            "operation": "$.operationName",
            "status": "$.statusCode",
            "key": "$.properties.objectKey",
            "received": "$.properties.requestBodySize",
            "sent": "$.properties.responseBodySize",
        },
        ts="try_cast(p.time as timestamptz)",
        object=_BLOB,
        op=_OPERATIONS,
        bytes=_BLOB_BYTES,
    ),
    LogFormat(
        name="cloudfront",
        line=r"^(\d{4}-\d\d-\d\d)\t(\d\d:\d\d:\d\d)\t[A-Z]{3}\S*\t(\d+)\t\S+\t([A-Z]+)\t\S+\t(\S+)\t(\d+)\t",
        groups=("date", "clock", "sent", "method", "path", "status"),
        ts="try_cast(p.date || ' ' || p.clock || '+00' as timestamptz)",
        object=f"ltrim({_PATH}, '/')",
        op="case when p.method in ('GET', 'HEAD') then p.method end",
        bytes="case p.method when 'GET' then p.sent else '' end",
    ),
    LogFormat(
        name="nginx",
        line=r'^\S+ \S+ .*?\[([^\]]+)\] "([A-Z]+) (\S+)(?: HTTP/[\d.]+)?" (\d+) (\d+|-)',
        groups=("time", "method", "path", "status", "sent"),
        ts=_CLOCK,
        object=f"ltrim({_PATH}, '/')",
        op=_BY_METHOD,
        bytes="case p.method when 'GET' then p.sent else '' end",
    ),
    LogFormat(
        name="ndjson",
        line=r'^\s*\{.*"ts"\s*:.*\}\s*$',
        groups={name: f"$.{name}" for name in ("ts", "key", "op", "bytes", "size", "region", "status")},
        ts=r"case when regexp_matches(p.ts, '([zZ]|[+-]\d\d:?\d\d)$') then try_cast(p.ts as timestamptz) end",
        object="p.key",
        op="p.op",
        bytes="p.bytes",
        size="p.size",
        region="p.region",
        status="coalesce(p.status, '-')",
    ),
)
NAMES = tuple(dict.fromkeys(entry.name for entry in FORMATS))
OK = ("200", "201", "202", "204", "206", "304", "-")


def detect(path: Path) -> LogFormat | None:
    """The format of a file's first line that is neither empty, a comment nor a header of GCS; None: another."""
    with gzip.open(path) if _is_packed(path) else path.open("rb") as file:
        for _ in range(20):
            line = file.readline(65_536).decode(errors="replace").strip("\r\n")
            found = next((entry for entry in FORMATS if re.match(entry.line, line)), None)
            if found:
                return found
    return None


def load(connection: DuckDBPyConnection, path: Path, wanted: LogFormat) -> None:
    """Table `source` of the file's requests: line, unread (not of this form), ts, object, op, bytes, size."""
    packing = "gzip" if _is_packed(path) else "none"
    connection.execute(
        f"""create temp table source as
        with text as (
            select row_number() over () as line, text from read_csv(?, columns = {{'text': 'VARCHAR'}}, delim = '\x01',
                quote = '', escape = '', header = false, auto_detect = false, compression = '{packing}',
                max_line_size = {LONGEST_LINE}, strict_mode = false)),
        known as (
            select line, text, {wanted.known} as known from text
            where text is not null and text <> '' and text not like '#%' and text not like '"time_micros"%'),
        parts as (select line, case when known then {wanted.parsed} end as p from known),
        said as (
            select line, {wanted.ts} as ts, try({wanted.object}) as object, {wanted.op} as op,
                   {wanted.bytes} as bytes, {wanted.size} as size, {wanted.region} as region,
                   {wanted.status} as status from parts)
        select line, object is null as unread, ts, object, op, nullif(replace(bytes, '-', ''), '') as bytes,
               nullif(replace(size, '-', ''), '') as size, region from said
        where object is null or (status in {OK} and op is not null and object <> '')""",  # noqa: S608 - all of this module
        [str(path)],
    )


def _is_packed(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == GZIP_MAGIC
