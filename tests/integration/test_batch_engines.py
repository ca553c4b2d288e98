"""The same operations over the same files by DuckDB and by Spark: equal rows, in equal order."""

from __future__ import annotations

import math
import random
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ibis
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app import engines
from app.domain.batch import EngineName, Spark
from app.errors import Cancelled
from ml import batch
from workers.batch_engines import Engine, opened, run
from workers.batch_files import ACCESSES, TIME, rows_of

if TYPE_CHECKING:
    from ibis.expr.types import Table

SPRING = 1_774_746_000_000_000  # 01:00 UTC of the day on which Europe's clocks go forward
EVENTS = pa.schema(
    [("row", pa.int64()), ("ts", TIME), ("value", pa.float64())]
    + [(name, pa.string()) for name in ("key", "g0", "g1", "body")]
)
TEXTS = (None, "", "x", "X", "é", "é", "日本", 'a "b",\n\\N', "Ω" * 40)
Rows = dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Streams of events, some of no event, and of accesses."""
    folder, draw = tmp_path_factory.mktemp("streams"), random.Random(5)
    n = 3000
    times = [None, -1, -3_600_000_001, *(SPRING + draw.randrange(-4 * 10**10, 4 * 10**10) for _ in range(400))]
    values = [None, 0.0, 1e9, -1e9, *(draw.gauss(0, 1) for _ in range(50)), 40.0]
    columns: dict[str, list[Any]] = {
        "row": list(range(n)),
        "ts": draw.choices(times, k=n),
        "value": draw.choices(values, k=n),
        "key": draw.choices(TEXTS, k=n),
        "g0": draw.choices(TEXTS, k=n),
        "g1": draw.choices(["1", "2", None], k=n),
        "body": [f'{{"n":{number}}}' for number in range(n)],
    }
    accesses: dict[str, list[Any]] = {
        "row": list(range(n)),
        "ts": sorted(SPRING + draw.randrange(10**11) for _ in range(n)),
        "key": draw.choices(TEXTS[1:], k=n),
        "op": draw.choices(["GET", "HEAD", "PUT", "DELETE"], k=n),
        "site": draw.choices([None, "aws-eu"], k=n),
        "bytes": draw.choices([0, 5, 2**52, 2**63 - 1], k=n),
        "status": draw.choices([None, 200, 304, 404], k=n),
        **{name: [None] * n for name in ("region", "client", "event_id")},
        "partial_upload": draw.choices([True, False], k=n),
    }
    made = {}
    for name, schema, of in (("events", EVENTS, columns), ("accesses", ACCESSES, accesses)):
        made[name], made[f"no_{name}"] = folder / f"{name}.parquet", folder / f"no_{name}.parquet"
        pq.write_table(pa.table(of, schema=schema), made[name])
        pq.write_table(schema.empty_table(), made[f"no_{name}"])
    return made


def asked(engine: Engine, files: dict[str, Path]) -> dict[str, Table]:
    """Every operation over every kind of stream."""
    found = {}
    for none in ("", "no_"):
        events, accesses = (engine.read([files[none + name]]) for name in ("events", "accesses"))
        few = events.filter(events.row < 60)
        groups = ["g0", "g1"]
        of_accesses = batch.accesses_stream(accesses, "bytes", "key", ["op", "status", "partial_upload"])
        minute = 60_000_000
        found |= {
            f"{none}windows": batch.windows(events, batch.Windows()),
            f"{none}windows of groups": batch.windows(events, batch.Windows(groups, 7 * minute)),
            f"{none}totals": batch.totals(events, batch.Totals()),
            f"{none}totals of groups": batch.totals(events, batch.Totals(groups)),
            f"{none}anomalies": batch.anomalies(events, batch.Anomalies([], 2.0, ["body"])),
            f"{none}anomalies of groups": batch.anomalies(events, batch.Anomalies(groups, 1.5, ["body", "key"])),
            f"{none}join": batch.join(few, events, batch.Join(["body"], ["body"])),
            f"{none}join within": batch.join(few, events, batch.Join(["body"], ["body"], 90 * minute)),
            f"{none}accesses": batch.windows(of_accesses, batch.Windows(["g0", "g1", "g2"], 1440 * minute)),
            f"{none}hours": batch.hours(accesses),
        }
    return found


def results(name: EngineName, spark: Spark, files: dict[str, Path], folder: Path) -> Rows:
    found: Rows = {}
    with opened(name, spark, folder) as engine:
        for number, (operation, expression) in enumerate(asked(engine, files).items()):
            run(engine, expression, folder / str(number), lambda: None)
            found[operation] = [row for rows in rows_of(folder / str(number), 1000) for row in rows]
    return found


@pytest.fixture(scope="module")
def by_duckdb(files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Rows:
    return results(EngineName.DUCKDB, Spark(""), files, tmp_path_factory.mktemp("duckdb"))


def test_windows_are_what_plain_python_makes_of_them(by_duckdb: Rows, files: dict[str, Path]):
    expected: dict[int, list[float | None]] = {}
    table = pq.read_table(files["events"])
    for ts, value in zip(
        table.column("ts").cast(pa.int64()).to_pylist(), table.column("value").to_pylist(), strict=True
    ):
        if ts is not None:
            expected.setdefault(ts // 3_600_000_000 * 3_600_000_000, []).append(value)
    found = by_duckdb["windows"]
    assert [row["window_start"] for row in found] == sorted(expected)
    for row in found:
        values = [value for value in expected[row["window_start"]] if value is not None]
        assert (row["count"], row["values"]) == (len(expected[row["window_start"]]), len(values))
        assert row["min"] == min(values, default=None)
        assert math.isclose(row["sum"], math.fsum(values), rel_tol=1e-9, abs_tol=1e-6)


def test_a_running_operation_is_stopped(files: dict[str, Path], tmp_path: Path):
    began = time.monotonic()

    def check() -> None:
        if time.monotonic() - began > 0.2:
            raise Cancelled

    with opened(EngineName.DUCKDB, Spark(""), tmp_path) as engine:
        events = engine.read([files["events"]])
        same = events.mutate(key=ibis.literal("x"))
        with pytest.raises(Cancelled):
            run(engine, batch.join(batch_of(same, same), same, batch.Join([], [])), tmp_path / "out", check)
    assert time.monotonic() - began < 20
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("engine")]


def batch_of(left: Table, right: Table) -> Table:
    """Each pair of rows as an event: nine million, so that the join of them takes as long as it may."""
    pairs = left.select(row=left.row, ts=left.ts, key=left.key).cross_join(right.select(other=right.row))
    return pairs.select("row", "ts", "key")


@pytest.mark.needs("Spark")
def test_spark_tells_the_same(by_duckdb: Rows, files: dict[str, Path], tmp_path: Path, configure: Any):
    configure(spark_master="local[2]")
    spark = engines.spark()
    assert spark.problem is None
    by_spark = results(EngineName.SPARK, spark, files, tmp_path)
    assert by_spark.keys() == by_duckdb.keys()
    for operation, rows in by_duckdb.items():
        assert len(by_spark[operation]) == len(rows), operation
        assert "no_" in operation or rows, operation
        for mine, theirs in zip(rows, by_spark[operation], strict=True):
            assert list(mine) == list(theirs), operation
            assert all(same(mine[name], theirs[name]) for name in mine), (operation, mine, theirs)


def same(one: Any, other: Any) -> bool:
    """Sums of floats depend on their order by some units in the last place of the largest."""
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-5)
    return bool(one == other) and type(one) is type(other)
