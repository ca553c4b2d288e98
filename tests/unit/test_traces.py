"""Trace files: read into columns, or refused with the line and what to mend."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest

from app.errors import Invalid
from app.lab.traces import read_trace
from ml.history import SECOND

HEAD = "ts,object,op,bytes,size,region\n"


def csv(folder: Path, *lines: str, head: str = HEAD) -> Path:
    path = folder / "trace.csv"
    path.write_text(head + "\n".join(lines) + "\n")
    return path


def parquet(folder: Path, select: str) -> Path:
    path = folder / "trace.parquet"
    duckdb.connect().sql(f"select {select}").write_parquet(str(path))
    return path


def test_rows_come_sorted_with_sizes_and_regions(tmp_path: Path):
    trace = read_trace(
        csv(
            tmp_path,
            "2026-11-02T00:00:00Z,b/2.log,put,5,50,eu",
            "2026-11-01T12:00:00+02:00,a/1.log,GET,7,,",
            "2026-11-03 00:00:00.5+00,a/1.log,HEAD,,,us",
        )
    )
    assert trace.keys == ["a/1.log", "b/2.log"]
    assert trace.object.tolist() == [0, 1, 0]
    assert trace.op.tolist() == [0, 2, 1]
    assert trace.ts[0] == int(datetime(2026, 11, 1, 10, tzinfo=UTC).timestamp()) * SECOND
    assert trace.sizes().tolist() == [7, 50]
    assert [trace.regions[place] for place in trace.region] == ["", "eu", "us"]
    assert trace.rejected == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("2026-11-02T00:00:00Z,a,GET,4611686018427387904,1,1", "bytes is not a number from 0 to 1125899906842624"),
        ("2026-11-02T00:00:00Z,a,GET,1,4611686018427387904,1", "size is not a number from 0 to 1125899906842624"),
        ("2026-11-02T00:00:00Z,a,GET,1,1,4611686018427387904", "count is not a number from 1 to 1000000000"),
        ("2026-11-02T00:00:00Z,a,GET,1,1,0", "count is not a number from 1 to 1000000000"),
        ("290000-01-01T00:00:00Z,a,GET,1,1,1", "ts is not within the years 1 to 9998"),
        ("9999-12-31T00:00:00Z,a,GET,1,1,1", "ts is not within the years 1 to 9998"),
    ],
)
def test_numbers_and_times_that_cannot_be_reckoned_with_are_refused(tmp_path: Path, line: str, said: str):
    good = "2026-11-02T00:00:00Z,a,GET,1,1,1"
    trace = read_trace(csv(tmp_path, good, line, head="ts,object,op,bytes,size,count\n"))
    assert [(each.line, each.detail) for each in trace.rejected] == [(3, said)]


def test_each_unusable_line_is_named(tmp_path: Path):
    trace = read_trace(
        csv(
            tmp_path,
            "2026-11-02T00:00:00Z,ok,GET,5,50,",
            "2026-11-02T00:00:00,naive,GET,5,50,",
            "yesterday,when,GET,5,50,",
            "2026-11-02T00:00:00Z,negative,GET,-5,50,",
            "2026-11-02T00:00:00Z,negative,GET,5,-1,",
            "2026-11-02T00:00:00Z,op,POST,5,50,",
            "2026-11-02T00:00:00Z,,GET,5,50,",
            f"2026-11-02T00:00:00Z,{'k' * 1025},GET,5,50,",
            "2026-11-02T00:00:00Z,bytes,GET,many,50,",
        )
    )
    assert len(trace) == 1
    assert trace.rejected_total == 8
    assert [(row.line, row.detail.split()[0]) for row in trace.rejected] == [
        (3, "ts"), (4, "ts"), (5, "bytes"), (6, "size"), (7, "op"), (8, "object"), (9, "object"), (10, "bytes"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.csv", None, "no trace file"),
        ("trace.txt", b"x", "parquet or .csv"),
        ("trace.parquet", b"not parquet at all", "cannot be read"),
        ("trace.csv", b"ts,object,op\n2026-11-02T00:00:00Z,a,GET\n", "no column bytes"),
        ("trace.csv", HEAD.encode(), "no usable row"),
        ("trace.csv", (HEAD + "2026-11-02,a,GET,1,1,\n").encode(), "line 2: ts has no time zone"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(tmp_path: Path, name: str, content: bytes | None, message: str):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(Invalid, match=message):
        read_trace(tmp_path / name)


def test_a_packed_log_that_is_cut_off_says_so(tmp_path: Path):
    path = tmp_path / "access.log.gz"
    path.write_bytes(gzip.compress(b'{"ts": "2026-11-01T00:00:00Z", "key": "a", "op": "GET"}\n' * 9)[:-20])
    with pytest.raises(Invalid, match=r"access\.log\.gz cannot be read"):
        read_trace(path)
    path.write_bytes(b"\x1f\x8b\x08\x00garbage")
    with pytest.raises(Invalid, match=r"access\.log\.gz cannot be read"):
        read_trace(path)


def test_parquet_times_need_a_zone(tmp_path: Path):
    naive = parquet(tmp_path, "timestamp '2026-11-02 00:00:00' as ts, 'a' as object, 'GET' as op, 1 as bytes")
    with pytest.raises(Invalid, match="with a zone"):
        read_trace(naive)
    aware = parquet(tmp_path, "timestamptz '2026-11-02 00:00:00Z' as ts, 'a' as object, 'GET' as op, 1 as bytes")
    assert len(read_trace(aware)) == 1


def test_what_a_count_tells_beyond_one_access_a_row_is_known(tmp_path: Path):
    rows = ("2026-11-01,a,7,3", "2026-11-02,a,5,", "2026-11-02,b,4,2")
    assert read_trace(csv(tmp_path, *rows, head="date,object,bytes,count\n")).uncounted == 3
    assert read_trace(csv(tmp_path, "2026-11-01,a,7", head="date,object,bytes\n")).uncounted == 0


def test_a_row_counts_as_so_many_requests_in_the_history(tmp_path: Path):
    lines = ("2026-11-01,GET,a,70,7", "2026-11-01,PUT,b,30,2", "2026-11-02,HEAD,a,0,1")
    history = read_trace(csv(tmp_path, *lines, head="date,op,object,bytes,count\n")).history()
    assert history.object.tolist() == [0, 0, 1]
    assert history.reads.tolist() == [7, 1, 0]
    assert history.writes.tolist() == [0, 0, 2]
    assert history.bytes_read.tolist() == [70, 0, 0]


def test_blocks_for_the_api_hold_every_row_once(tmp_path: Path):
    path = csv(tmp_path, *(f"2026-11-02T00:00:0{n}Z,k{n},GET,{n},,eu" for n in range(5)))
    blocks = list(read_trace(path).ndjson("demo", lines=2))
    lines = [json.loads(line) for block in blocks for line in block.decode().splitlines()]
    assert [len(block.splitlines()) for block in blocks] == [2, 2, 1]
    assert [line["event_id"] for line in lines] == [f"demo-{n}" for n in range(5)]
    assert lines[1] == {
        "ts": "2026-11-02T00:00:01+00:00", "key": "k1", "op": "GET", "bytes": 1, "event_id": "demo-1", "region": "eu",
    }  # fmt: skip
