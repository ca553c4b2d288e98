"""What batch operations may be asked, which engine is chosen and why, and how events become columns."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from app.domain.batch import Choice, EngineName, Operation, Recipe, Span, Spark, choose
from app.errors import Conflict, Invalid
from ml.batch_rows import Reader

HERE = {"pyspark": "4.3.0", "pandas": "2.3.3", "java": 17}


def columns(reader: Reader, *events: Any) -> dict[str, list[Any]]:
    return reader.columns(events, [json.dumps(event).encode() for event in events])


def test_a_recipe_is_stored_and_read_back():
    recipe = Recipe.of({"operation": "time_window_metrics", "group_by": ["a", "b"], "window_minutes": 5, "value": None})
    assert recipe == Recipe(Operation.TIME_WINDOW_METRICS, group_by=("a", "b"), window_minutes=5)
    assert Recipe.of(recipe.as_json()) == recipe
    assert "threshold" not in recipe.as_json()
    assert Recipe.of({"operation": "process_events"}).groups(("type",)) == ("type",)
    assert Recipe.of({"operation": "process_events", "group_by": []}).groups(("type",)) == ()
    assert Recipe.of({"operation": "detect_anomalies"}).groups(("type",)) == ()
    span = Span(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 2, tzinfo=UTC), "é/")
    assert Span.of(span.as_json()) == span


def test_a_parameter_that_the_operation_does_not_read_is_refused():
    with pytest.raises(Invalid) as refused:
        Recipe.of({"operation": "join_streams", "window_minutes": 5, "threshold": 1.0, "key": "a"})
    assert [error.pointer for error in refused.value.errors] == ["/window_minutes", "/threshold"]
    with pytest.raises(Invalid) as refused:
        Recipe(Operation.PROCESS_EVENTS, value="size", group_by=("op", "type"), time="at").check_for_accesses()
    assert [error.pointer for error in refused.value.errors] == ["/group_by", "/value", "/time"]


@pytest.mark.parametrize(
    ("there", "said"),
    [
        ({}, "PySpark is not installed"),
        ({**HERE, "pyspark": "3.5.1"}, "PySpark 3.5.1"),
        ({**HERE, "pandas": "3.1.1"}, "pandas 3.1.1 is too new"),
        ({**HERE, "java": None}, "there is no Java"),
        ({**HERE, "java": 11}, "Java 11 is too old"),
    ],
)
def test_why_spark_cannot_run_is_said(there: dict[str, Any], said: str):
    spark = Spark("local[2]", **there)
    assert said in (spark.problem or "")
    choice = choose(None, spark)
    assert (choice.engine, choice.falls_back) == (EngineName.DUCKDB, True)
    assert said in choice.why
    with pytest.raises(Conflict, match=said):
        choose(EngineName.SPARK, spark)
    assert choose(EngineName.DUCKDB, spark) == Choice(EngineName.DUCKDB, "it was asked for")


def test_spark_is_chosen_where_a_master_is_set_and_it_can_run():
    assert choose(None, Spark("")) == Choice(EngineName.DUCKDB, "FORETIDE_SPARK_MASTER is not set")
    assert choose(None, Spark("local[2]", **HERE)).engine is EngineName.SPARK
    assert choose(EngineName.SPARK, Spark("local[2]", **HERE)).engine is EngineName.SPARK
    assert "FORETIDE_BATCH_DIR" in (Spark("spark://a:7077", **HERE).problem or "")
    assert Spark("spark://a:7077", **HERE, has_shared_folder=True).problem is None


def test_events_become_columns():
    reader = Reader(value="v", key="k", groups=("g", "h"), keeps_body=True)
    found = columns(
        reader,
        {"timestamp": "2026-03-29T01:59:59.999999+01:00", "v": "1.5", "k": "é", "g": 1, "h": True},
        {"ts": 1.25, "v": True, "k": 1, "g": "1", "h": None, "more": [1]},
        {},
    )
    assert found["row"] == [0, 1, 2]
    assert found["ts"] == [1774745999999999, 1250000, None]
    assert found["value"] == [1.5, 1.0, None]
    assert found["key"] == ["é", "1", None]
    assert found["g0"] == ["1", "1", None]
    assert found["g1"] == ["true", None, None]
    assert json.loads(found["body"][1])["more"] == [1]
    assert reader.left_out == 0


def test_events_that_are_no_good_are_left_out_and_named():
    reader = Reader(time="at", value="v", groups=("a/b",), needs_time=True, first=10)
    found = columns(
        reader,
        {"at": "2026-11-01T00:00:00", "v": 1},
        {"at": 1},
        [],
        {"at": 1, "v": {}},
        {"at": 1, "a/b": [1]},
        {"v": 1},
        {"at": 1, "v": 1e40},
    )
    assert found["row"] == [1]
    assert (reader.count, reader.left_out) == (7, 6)
    pointers = [error.pointer.removeprefix("/events/") for error in reader.errors]
    assert pointers == ["10/at", "12", "13/v", "14/a~1b", "15/at", "16/v"]
