"""A block of accesses is written once: partitions, new keys, duplicates, odd characters, and how fast."""

from __future__ import annotations

import threading
import time
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from app.db import accesses, bulk, ingest, partitions
from app.db.session import session_scope
from app.domain.accesses import Block
from app.errors import DatabaseUnavailable

DAY = datetime(2026, 11, 20, tzinfo=UTC)


def block(n: int, **columns: list[Any]) -> Block:
    """n lines one second apart from noon on, each of its own key and event unless a column is given."""
    start = int(DAY.timestamp()) * 1_000_000
    whole: dict[str, list[Any]] = {
        "ts": [start + second * 1_000_000 for second in range(n)],
        "key": [f"k/{line}" for line in range(n)],
        "op": ["GET"] * n,
        "site_id": [None] * n,
        "bytes_read": [100] * n,
        "status": [200] * n,
        "event_id": [f"e{line}" for line in range(n)],
        "region": ["eu"] * n,
        "client": [None] * n,
        "partial_upload": [False] * n,
    }
    return Block(**{**whole, **columns})


def count(session: Session, table: str) -> int:
    return int(session.execute(text(f"select count(*) from {table}")).scalar_one())


def test_lines_become_rows_and_unknown_keys_objects(session: Session):
    written = ingest.copy_block(session, block(3, key=["a", "b", "a"]), source="test")
    assert (written.accepted, written.duplicates, written.writes) == (3, 0, [])
    assert count(session, "object") == 2
    rows = session.execute(
        text("select o.key, o.state, a.bytes, a.ts from access a join object o on o.id = object_id order by ts")
    )
    assert [tuple(row) for row in rows][2] == ("a", "unknown", 100, DAY + timedelta(seconds=2))


def test_the_same_event_and_time_counts_once_within_and_across_blocks(session: Session):
    first = ingest.copy_block(session, block(4, event_id=["x", "x", None, None], ts=[1_790_000_000_000_000] * 4))
    assert (first.accepted, first.duplicates) == (3, 1)
    again = ingest.copy_block(session, block(4, event_id=["x", "x", None, None], ts=[1_790_000_000_000_000] * 4))
    assert (again.accepted, again.duplicates) == (2, 2)  # without event_id a line is never a duplicate
    other_time = ingest.copy_block(session, block(1, event_id=["x"], ts=[1_790_000_000_000_001]))
    assert other_time.accepted == 1


def test_a_block_with_duplicates_leaves_the_same_rows_as_its_lines_one_by_one(session: Session):
    """Duplicates are found by the index and left out of a second COPY; a block without them needs but the first."""
    events = ["a", "b", "a", None, "c", None, "b", "d"]
    stamps = [1_790_000_000_000_000 + day * 86_400_000_000 for day in (0, 1, 0, 0, 1, 0, 2, 0)]
    lines = {"event_id": events, "ts": stamps, "op": ["PUT", "GET", "PUT", "GET", "DELETE", "HEAD", "GET", "PUT"]}
    stored = text(
        "select ts, key, op, bytes, status, event_id, region from access join object o on o.id = object_id"
        " order by 1, 2"
    )
    ingest.copy_block(session, block(1, key=["k/7"], event_id=["d"], ts=stamps[:1]))
    with session.begin_nested() as first:
        whole = ingest.copy_block(session, block(8, **lines))
        rows = session.execute(stored).all()
        first.rollback()
    ones = [ingest.copy_block(session, Block(**{name: [values[n]] for name, values in vars(block(8, **lines)).items()}))
            for n in range(8)]  # fmt: skip
    assert session.execute(stored).all() == rows
    assert (whole.accepted, whole.duplicates) == (6, 2)
    assert (sum(one.accepted for one in ones), sum(one.duplicates for one in ones)) == (6, 2)
    assert (
        [write.op for one in ones for write in one.writes] == [write.op for write in whole.writes] == ["PUT", "DELETE"]
    )


