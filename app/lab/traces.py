"""Reads a trace file into columns (step: ingest): Parquet or CSV of ts, object, op, bytes, at will size, region, count.

Or an access log that app/lab/logs.py knows. Instead of ts it may have date (a day, UTC); a row without an op is a GET,
one without a count is one request.

Rows that cannot be used are left out and reported by line: nothing is guessed. A time without a zone is such a row.
"""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from app.errors import Invalid
from app.lab.log_source import load
from app.lab.logs import NAMES as LOGS
from app.lab.logs import LogFormat, detect
from ml import lives
from ml.history import Catalogue, History, Ints

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

OPS = ("GET", "HEAD", "PUT", "DELETE")
REQUIRED = ("ts", "object", "bytes")
REPORTED = 100  # rejected lines that are named one by one
KEY_BYTES = 1024
YEARS = (-62_135_596_800, 253_370_764_799)  # seconds since 1970
MOST_BYTES, MOST_COUNT = 2**50, 10**9  # of a row: sums of as many stay numbers of 64 bits
OFFLINE: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
}


@dataclass(frozen=True)
class Rejected:
    """A line that was left out and why; lines count from 1, a CSV's header included."""

    line: int
    detail: str


@dataclass(frozen=True)
class Trace:
    """Accesses in columns, in order of time, one element a row."""

    keys: list[str]
    """Keys of the objects, by index."""
    object: Ints
    ts: Ints
    """Microseconds since 1970 UTC."""
    op: npt.NDArray[np.int8]
    """Index into OPS."""
    bytes_read: Ints
    """Bytes of the row, read or written."""
    size: Ints
    """Size of the object in bytes, as far as the row says: 0 where it does not."""
    region: npt.NDArray[np.int32]
    """Index into `regions`; the first is the empty one."""
    regions: list[str]
    partial_upload: npt.NDArray[np.bool_]
    count: Ints | None = None
    """Requests that a row stands for; None: one each."""
    rejected: list[Rejected] = field(default_factory=list)
    rejected_total: int = 0

    def __len__(self) -> int:
        return len(self.ts)

    @property
    def end(self) -> int:
        """The time just after the last access, microseconds: `now` on the trace's own clock."""
        return int(self.ts[-1]) + 1

    @property
    def uncounted(self) -> int:
        """Requests that are lost where each row is taken as one."""
        return 0 if self.count is None else int(self.count.sum()) - len(self)

    def sizes(self) -> Ints:
        """Size of each object: what its rows say, else the most bytes of one of its reads."""
        known = np.zeros(len(self.keys), np.int64)
        np.maximum.at(known, self.object, np.where(self.size > 0, self.size, self.bytes_read))
        return known

    def history(self) -> History:
        """The accesses as the learners read them; a row that stands for several requests counts as so many."""
        read, written = (np.isin(self.op, ops).astype(np.int64) for ops in ((0, 1), (2,)))
        times = np.ones(len(self), np.int64) if self.count is None else self.count
        reads, writes, partial = times * read, times * written, times * self.partial_upload
        return History.of(self.object, self.ts, reads, writes, self.bytes_read * read, partial, len(self.keys))

    def catalogue(self) -> Catalogue:
        """The objects as the learners read them, with ends and sizes as they were told in time.

        Sizes only as far as rows state them: the bytes of reads are the future.
        """
        written, deleted = (self.op == OPS.index(op) for op in ("PUT", "DELETE"))
        said = lives.told(self.object, self.ts, self.size, written, deleted, len(self.keys))
        return Catalogue.of(self.keys, *said)

    def ndjson(self, name: str, lines: int = 10_000) -> Iterator[bytes]:
        """Blocks for POST /v1/accesses. Each line's event_id is made of the name and its place, so a retry is safe."""
        epoch = datetime(1970, 1, 1, tzinfo=UTC)
        for start in range(0, len(self), lines):
            block = []
            for row in range(start, min(start + lines, len(self))):
                ts = epoch + timedelta(microseconds=int(self.ts[row]))
                line = {"ts": ts.isoformat(), "key": self.keys[self.object[row]], "op": OPS[self.op[row]]}
                region = self.regions[self.region[row]]
                extra = {"bytes": int(self.bytes_read[row]), "event_id": f"{name}-{row}"}
                optional = {"region": region or None, "partial_upload": bool(self.partial_upload[row]) or None}
                block.append(json.dumps(line | extra | {k: v for k, v in optional.items() if v is not None}))
            yield ("\n".join(block) + "\n").encode()


