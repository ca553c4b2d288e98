"""The Parquet files that batch operations and exports are made of: events and accesses in, rows out (step: batch)."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq

from app.db import access_days
from app.db.access_days import COLUMNS
from app.db.session import session_scope
from app.domain.batch import Span
from app.errors import SettingsError
from app.settings import get_settings
from ml.batch_columns import ROW, TS, VALUE

FOLDER = "foretide-batch-"
STALE_S = 4 * 3600
"""Folders of workers that were killed go after this time, longer than any job may take."""
TIME = pa.timestamp("us", tz="UTC")
_TYPES = {"ts": pa.int64(), "bytes": pa.int64(), "status": pa.int64(), "partial_upload": pa.bool_()}
ACCESSES = pa.schema(
    [(ROW, pa.int64()), *((name, TIME if name == TS else _TYPES.get(name, pa.string())) for name in COLUMNS)]
)
BLOCK = 4 * 2**20
"""Bytes of CSV that are read at once."""


@contextmanager
def workspace() -> Iterator[Path]:
    """A folder of the job's own, gone with the context; what killed workers left goes too. Raises SettingsError."""
    parent = Path(get_settings().batch_dir or tempfile.gettempdir())
    if not (parent.is_dir() and os.access(parent, os.W_OK)):
        raise SettingsError(f"FORETIDE_BATCH_DIR: {parent} is no folder that can be written to")
    for left in parent.glob(FOLDER + "*"):
        with suppress(OSError):  # another worker removes it too
            if time.time() - left.stat().st_mtime > STALE_S:
                shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=FOLDER, dir=parent, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


class EventsFile:
    """A Parquet file of a stream of events, written page by page."""

    def __init__(self, path: Path, texts: Sequence[str]) -> None:
        """texts: the names of its columns beside row, ts and value."""
        self._schema = pa.schema(
            [(ROW, pa.int64()), (TS, TIME), (VALUE, pa.float64()), *((name, pa.string()) for name in texts)]
        )
        self._writer = pq.ParquetWriter(path, self._schema, compression="zstd")

    def __enter__(self) -> Self:
        """The file itself; leaving closes it."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._writer.close()

    def add(self, columns: Mapping[str, list[Any]]) -> None:
        """Adds a page."""
        self._writer.write_table(pa.table({name: columns[name] for name in self._schema.names}, schema=self._schema))


def accesses_file(source: Path, path: Path) -> int:
    """Makes a Parquet file of CSV as app/db/access_days.py writes it; returns its number of rows."""
    rows = 0
    with pq.ParquetWriter(path, ACCESSES, compression="zstd") as writer:
        if not source.stat().st_size:
            return 0
        convert = pc.ConvertOptions(
            column_types={name: _TYPES.get(name, pa.string()) for name in COLUMNS},
            null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=False,
            true_values=["t"], false_values=["f"],
        )  # fmt: skip
        read = pc.ReadOptions(column_names=list(COLUMNS), block_size=BLOCK, use_threads=False)
        with pc.open_csv(source, read, pc.ParseOptions(newlines_in_values=True), convert) as reader:
            for batch in reader:
                numbers = pa.array(range(rows, rows + len(batch)), pa.int64())
                times = batch.column(0).cast(TIME)
                writer.write_table(pa.table([numbers, times, *batch.columns[1:]], schema=ACCESSES))
                rows += len(batch)
    return rows


def accesses_from_database(span: Span, path: Path) -> int:
    """Makes a file of the span's accesses as the database has them; returns how many there are."""
    text = path.with_suffix(".csv")
    with text.open("wb") as file, session_scope() as session:
        access_days.copy_out(session, span, file)
    rows = accesses_file(text, path)
    text.unlink()
    return rows


def rows_of(folder: Path, at_once: int) -> Iterator[list[dict[str, Any]]]:
    """The rows of the Parquet files in a folder, in the order of the files' names, so many at a time."""
    for file in sorted(folder.glob("*.parquet")):
        for batch in pq.ParquetFile(file).iter_batches(at_once):
            yield batch.to_pylist()


def count_rows(folder: Path) -> int:
    """How many rows that are; only the files' ends are read."""
    return sum(pq.ParquetFile(file).metadata.num_rows for file in folder.glob("*.parquet"))


def columns_of(folder: Path) -> dict[str, Any]:
    """All rows of the folder's files as arrow's columns by name."""
    table = pa.concat_tables([pq.read_table(file) for file in sorted(folder.glob("*.parquet"))])
    return {name: table.column(name) for name in table.column_names}
