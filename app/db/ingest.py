"""Writes one block of accesses by one COPY, each line counted once (step: ingest)."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY, TEXT
from sqlalchemy.orm import Session

from app.db import partitions
from app.domain.accesses import Block

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
COLUMNS = "ts, line, object_id, op, site_id, bytes, status, event_id, region, client, partial_upload"
WRITES = ("PUT", "DELETE")

_STAGE = text(
    "create temp table if not exists access_stage (ts timestamptz, line bigint, object_id bigint, op text,"
    " site_id bigint, bytes bigint, status bigint, event_id text, region text, client text, partial_upload boolean)"
    " on commit delete rows"
)
_INSERT = text(
    f"""with written as (
        insert into access (batch_id, {COLUMNS}) select :batch_id, {COLUMNS} from access_stage
        on conflict (event_id, ts) where event_id is not null do nothing
        returning ts, line, op)
    select count(*), min(ts), max(ts), coalesce(array_agg(line) filter (where op in {WRITES}), '{{}}') from written"""  # noqa: S608
)


@dataclass(frozen=True)
class Write:
    """A PUT or DELETE that was accepted: the world changed (docs/guarantees.md)."""

    object_id: int
    key: str
    op: str
    site_id: int | None
    ts: datetime


@dataclass(frozen=True)
class Written:
    """What became of a block."""

    batch_id: int
    accepted: int
    duplicates: int
    writes: list[Write]
    """In the order of the lines."""


def copy_block(session: Session, block: Block, source: str | None = None) -> Written:
    """Adds a block in the caller's transaction. A line whose (event_id, ts) was seen before is a duplicate.

    Unknown keys become objects in state `unknown`. source: who sent it, such as a trace's name.
    """
    days = {ts // 86_400_000_000 for ts in block.ts}
    partitions.ensure(session, [(EPOCH + timedelta(days=day)).date() for day in sorted(days)])
    ids = intern(session, block.key)
    batch_id = session.execute(
        text("insert into access_batch (accepted, source) values (0, :source) returning id"), {"source": source}
    ).scalar_one()
    session.execute(_STAGE)
    cursor = session.connection().connection.cursor()
    columns, lines = _lines(block, ids)
    cursor.copy_expert(f"copy access_stage ({', '.join(columns)}) from stdin", lines)
    cursor.close()
    accepted, first, last, writes = session.execute(_INSERT, {"batch_id": batch_id}).one()
    session.execute(text("delete from access_stage"))
    session.execute(
        text("update access_batch set accepted = :accepted, ts_min = :first, ts_max = :last where id = :id"),
        {"accepted": accepted, "first": first, "last": last, "id": batch_id},
    )
    return Written(batch_id, accepted, len(block.ts) - accepted, [_write(block, ids, n) for n in sorted(writes)])


def intern(session: Session, keys: Iterable[str]) -> dict[str, int]:
    """The id of each key's object; keys never seen become objects. Sorted, so that two blocks cannot deadlock."""
    ids: dict[str, int] = {}
    missing = sorted(set(keys))
    known = text("select key, id from object where key = any(:keys)").bindparams(bindparam("keys", type_=ARRAY(TEXT)))
    add = text(
        "insert into object (key) select unnest(:keys) on conflict (key) do nothing returning key, id"
    ).bindparams(bindparam("keys", type_=ARRAY(TEXT)))
    for statement in (known, add, known):  # the last for keys that another transaction has just added
        if missing:
            ids |= {row.key: row.id for row in session.execute(statement, {"keys": missing})}
            missing = [key for key in missing if key not in ids]
    return ids


def _write(block: Block, ids: dict[str, int], line: int) -> Write:
    ts = EPOCH + timedelta(microseconds=int(block.ts[line]))
    return Write(ids[block.key[line]], block.key[line], block.op[line], block.site_id[line], ts)


def _lines(block: Block, ids: dict[str, int]) -> tuple[list[str], io.BytesIO]:
    """The block in COPY's text form, built a column at a time; columns of which no line says anything are left out."""
    columns: dict[str, Iterable[str]] = {
        "ts": _times(block.ts),
        "line": map(str, range(len(block.ts))),
        "object_id": map(str, map(ids.__getitem__, block.key)),
        "op": block.op,
        "bytes": map(str, block.bytes_read),
        "partial_upload": ["t" if partial else "f" for partial in block.partial_upload],
    }
    optional = {"site_id": _numbers, "status": _numbers, "event_id": _texts, "region": _texts, "client": _texts}
    for name, form in optional.items():
        values = getattr(block, name)
        if any(value is not None for value in values):
            columns[name] = form(values)
    rows = map("\t".join, zip(*columns.values(), strict=True))
    return list(columns), io.BytesIO("\n".join(rows).encode())


def _times(values: Sequence[int]) -> Iterable[str]:
    """ISO times of distinct microseconds, each made once."""
    made: dict[int, str] = {}
    for value in values:
        if value not in made:
            made[value] = (EPOCH + timedelta(microseconds=int(value))).isoformat()
    return map(made.__getitem__, values)


def _numbers(values: Sequence[int | None]) -> list[str]:
    return ["\\N" if value is None else str(value) for value in values]


def _texts(values: Sequence[Any]) -> list[str]:
    """Text for COPY: its four special characters are escaped."""
    made = ["\\N" if value is None else value for value in values]
    everything = "".join(value for value in values if value is not None)
    if not any(special in everything for special in "\\\t\n\r"):
        return made
    escapes = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
    return [line if value is None else line.translate(escapes) for value, line in zip(values, made, strict=True)]