def read_trace(path: Path, log: str | None = None) -> Trace:
    """The trace of a .parquet or .csv file, or of an access log. log: the format that it must have.

    Raises Invalid for a file that cannot be read, a missing column, times without a zone, or no usable row at all.
    """
    import duckdb

    if not path.is_file():
        raise Invalid(f"there is no trace file {path}")
    connection = duckdb.connect(config=OFFLINE)
    try:
        _load(connection, path, _format(path, log))
        trace = _columns(connection, path)
    except (duckdb.Error, EOFError, OSError, zlib.error) as error:
        raise Invalid(f"the trace {path.name} cannot be read: {str(error).splitlines()[0]}") from error
    finally:
        connection.close()
    return trace


def _format(path: Path, log: str | None) -> LogFormat | None:
    """The format of a log; None: Parquet or CSV. Raises Invalid for another than the wanted one, or an unknown one."""
    suffix = path.suffix.lower()
    found = None if suffix == ".parquet" else detect(path)
    if log and (not found or found.name != log):
        raise Invalid(f"{path.name} does not begin with a line of {log}" + (f", but of {found.name}" if found else ""))
    if not found and suffix not in (".parquet", ".csv"):
        raise Invalid(f"{path.name} is neither a .parquet or .csv file nor a log of {', '.join(LOGS)}")
    return found


def _load(connection: DuckDBPyConnection, path: Path, log: LogFormat | None) -> None:
    """Table `line`: each row's place, its values as far as they can be read, and what is wrong with it."""
    connection.execute(f"create temp table line as {judged(connection, path, log)}")


