"""Closed days of accesses exported to a real site: proven, exported again when late lines come, kept by retention."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from sqlalchemy import text

from app.db import access_exports, accesses, ingest, jobs, partitions
from app.db.session import session_scope
from app.db.tables import Job
from app.domain.accesses import Block
from app.domain.roles import Role
from app.s3 import files, multipart, objects, uploads
from app.s3.objects import Target
from tests.integration.conftest import Api
from tests.jobs import run, turn
from tests.world import World
from workers.access_exports import export as export_task
from workers.accesses import roll_up
from workers.batch import run_batch
from workers.objects import scan

NOW = datetime(2026, 11, 10, 6, tzinfo=UTC)
KEY = "foretide/accesses/day={}/accesses.parquet"


@pytest.fixture
def exporting(make_world: Callable[..., World]) -> Iterator[World]:
    """A world that exports to aws-eu."""
    world = make_world(settings={"export_site": "aws-eu"})
    bucket = world.buckets["aws-eu"]
    yield world
    for page in objects.pages(bucket, "foretide/"):
        for line in page:
            bucket.ask("DELETE", line.key, writes=True)


def arrive(day: int, count: int = 3, key: str = "a é") -> None:
    start = datetime(2026, 11, day, tzinfo=UTC)
    ts = [accesses.microseconds(start + timedelta(minutes=n)) for n in range(count)]
    none: list[Any] = [None] * count
    block = Block(
        ts=ts, key=[key] * count, op=["GET"] * count, site_id=none, bytes_read=[7] * count, status=none,
        event_id=none, region=none, client=none, partial_upload=[False] * count,
    )  # fmt: skip
    with session_scope() as session:
        ingest.copy_block(session, block)
        accesses.roll_up(session)


def exported(**args: Any) -> Job:
    return run(export_task, "export", {"as_of": NOW.isoformat(), **args})


def recorded() -> dict[str, tuple[int, int]]:
    with session_scope() as session:
        return {str(row.day): (row.version, row.rows) for row, _ in access_exports.listing(session, None, 100)}


def test_closed_days_are_exported_once_and_again_when_lines_come_late(exporting: World, tmp_path: Path):
    for day in (5, 7, 8, 9):
        arrive(day)
    assert exported().result == {"site": "aws-eu", "days": ["2026-11-05", "2026-11-07"], "rows": 6}  # two days closed
    assert recorded() == {"2026-11-05": (1, 3), "2026-11-07": (1, 3)}
    assert exported().result["days"] == []
    arrive(5, 2)
    assert exported().result["days"] == ["2026-11-05"]
    assert recorded()["2026-11-05"] == (2, 5)
    with session_scope() as session:
        row = access_exports.of(session, date(2026, 11, 5))
        assert row is not None
        key, etag, sha256 = row.key, row.etag, row.sha256
    assert key == KEY.format("2026-11-05")
    path = tmp_path / "day.parquet"
    files.download(exporting.buckets["aws-eu"], key, etag, sha256, path, lambda: None)
    table = pq.read_table(path)
    assert table.column("key").to_pylist() == ["a é"] * 5
    assert str(table.schema.field("ts").type) == "timestamp[us, tz=UTC]"
    assert table.column("ts")[0].as_py() == datetime(2026, 11, 5, tzinfo=UTC)


def test_large_days_go_in_parts_and_what_a_killed_worker_left_is_removed(exporting: World, tmp_path: Path):
    bucket, key = exporting.buckets["aws-eu"], KEY.format("2026-11-05")
    target = Target(key, "STANDARD", "export", conditional=False)
    upload_id = multipart.begin(bucket, target, files.CARRIED)
    multipart.send_part(bucket, key, upload_id, 1, b"x" * 5 * 2**20)
    path = tmp_path / "large"
    path.write_bytes(bytes(range(256)) * (11 * 2**12))
    options: dict[str, Any] = {"storage_class": "STANDARD", "part_size": 5 * 2**20, "conditional": True}
    asked = iter([None])
    with pytest.raises(StopIteration):  # broken off after the first part: readers see nothing of it
        files.upload(bucket, key, path, check=lambda: next(asked), **options)
    assert objects.find(bucket, key) is None
    for _ in range(2):  # the second time in place of the first
        sha256, etag = files.upload(bucket, key, path, check=lambda: None, **options)
    assert [left for page in uploads.pages(bucket, key) for left in page] == []
    back = tmp_path / "back"
    files.download(bucket, key, etag, sha256, back, lambda: None)
    assert back.read_bytes() == path.read_bytes()


def test_retention_waits_for_the_export(exporting: World, configure: Callable[..., Any]):
    arrive(5)
    configure(retention_days=1, export_site="aws-eu")
    later = {"as_of": (NOW + timedelta(days=3)).isoformat()}
    assert run(roll_up, "rollup", later).result["pruned_days"] == 0
    exported()
    assert run(roll_up, "rollup", later).result["pruned_days"] == 1
    with session_scope() as session:
        assert partitions.days(session, date(2026, 11, 6)) == []
        assert list(access_exports.readable(session, [date(2026, 11, 5)])) == [date(2026, 11, 5)]


def test_both_are_read_exports_and_open_days(exporting: World, make_api: Callable[..., Api]):
    arrive(5)
    arrive(9)
    exported()
    api = make_api(export_site="aws-eu")
    span = {"since": "2026-11-04T00:00:00Z", "until": "2026-11-10T00:00:00Z"}
    document = {"operation": "process_events", "accesses": span}
    job_id = api.post("/v1/batch", document).json["id"]
    run_batch(job_id)
    job = api.get(f"/v1/jobs/{job_id}").json
    assert job["result"]["days"] == {"database": 1, "exported": 1, "none": 4}
    assert job["result"]["events"] == 6
    listed = api.get("/v1/exports", role=Role.VIEWER).json["items"]
    assert [(row["day"], row["site"], row["rows"]) for row in listed] == [("2026-11-05", "aws-eu", 3)]
    started = api.post("/v1/exports:run", role=Role.OPERATOR)
    assert (started.status_code, started.json["kind"]) == (202, "export")
    assert make_api(export_site="").post("/v1/exports:run").status_code == 409


def test_an_exported_file_that_was_changed_is_not_read(exporting: World, make_api: Callable[..., Api]):
    arrive(5)
    exported()
    bucket, key = exporting.buckets["aws-eu"], KEY.format("2026-11-05")
    bucket.client.put_object(Bucket=bucket.bucket, Key=key, Body=b"something else")
    api = make_api(export_site="aws-eu")
    span = {"since": "2026-11-05T00:00:00Z", "until": "2026-11-06T00:00:00Z"}
    job_id = api.post("/v1/batch", {"operation": "process_events", "accesses": span}).json["id"]
    job = turn(run_batch, job_id)
    assert job.reason == "source_changed"
    assert job.result is None


def test_an_export_that_cannot_be_written_is_an_alert(exporting: World):
    arrive(5)
    exporting.set_site("aws-eu", secret_key="wrong")
    with session_scope() as session:
        job_id = jobs.submit(session, "export", {"as_of": NOW.isoformat()}, actor="test").id
    job = turn(export_task, job_id)
    assert (job.state, job.error["type"]) == ("failed", "access-denied")
    (alert,) = exporting.alerts("export_failed")
    assert alert.subject == "aws-eu"
    assert recorded() == {}


def test_exports_are_no_objects_of_the_catalogue(exporting: World):
    arrive(5)
    exported()
    run(scan, "scan", {"site": "aws-eu", "prefix": "foretide/"})
    with session_scope() as session:
        assert session.scalars(text("select key from object where key like 'foretide/%'")).all() == []


def test_retention_awaits_a_block_that_is_on_its_way_into_one_day(clean_database: str):
    """Such a block goes straight into its day's partition; were it not awaited, it could be dropped unexported."""
    day = datetime(2026, 11, 1, tzinfo=UTC)
    stamp = round(day.timestamp()) * 1_000_000

    def block() -> Block:
        return Block([stamp], ["a"], ["GET"], [None], [1], [200], [None], [None], [None], [False])

    found: list[list[date]] = []

    def look() -> None:
        with session_scope() as session:
            found.append(access_exports.unsaved(session, [day.date()]))

    looking = threading.Thread(target=look)
    waits = text("select count(*) from pg_locks where not granted and mode = 'AccessExclusiveLock'")
    with session_scope() as session:
        partitions.ensure(session, [day.date()])
    with session_scope() as writing, session_scope() as watching:
        with writing.begin_nested() as first:  # so that this connection knows the partition's bounds
            ingest.copy_block(writing, block())
            first.rollback()
        ingest.copy_block(writing, block())
        looking.start()
        while looking.is_alive() and not watching.scalar(waits):
            looking.join(0.01)
        assert not found
    looking.join(10)
    assert found == [[day.date()]]
