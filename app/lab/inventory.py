"""Reads an inventory of a bucket: keys, sizes, when each was written, in which class; nothing is asked of any bucket.

Parquet or CSV with a header, or the manifest.json of an S3 Inventory report with its CSV or Parquet files beside it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from app.errors import Invalid
from app.lab.traces import OFFLINE
from ml.tiering_types import Ints

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

NAMES = {
    "key": ("key", "object", "name"),
    "size": ("size", "bytes", "content_length"),
    "modified": ("last_modified_date", "lastmodifieddate", "last_modified", "lastmodified", "modified"),
    "storage_class": ("storage_class", "storageclass", "class", "accesstier", "tier"),
    "latest": ("is_latest", "islatest"),
    "marker": ("is_delete_marker", "isdeletemarker"),
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


def _load(connection: DuckDBPyConnection, path: Path) -> None:
    """The lines as they stand, as the table `line`."""
    if path.name.endswith(".json"):
        source, parameters, decoded = _manifest(path)
    elif path.suffix == ".parquet":
        source, parameters, decoded = "read_parquet(?)", [str(path)], False
    else:
        source, parameters, decoded = "read_csv(?, header=true, all_varchar=true)", [str(path)], False
    connection.execute(f"create temp table given as select * from {source}", parameters)  # noqa: S608 - of this module
    known = {row[0].lower(): row[0] for row in connection.execute("describe given").fetchall()}
    columns = {what: next((known[name] for name in names if name in known), None) for what, names in NAMES.items()}
    missing = [what for what in ("key", "size") if columns[what] is None]
    if missing:
        raise Invalid(f"the inventory {path.name} has no column {' nor '.join(missing)}; it has {', '.join(known)}")
    quoted = {what: "null" if name is None else '"' + name.replace('"', '""') + '"' for what, name in columns.items()}
    key = f"url_decode({quoted['key']}::varchar)" if decoded else f"{quoted['key']}::varchar"
    connection.execute(
        f"""create temp table line as select {key} as key, try_cast({quoted["size"]} as bigint) as size,
            coalesce(epoch_us(try_cast({quoted["modified"]}::varchar as timestamptz)), 0) as modified,
            coalesce({quoted["storage_class"]}::varchar, '') as storage_class,
            coalesce(try_cast({quoted["latest"]} as boolean), true)
                and not coalesce(try_cast({quoted["marker"]} as boolean), false) as stands
        from given"""  # noqa: S608 - names of this module, and of columns in quotes
    )


def _manifest(path: Path) -> tuple[str, list[Any], bool]:
    """What DuckDB reads for an S3 Inventory manifest. Raises Invalid when a file is not beside it."""
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
    found = [str(place) for place in places]
    if kind == "CSV":
        return "read_csv(?, header=false, all_varchar=true, names=?)", [found, schema], True
    if kind == "Parquet":
        return "read_parquet(?)", [found], False
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