def judged(connection: DuckDBPyConnection, path: Path, log: LogFormat | None) -> str:
    """SQL of the same over `source`, which it makes. Raises Invalid for a missing column and times without a zone."""
    parquet = path.suffix.lower() == ".parquet"
    if log:
        load(connection, path, log)
        source = connection.table("source")
    else:
        source = connection.read_parquet(str(path)) if parquet else connection.read_csv(str(path), all_varchar=True)
        source.create_view("source")
    types = dict(zip(source.columns, (str(kind) for kind in source.types), strict=True))
    time = "ts" if "ts" in types else "date"
    missing = [name for name in REQUIRED if name not in types and not (name == "ts" and "date" in types)]
    if missing:
        raise Invalid(f"the trace {path.name} has no column {', '.join(missing)}; it has {', '.join(types)}")
    if parquet and types[time] not in ("TIMESTAMP WITH TIME ZONE", "VARCHAR", "DATE"):
        raise Invalid(f"column {time} of {path.name} is {types[time]}: times must be stored with a zone, as UTC")
    zone = r"regexp_matches(trim(ts), ':\d\d.*([zZ]|[+-]\d\d(:?\d\d)?)$')"
    day = r"regexp_matches(trim(date), '^\d{4}-\d\d-\d\d$')"
    zoned = "true" if types[time] != "VARCHAR" else zone if time == "ts" else day
    moment = time if time == "ts" else "date::date::varchar || ' 00:00:00+00'"
    op = "upper(op::varchar)" if "op" in types else "'GET'"
    optional = {name: name if name in types else "NULL" for name in ("size", "region", "partial_upload", "count")}
    place = "line" if log else f"row_number() over () + {0 if parquet else 1}"
    return f"""with parsed as (
            select {place} as line, {"unread" if log else "null"} as unread,
                   object::varchar as object, {zoned} as zoned,
                   try_cast({moment} as timestamptz) as ts, {op} as op,
                   bytes is null as no_bytes, coalesce(try_cast(bytes as bigint), -1) as bytes,
                   {optional["size"]} is null as no_size, coalesce(try_cast({optional["size"]} as bigint), -1) as size,
                   {optional["count"]} is null as no_count,
                   coalesce(try_cast({optional["count"]} as bigint), -1) as count,
                   coalesce({optional["region"]}::varchar, '') as region,
                   coalesce(try_cast({optional["partial_upload"]} as boolean), false) as partial_upload
            from source)
        select *, case
            when unread is not null then unread
            when object is null or object = '' then 'object is empty'
            when octet_length(encode(object)) > {KEY_BYTES} then 'object is longer than {KEY_BYTES} bytes'
            when not coalesce(zoned, true) then 'ts has no time zone'
            when ts is null then 'ts is not a time'
            when not isfinite(ts) then 'ts is not a time'
            when epoch(ts) not between {YEARS[0]} and {YEARS[1]} then 'ts is not within the years 1 to 9998'
            when op is null or op not in {OPS} then 'op is not one of {", ".join(OPS)}'
            when not no_bytes and bytes not between 0 and {MOST_BYTES}
                then 'bytes is not a number from 0 to {MOST_BYTES}'
            when not no_size and size not between 0 and {MOST_BYTES}
                then 'size is not a number from 0 to {MOST_BYTES}'
            when not no_count and count not between 1 and {MOST_COUNT}
                then 'count is not a number from 1 to {MOST_COUNT}'
            end as problem from parsed"""  # noqa: S608 - only names and numbers of this module are put in


def _columns(connection: DuckDBPyConnection, path: Path) -> Trace:
    """The usable rows of table `line` in order of time, with objects and regions numbered."""
    bad = connection.execute("select line, problem from line where problem is not null order by line").fetchall()
    good = "from line where problem is null"
    rows = connection.execute(
        f"""with key as (select object, row_number() over (order by object) - 1 as number from
                (select distinct object {good})),
            area as (select region, row_number() over (order by region) as number from
                (select distinct region {good} and region <> ''))
        select key.number as object, epoch_us(ts) as ts, list_position({list(OPS)}, op) - 1 as op,
               greatest(bytes, 0) as bytes, greatest(size, 0) as size, coalesce(area.number, 0) as region,
               greatest(count, 1) as count, partial_upload
        from line join key using (object) left join area using (region)
        where problem is null order by line.ts, line.line"""  # noqa: S608 - only names of this module are put in
    ).fetchnumpy()
    if not len(rows["ts"]):
        counts = Counter(problem for _, problem in bad)
        why = f": line {bad[0][0]}: {bad[0][1]}" if bad else ""
        raise Invalid(f"the trace {path.name} has no usable row ({sum(counts.values())} refused{why})")
    keys = connection.execute(f"select distinct object {good} order by object").fetchall()
    regions = connection.execute(f"select distinct region {good} and region <> '' order by region").fetchall()
    return Trace(
        keys=[key for (key,) in keys],
        object=np.asarray(rows["object"], np.int64),
        ts=np.asarray(rows["ts"], np.int64),
        op=np.asarray(rows["op"], np.int8),
        bytes_read=np.asarray(rows["bytes"], np.int64),
        size=np.asarray(rows["size"], np.int64),
        region=np.asarray(rows["region"], np.int32),
        regions=["", *(region for (region,) in regions)],
        partial_upload=np.asarray(rows["partial_upload"], bool),
        count=np.asarray(rows["count"], np.int64),
        rejected=[Rejected(line, problem) for line, problem in bad[:REPORTED]],
        rejected_total=len(bad),
    )
