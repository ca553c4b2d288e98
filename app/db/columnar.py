"""Moves numpy columns between this process and Postgres by binary COPY: no Python object per row.

Only fixed-width, non-null columns are spoken: bigint, double precision, timestamptz and arrays of double precision.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from sqlalchemy.orm import Session

from app.db.bulk import cursor

Column = Literal["bigint", "double precision", "timestamptz", "double precision[]"]
Array = npt.NDArray[Any]

SIGNATURE = b"PGCOPY\n\xff\r\n\0" + struct.pack("!ii", 0, 0)
TRAILER = struct.pack("!h", -1)
POSTGRES_EPOCH = 946_684_800_000_000  # 2000-01-01 in microseconds since 1970, from where timestamptz counts
FLOAT8_OID = 701


@dataclass(frozen=True)
class _Field:
    """One column of a row in COPY's binary form: its byte length, then big-endian values."""

    name: str
    kind: Column
    width: int = 1

    def dtype(self) -> list[Any]:
        if self.kind == "double precision[]":
            element = np.dtype([("length", ">i4"), ("value", ">f8")])
            return [(f"{self.name} length", ">i4"), (f"{self.name} head", ">i4", 5), (self.name, element, self.width)]
        return [(f"{self.name} length", ">i4"), (self.name, ">f8" if self.kind == "double precision" else ">i8")]

    def put(self, rows: Array, values: Array) -> None:
        if self.kind == "double precision[]":
            rows[f"{self.name} length"] = 20 + 12 * self.width
            rows[f"{self.name} head"] = (1, 0, FLOAT8_OID, self.width, 1)  # dimensions, no nulls, type, size, from 1
            rows[self.name]["length"] = 8
            rows[self.name]["value"] = values
            return
        rows[f"{self.name} length"] = 8
        rows[self.name] = values - POSTGRES_EPOCH if self.kind == "timestamptz" else values

    def get(self, rows: Array) -> Array:
        values = rows[self.name].astype(float if self.kind == "double precision" else np.int64)
        return np.asarray(values + POSTGRES_EPOCH if self.kind == "timestamptz" else values)


def read_columns(session: Session, query: str, columns: dict[str, Column], **parameters: Any) -> dict[str, Array]:
    """The result of a query as arrays by name, in the query's order of columns; times in microseconds since 1970.

    query: in psycopg2's notation, with %(name)s parameters.
    """
    fields = [_Field(name, kind) for name, kind in columns.items()]
    buffer = io.BytesIO()
    with cursor(session) as driver:
        sql = driver.mogrify(query, parameters).decode()
        driver.copy_expert(f"copy ({sql}) to stdout (format binary)", buffer)
    body = buffer.getbuffer()[len(SIGNATURE) : -len(TRAILER)]
    rows = np.frombuffer(body, _row_type(fields))
    return {field.name: field.get(rows) for field in fields}


def stage_columns(session: Session, table: str, columns: dict[str, tuple[Column, Array]]) -> None:
    """Makes a temporary table of these columns, gone at the end of the transaction, and fills it by one COPY."""
    fields = [_Field(name, kind, array.shape[-1] if array.ndim == 2 else 1) for name, (kind, array) in columns.items()]
    rows = np.zeros(len(next(iter(columns.values()))[1]), _row_type(fields))
    rows["fields"] = len(fields)
    for field, (_, array) in zip(fields, columns.values(), strict=True):
        field.put(rows, array)
    declared = ", ".join(f'"{field.name}" {field.kind}' for field in fields)
    with cursor(session) as driver:
        driver.execute(f"drop table if exists pg_temp.{table}")
        driver.execute(f"create temp table {table} ({declared}) on commit drop")
        body = io.BytesIO(SIGNATURE + rows.tobytes() + TRAILER)
        driver.copy_expert(f"copy {table} from stdin (format binary)", body)


def _row_type(fields: list[_Field]) -> np.dtype[Any]:
    return np.dtype([("fields", ">i2"), *(part for field in fields for part in field.dtype())])
