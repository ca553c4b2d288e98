"""Loads an access log as a table of DuckDB, for traces: what app/lab/log_lines.py reads, and the API's own lines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.lab.blocks import blocks, opened
from app.lab.logs import OK, LogFormat

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

LONGEST_LINE = 2**20
_NDJSON = ("ts", "key", "op", "bytes", "size", "region", "status")


def load(connection: DuckDBPyConnection, path: Path, wanted: LogFormat) -> None:
    """Table `source`: line, unread (what is wrong with the line as a whole), ts, object, op, bytes, size, region.

    Lines that concern no object, or of requests that failed, are left out. Raises Invalid for what cannot be unpacked.
    """
    if wanted.name == "ndjson":
        _load_ndjson(connection, path, wanted)
        return
    connection.execute(
        "create temp table source (line bigint, unread varchar, ts timestamptz, object varchar, op varchar,"
        " bytes bigint, size bigint, region varchar)"
    )
    for table in _tables(path, wanted):
        connection.register("part", table)
        connection.execute(
            """insert into source select line, unread, make_timestamptz(ts), object,
            case op when 0 then 'GET' when 1 then 'HEAD' when 2 then 'PUT' when 3 then 'DELETE' end,
            case when bytes >= 0 then bytes end, case when size >= 0 then size end, null from part"""
        )
        connection.unregister("part")


def _tables(path: Path, wanted: LogFormat) -> Iterator[Any]:
    """The accesses of a log, and its refused lines with what is wrong, as tables of Arrow."""
    import numpy as np
    import pyarrow as pa

    from app.lab.log_lines import Reader

    reader = Reader(wanted, writes=False)
    for block in blocks(path):
        for lines in reader.read(block):
            ends = np.concatenate([[0], lines.key_ends])
            keys = pa.Array.from_buffers(
                pa.large_string(), len(lines.ts), [None, pa.py_buffer(ends), pa.py_buffer(lines.keys)]
            )
            names = ["line", "unread", "ts", "object", "op", "bytes", "size"]
            whole = [
                lines.line,
                pa.nulls(len(lines.ts), pa.string()),
                lines.ts,
                keys,
                lines.op,
                lines.moved,
                lines.size,
            ]
            yield pa.table(whole, names=names)
            if lines.refused:
                bad = [each.line for each in lines.refused], [each.detail for each in lines.refused]
                yield pa.table([*bad, *[pa.nulls(len(lines.refused))] * 5], names=names)


def _load_ndjson(connection: DuckDBPyConnection, path: Path, wanted: LogFormat) -> None:
    with opened(path) as (stream, raw):
        packing = "none" if stream is raw else "gzip"
    pattern = wanted.line.replace("'", "''")
    members = ", ".join(f"{name} := json_extract_string(text, '$.{name}')" for name in _NDJSON)
    connection.execute(
        f"""create temp table source as
        with text as (
            select row_number() over () as line, text from read_csv(?, columns = {{'text': 'VARCHAR'}}, delim = '\x01',
                quote = '', escape = '', header = false, auto_detect = false, compression = '{packing}',
                max_line_size = {LONGEST_LINE}, strict_mode = false)),
        known as (
            select line, text, regexp_full_match(text, '{pattern}') and json_valid(text) as known from text
            where text is not null and text <> ''),
        parts as (select line, known, case when known then struct_pack({members}) end as p from known)
        select line, case when not known then 'not a line of ndjson' end as unread,
            case when regexp_matches(p.ts, '([zZ]|[+-]\\d\\d:?\\d\\d)$') then try_cast(p.ts as timestamptz) end as ts,
            p.key as object, p.op as op, nullif(p.bytes, '') as bytes, nullif(p.size, '') as size, p.region as region
        from parts where not known or coalesce(try_cast(p.status as bigint), -1) in {OK}""",  # noqa: S608 - of this module
        [str(path)],
    )
