"""Roll-ups are exact under duplicates, late lines and several workers; histories read back are what was written."""

from __future__ import annotations

import random
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from sqlalchemy import text
from sqlalchemy.orm import Session

from app.db import accesses, features, ingest, observations, partitions
from app.db.session import session_scope
from app.domain.accesses import Block
from app.domain.roles import Role
from ml.features import NAMES, snapshot
from tests import jobs
from tests.integration.conftest import Api
from workers.rebuilds import rebuild

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def micro(moment: datetime) -> int:
    return accesses.microseconds(moment)


def block(lines: list[dict[str, Any]]) -> Block:
    return Block(
        ts=[micro(line["ts"]) for line in lines],
        key=[line.get("key", "a") for line in lines],
        op=[line.get("op", "GET") for line in lines],
        site_id=[None] * len(lines),
        bytes_read=[line.get("bytes", 10) for line in lines],
        status=[line.get("status") for line in lines],
        event_id=[line.get("event_id") for line in lines],
        region=[line.get("region") for line in lines],
        client=[None] * len(lines),
        partial_upload=[line.get("partial", False) for line in lines],
    )


def hours(session: Session) -> list[tuple[Any, ...]]:
    query = (
        "select o.key, hour, region, reads, writes, bytes_read, partial_uploads, last_ts"
        " from access_hour join object o on o.id = object_id order by 1, 2, 3"
    )
    return [tuple(row) for row in session.execute(text(query))]


def test_hours_hold_exactly_what_was_accepted(session: Session):
    later = NOON + timedelta(minutes=59, seconds=59)
    lines = [
        {"ts": NOON, "event_id": "1", "region": "eu"},
        {"ts": NOON, "event_id": "1", "region": "eu"},
        {"ts": later, "op": "HEAD", "region": "eu"},
        {"ts": later, "op": "PUT", "partial": True, "bytes": 99, "region": "eu"},
        {"ts": NOON, "status": 404, "region": "us"},
        {"ts": NOON + timedelta(hours=1), "key": "b"},
    ]
    ingest.copy_block(session, block(lines))
    done = accesses.roll_up(session)
    assert (done.batches, len(done.objects)) == (1, 2)
    expected = [
        ("a", NOON, "eu", 2, 1, 10, 1, later),
        ("a", NOON, "us", 0, 0, 0, 0, NOON),
        ("b", NOON + timedelta(hours=1), "", 1, 0, 10, 0, NOON + timedelta(hours=1)),
    ]
    assert hours(session) == expected
    assert accesses.roll_up(session).batches == 0
    ingest.copy_block(session, block(lines[:1]))  # a duplicate in a later block
    accesses.roll_up(session)
    assert hours(session) == expected


def test_late_lines_are_added_to_their_hour(session: Session):
    ingest.copy_block(session, block([{"ts": NOON + timedelta(minutes=5)}]))
    accesses.roll_up(session)
    ingest.copy_block(session, block([{"ts": NOON, "bytes": 5}]))
    accesses.roll_up(session)
    assert hours(session) == [("a", NOON, "", 2, 0, 15, 0, NOON + timedelta(minutes=5))]


def test_two_workers_roll_each_block_up_once(clean_database: str):
    for number in range(12):
        with session_scope() as session:
            ingest.copy_block(session, block([{"ts": NOON, "key": f"k{number % 3}"}] * 10))

    def work() -> None:
        while True:
            with session_scope() as session:
                if not accesses.roll_up(session, limit=2).batches:
                    return

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with session_scope() as session:
        assert [row[3] for row in hours(session)] == [40, 40, 40]