def test_puts_and_deletes_are_reported_once_in_order(session: Session):
    lines = block(4, op=["PUT", "GET", "DELETE", "PUT"], key=["a", "a", "a", "b"])
    written = ingest.copy_block(session, lines)
    assert [(write.key, write.op, write.site_id) for write in written.writes] == [
        ("a", "PUT", None),
        ("a", "DELETE", None),
        ("b", "PUT", None),
    ]
    assert written.writes[1].ts == DAY + timedelta(seconds=2)
    assert ingest.copy_block(session, lines).writes == []


ODD = ["tab\there", "new\nline", "back\\slash", "\\N", "\\.", "emoji 🐙", "e\u0301", "é", "quote\"'", " lead", "\r"]


def test_odd_characters_survive(session: Session):
    n = len(ODD)
    ingest.copy_block(session, block(n, key=ODD, event_id=ODD, region=ODD, client=ODD))
    rows = session.execute(
        text("select o.key, event_id, region, client from access a join object o on o.id = object_id order by ts")
    ).all()
    assert [tuple(row) for row in rows] == [(odd, odd, odd, odd) for odd in ODD]


def test_partitions_are_made_for_the_days_and_dropped_past_retention(session: Session):
    stamps = [int((DAY - timedelta(days=ago)).timestamp()) * 1_000_000 for ago in (0, 40, 400)]
    ingest.copy_block(session, block(3, ts=stamps))
    assert partitions.ensure(session, [DAY.date(), date(2026, 10, 11)]) == 0
    accesses.roll_up(session)
    assert partitions.prune(session, DAY - timedelta(days=90), DAY - timedelta(days=500)) == 1
    assert count(session, "access") == 2
    assert count(session, "access_hour") == 3
    assert partitions.prune(session, DAY - timedelta(days=90), DAY - timedelta(days=90)) == 0
    assert count(session, "access_hour") == 2


def test_no_day_is_dropped_before_its_blocks_are_rolled_up(session: Session):
    stamps = [int((DAY - timedelta(days=ago)).timestamp()) * 1_000_000 for ago in (401, 400)]
    ingest.copy_block(session, block(1, ts=stamps[:1], event_id=["early"]))
    accesses.roll_up(session)
    ingest.copy_block(session, block(2, ts=stamps))
    ingest.copy_block(session, block(2, ts=stamps))  # of duplicates alone: it has no time
    limit = DAY - timedelta(days=90)
    assert partitions.prune(session, limit, limit - timedelta(days=400)) == 0
    accesses.roll_up(session)
    assert session.execute(text("select sum(reads) from access_hour")).scalar_one() == 3
    assert partitions.prune(session, limit, limit) == 2
    assert count(session, "access") == count(session, "access_hour") == 0
    assert count(session, "access_batch") == 1  # the one without a time was received today


def test_a_connection_that_ends_during_the_copy_is_an_unavailable_database(clean_database: str):
    with pytest.raises(DatabaseUnavailable), session_scope() as session, bulk.cursor(session) as cursor:
        cursor.execute("select pg_terminate_backend(pg_backend_pid())")


def test_blocks_at_the_same_time_share_keys_and_partitions(clean_database: str):
    results: list[int] = []

    def send(number: int) -> None:
        lines = block(500, key=[f"shared/{(line * 7 + number) % 300}" for line in range(500)])
        with session_scope() as session:
            results.append(ingest.copy_block(session, lines).accepted)

    threads = [threading.Thread(target=send, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with session_scope() as session:
        assert count(session, "object") == 300
        assert count(session, "access") == sum(results) == 500  # the four blocks carry the same events


def test_a_block_of_ten_thousand_lines_is_written_by_one_copy(
    clean_database: str, record_property: pytest.RecordProperty
):
    blocks = [
        block(
            10_000,
            key=[f"k/{line % 500}" for line in range(10_000)],
            event_id=[f"{n}-{line}" for line in range(10_000)],
        )
        for n in range(3)
    ]
    started = time.perf_counter()
    for lines in blocks:
        with session_scope() as session:
            assert ingest.copy_block(session, lines).accepted == 10_000
    rate = 30_000 / (time.perf_counter() - started)
    record_property("rows_per_second", round(rate))
    print(f"{rate:,.0f} rows/s")
    assert rate > 5_000  # far below what an idle machine does: it only catches a row at a time
