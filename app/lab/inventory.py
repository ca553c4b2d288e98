"""Reads an inventory of a bucket: keys, sizes, when each was written, in which class; nothing is asked of any bucket.

Parquet or CSV with a header, or the manifest.json of an S3 Inventory report with its CSV or Parquet files beside it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from app.errors import Invalid
from app.lab.traces import OFFLINE
from ml.tiering_types import Ints

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

BATCH = 10_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NAMES = {
    "key": ("key", "object", "name"),
    "size": ("size", "bytes", "content_length"),
    "modified": ("last_modified_date", "lastmodifieddate", "last_modified", "lastmodified", "modified"),
    "storage_class": ("storage_class", "storageclass", "class", "accesstier", "tier"),
    "latest": ("is_latest", "islatest"),
    "marker": ("is_delete_marker", "isdeletemarker"),
    "etag": ("e_tag", "etag"),
}
"""What columns are called, in lower case, by what they hold; key and size are needed."""


@dataclass(frozen=True)
class Inventory:
    """Objects in columns. modified: microseconds since 1970 UTC, 0 where it is not told."""

    keys: list[str]
    size: Ints
    modified: Ints
    storage_class: list[str]
    """By object; an empty text where it is not told."""
    rejected: int = 0
    """Lines that name no object with a size: folders, delete markers and old versions are none."""


def read_inventory(path: Path) -> Inventory:
    """Reads a file or a manifest. Raises Invalid, saying what is wrong with it."""
    import duckdb  # the API never loads it

    if not path.is_file():
        raise Invalid(f"there is no file {path}")
    connection = duckdb.connect(config=OFFLINE)
    try:
        _load(connection, path)
        return _columns(connection, path)
    except duckdb.Error as error:
        raise Invalid(f"the inventory {path.name} cannot be read: {str(error).splitlines()[0]}") from None
    finally:
        connection.close()


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """What the file tells of each object, as `POST /v1/sites/{name}/inventory` takes it; it is never held whole.

    Old versions, delete markers and folders are passed over. Raises Invalid, also for a file without ETags or times:
    what an object was when it was looked at is needed to move it.
    """
    import duckdb

    if not path.is_file():
        raise Invalid(f"there is no file {path}")
    connection = duckdb.connect(config=OFFLINE)
    try:
        _load(connection, path, ("key", "size", "etag", "modified"))
        rows = connection.execute("select key, size, etag, modified, storage_class from line where stands")
        while batch := rows.fetchmany(BATCH):
            yield from (_told(*row) for row in batch if not (row[0] or "").endswith("/"))
    except duckdb.Error as error:
        raise Invalid(f"the inventory {path.name} cannot be read: {str(error).splitlines()[0]}") from None
    finally:
        connection.close()


def _told(key: str | None, size: int | None, etag: str | None, modified: int, storage_class: str) -> dict[str, Any]:
    """A line; what the file does not say is left out, and refused by the API with its reason."""
    when = (EPOCH + timedelta(microseconds=modified)).isoformat() if modified else None
    line = {"key": key, "size": size, "etag": etag, "last_modified": when, "storage_class": storage_class or None}
    return {name: value for name, value in line.items() if value is not None}


def _load(connection: DuckDBPyConnection, path: Path, needed: tuple[str, ...] = ("key", "size")) -> None:
    """The lines as they stand, as the view `line`: the file is read as they are asked for."""
    if path.name.endswith(".json"):
        source, decoded = _manifest(path)
    elif path.suffix == ".parquet":
        source, decoded = f"read_parquet({_literal(str(path))})", False
    else:
        source, decoded = f"read_csv({_literal(str(path))}, header=true, all_varchar=true)", False
    connection.execute(f"create temp view given as select * from {source}")  # noqa: S608 - a literal of this module's
    known = {row[0].lower(): row[0] for row in connection.execute("describe given").fetchall()}
    columns = {what: next((known[name] for name in names if name in known), None) for what, names in NAMES.items()}
    missing = [what for what in needed if columns[what] is None]
    if missing:
        raise Invalid(f"the inventory {path.name} has no column {' nor '.join(missing)}; it has {', '.join(known)}")
    quoted = {what: "null" if name is None else '"' + name.replace('"', '""') + '"' for what, name in columns.items()}
    # Spaces stand as + in the CSV of S3 Inventory, and a plus sign as %2B.
    key = f"url_decode(replace({quoted['key']}::varchar, '+', ' '))" if decoded else f"{quoted['key']}::varchar"
    connection.execute(
        f"""create temp view line as select {key} as key, try_cast({quoted["size"]} as bigint) as size,
            coalesce(epoch_us(try_cast({quoted["modified"]}::varchar as timestamptz)), 0) as modified,
            coalesce({quoted["storage_class"]}::varchar, '') as storage_class,
            {quoted["etag"]}::varchar as etag,
            coalesce(try_cast({quoted["latest"]} as boolean), true)
                and not coalesce(try_cast({quoted["marker"]} as boolean), false) as stands
        from given"""  # noqa: S608 - names of this module, and of columns in quotes
    )


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _manifest(path: Path) -> tuple[str, bool]:
    """What DuckDB reads for an S3 Inventory manifest, and whether keys are encoded as in URLs. Raises Invalid."""
    try:
        manifest = json.loads(path.read_text())
        files = [Path(entry["key"]).name for entry in manifest["files"]]
        kind, schema = manifest["fileFormat"], [name.strip() for name in manifest["fileSchema"].split(",")]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Invalid(f"{path.name} is no manifest of an S3 Inventory report: {error}") from None
    places = [next((folder / name for folder in (path.parent, path.parent / "data") if (folder / name).is_file()), None)
              for name in files]  # fmt: skip
    if None in places or not places:
        lacking = ", ".join(name for name, place in zip(files, places, strict=True) if place is None) or "any file"
        raise Invalid(f"{path.name} names files that are not beside it: {lacking}")
    found = "[" + ", ".join(_literal(str(place)) for place in places) + "]"
    if kind == "CSV":
        names = "[" + ", ".join(map(_literal, schema)) + "]"
        return f"read_csv({found}, header=false, all_varchar=true, names={names})", True
    if kind == "Parquet":
        return f"read_parquet({found})", False
    raise Invalid(f"{path.name} is of format {kind}; CSV and Parquet are read")


def _columns(connection: DuckDBPyConnection, path: Path) -> Inventory:
    usable = "stands and key is not null and key <> '' and size is not null and size >= 0 and not ends_with(key, '/')"
    rows = connection.execute(
        f"""select key, max(size) as size, max(modified) as modified, max(storage_class) as storage_class from line
        where {usable} group by key order by key"""  # noqa: S608 - of this module
    ).fetchnumpy()
    passed = f"select count(*) from line where not coalesce({usable}, false)"  # noqa: S608 - of this module
    rejected = (connection.execute(passed).fetchone() or (0,))[0]
    if not len(rows["size"]):
        raise Invalid(f"the inventory {path.name} names no object with a size ({rejected} lines passed over)")
    return Inventory(
        keys=list(rows["key"]),
        size=np.asarray(rows["size"], np.int64),
        modified=np.asarray(rows["modified"], np.int64),
        storage_class=[str(name) for name in rows["storage_class"]],
        rejected=int(rejected),
    )