def test_sums_equal_a_direct_count_whatever_comes_late_twice_or_between(session: Session, seed: int | None):
    """Blocks with duplicates and lines of days ago, rolled up now and then, a few or many at a time."""
    seed = random.randrange(2**32) if seed is None else seed
    print(f"seed {seed}")
    chance = random.Random(seed)
    counted: dict[tuple[str, datetime, str], list[int]] = {}
    sent: dict[tuple[str, datetime], dict[str, Any]] = {}
    for _ in range(25):
        lines = [_chosen(chance, list(sent.values())) for _ in range(chance.randrange(1, 30))]
        ingest.copy_block(session, block(lines))
        for line in lines:
            if line["event_id"] is None or (line["event_id"], line["ts"]) not in sent:
                _count(counted, line)
            if line["event_id"] is not None:
                sent.setdefault((line["event_id"], line["ts"]), line)
        if chance.random() < 0.4:
            accesses.roll_up(session, limit=chance.choice((1, 2, 64)))
        key, moment = chance.choice("abc"), NOON - timedelta(minutes=chance.randrange(3000))
        ids = ingest.intern(session, [key])
        assert accesses.recent_reads(session, ids[key], moment) == _recent(session, ids[key], moment)
    while accesses.roll_up(session).batches:
        pass
    assert {row[:3]: list(row[3:7]) for row in hours(session)} == counted


def test_days_are_counted_anew_exactly_and_one_after_the_other(api: Api, clean_database: str):
    old, new = NOON - timedelta(days=2), NOON - timedelta(days=1)
    lines = [{"ts": old, "key": "a"}, {"ts": old, "key": "b"}, {"ts": new, "key": "a"}, {"ts": NOON, "key": "a"}]
    with session_scope() as session:
        ingest.copy_block(session, block(lines))
        accesses.roll_up(session)
        right = hours(session)
        session.execute(text("update access_hour set reads = 7 where hour >= :day"), {"day": new})
        session.execute(text("delete from access_hour where hour < :day"), {"day": new})
        ingest.copy_block(session, block([{"ts": old, "key": "a"}]))  # not rolled up: not counted yet
    days = {"since": f"{old:%Y-%m-%d}", "until": f"{NOON:%Y-%m-%d}"}
    started = api.post("/v1/accesses:rebuild", role=Role.OPERATOR, json=days)
    assert started.status_code == 202
    done = jobs.turn(rebuild, started.json["id"])
    assert (done.state, done.progress["done"]) == ("succeeded", 3)
    with session_scope() as session:
        assert hours(session) == right
        accesses.roll_up(session)
        assert hours(session)[0][3] == 2
        partitions.prune(session, NOON - timedelta(days=1), NOON - timedelta(days=400))
    refused = api.post("/v1/accesses:rebuild", role=Role.OPERATOR, json=days)
    assert refused.status_code == 409
    assert f"{old:%Y-%m-%d}" in refused.json["detail"]
    backwards = api.post(
        "/v1/accesses:rebuild", role=Role.OPERATOR, json={"since": "2026-11-02", "until": "2026-11-01"}
    )
    assert backwards.status_code == 422


