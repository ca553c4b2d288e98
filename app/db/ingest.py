"""Writes one block of accesses by one COPY, each line counted once (step: ingest)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from psycopg2.errors import UniqueViolation
from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY, TEXT
from sqlalchemy.orm import Session

from app.db import bulk, partitions
from app.db.access_rows import Rows
from app.domain.accesses import Block

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAY = 86_400_000_000
WRITES = ("PUT", "DELETE")

_KNOWN = text(
    """select line - 1 from unnest(cast(:stamps as bigint[]), cast(:events as text[]))
        with ordinality as s (stamp, event_id, line)
    where s.event_id is not null and exists (select from access a where a.event_id = s.event_id
        and a.ts = timestamptz 'epoch' + s.stamp * interval '1 microsecond' and a.ts between :first and :last)"""
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
    partitions.ensure(session, [(EPOCH + timedelta(days=day)).date() for day in sorted(_days(block))])
    ids = intern(session, block.key)
    batch_id = session.execute(
        text("insert into access_batch (accepted, source) values (0, :source) returning id"), {"source": source}
    ).scalar_one()
    kept = block
    while kept.ts and not _copied(session, kept, ids, batch_id):
        kept = _unseen(session, kept)
    if kept.ts:
        session.execute(
            text("update access_batch set accepted = :accepted, ts_min = :first, ts_max = :last where id = :id"),
            {"accepted": len(kept.ts), "first": _time(min(kept.ts)), "last": _time(max(kept.ts)), "id": batch_id},
        )
    writes = [_write(kept, ids, line) for line, op in enumerate(kept.op) if op in WRITES]
    return Written(batch_id, len(kept.ts), len(block.ts) - len(kept.ts), writes)


def _copied(session: Session, block: Block, ids: dict[str, int], batch_id: int) -> bool:
    """Whether the lines stand in the table: all, or none because one of them is a duplicate.

    Duplicates are rare, so the index finds them while it is written and nobody looks first.
    """
    rows = Rows(block, list(map(ids.__getitem__, block.key)), batch_id)
    days = _days(block)
    table = partitions.name_of(_time(block.ts[0]).date()) if len(days) == 1 else "access"
    try:
        with session.begin_nested(), bulk.cursor(session) as cursor:
            cursor.copy_expert(f"copy {table} ({', '.join(rows.columns)}) from stdin (format binary)", rows)
    except UniqueViolation:
        return False
    return True


def _unseen(session: Session, block: Block) -> Block:
    """The lines that are no duplicates of stored ones, nor of earlier ones of the block."""
    values = {"stamps": list(block.ts), "events": list(block.event_id)}
    span = {"first": _time(min(block.ts)), "last": _time(max(block.ts))}
    dropped = set(session.scalars(_KNOWN, values | span))
    seen: set[tuple[str, int]] = set()
    for line, (event, ts) in enumerate(zip(block.event_id, block.ts, strict=True)):
        if event is not None:
            if (event, ts) in seen:
                dropped.add(line)
            seen.add((event, ts))
    return block.without(dropped)


def _days(block: Block) -> set[int]:
    first, last = min(block.ts) // DAY, max(block.ts) // DAY
    return {first} if first == last else {ts // DAY for ts in block.ts}


def _time(ts: int) -> datetime:
    return EPOCH + timedelta(microseconds=int(ts))


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
    return Write(ids[block.key[line]], block.key[line], block.op[line], block.site_id[line], _time(block.ts[line]))