def test_sums_counted_anew_while_others_roll_up_are_exact(clean_database: str):
    def work() -> None:
        for number in range(8):
            with session_scope() as session:
                ingest.copy_block(session, block([{"ts": NOON, "key": f"k{number % 3}"}] * 10))
            with session_scope() as session:
                accesses.roll_up(session)

    def count_anew() -> None:
        for _ in range(8):
            with session_scope() as session:
                accesses.rebuild(session, NOON.date())

    threads = [threading.Thread(target=act) for act in (work, work, count_anew)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with session_scope() as session:
        accesses.roll_up(session)
        assert [row[3] for row in hours(session)] == [60, 60, 40]


def _chosen(chance: random.Random, sent: list[dict[str, Any]]) -> dict[str, Any]:
    """A line that was sent before, or another of up to five days ago."""
    if sent and chance.random() < 0.3:
        return chance.choice(sent)
    return {
        "ts": NOON - timedelta(minutes=chance.choice((60, 7200)) * chance.random()),
        "key": chance.choice("abc"),
        "op": chance.choice(("GET", "GET", "HEAD", "PUT", "DELETE")),
        "bytes": chance.randrange(100),
        "status": chance.choice((None, 200, 404)),
        "event_id": chance.choice((None, str(chance.randrange(1000)))),
        "region": chance.choice((None, "eu", "us")),
        "partial": chance.random() < 0.1,
    }


def _count(counted: dict[tuple[str, datetime, str], list[int]], line: dict[str, Any]) -> None:
    sums = counted.setdefault((line["key"], accesses.floor_hour(line["ts"]), line["region"] or ""), [0, 0, 0, 0])
    read = line["op"] in ("GET", "HEAD") and line["status"] != 404
    sums[0] += read
    sums[1] += line["op"] == "PUT"
    sums[2] += line["bytes"] if read and line["op"] == "GET" else 0
    sums[3] += line["partial"]


def _recent(session: Session, object_id: int, moment: datetime) -> tuple[int, int]:
    query = text(
        f"select count(*) from access a where object_id = :id and {accesses.READ} and ts > :since and ts <= :now"
    )
    since = (moment - timedelta(hours=1), moment - timedelta(hours=24))
    found = [session.execute(query, {"id": object_id, "now": moment, "since": one}).scalar_one() for one in since]
    return int(found[0]), int(found[1])


def test_history_is_exact_in_the_last_day_and_by_hours_before(session: Session):
    stamps = [NOON - timedelta(days=5, minutes=m) for m in range(3)] + [
        NOON - timedelta(minutes=m) for m in (0, 30, 61, 70)
    ]
    ingest.copy_block(session, block([{"ts": stamp} for stamp in stamps]))
    accesses.roll_up(session)
    observed = observations.observe(session, NOON)
    assert observed.history.reads.sum() == 6  # the one at noon itself is not before noon
    X = snapshot(observed.history, observed.catalogue, micro(NOON))
    assert X[0, NAMES.index("access_1h")] == 1
    assert X[0, NAMES.index("access_24h")] == 3
    assert X[0, NAMES.index("access_7d")] == 6
    assert X[0, NAMES.index("recency_s")] == 1800
    some = observations.observe(session, NOON, observed.ids.tolist())
    assert np.array_equal(some.history.ts, observed.history.ts)
    assert len(observations.observe(session, NOON, [-1]).ids) == 0


def test_hours_alone_feed_training(session: Session):
    ingest.copy_block(session, block([{"ts": NOON - timedelta(hours=h), "key": f"k{h % 4}"} for h in range(48)]))
    accesses.roll_up(session)
    assert observations.observe_hours(session, NOON).history.reads.sum() == 47
    halves = [len(observations.observe_hours(session, NOON, (part, 2)).ids) for part in (0, 1)]
    assert sum(halves) == observations.count_objects(session) == 4


def test_features_are_saved_and_read_back(session: Session):
    ids = np.array(sorted(ingest.intern(session, ["a", "b", "c"]).values()))
    X = np.arange(3 * len(NAMES), dtype=np.float32).reshape(3, -1)
    features.save(session, ids, X, micro(NOON))
    features.save(session, ids[:1], X[1:2], micro(NOON - timedelta(hours=1)))  # older: ignored
    assert features.stored(session, ids, 2).tolist() == X[:, 2].tolist()
    rows = session.execute(text('select as_of, "values" from feature order by object_id')).all()
    assert rows[0].as_of == NOON
    assert rows[2].values == X[2].tolist()
    assert features.stored(session, np.array([10**9]), 0).tolist() == [0.0]


def test_bytes_beyond_all_measure_hold_up_no_roll_up(session: Session):
    for _ in range(2):
        ingest.copy_block(session, block([{"ts": NOON, "bytes": 2**63 - 1}] * 3))
        assert accesses.roll_up(session).batches == 1
    assert [row[5] for row in hours(session)] == [2**53]
