"""Batch operations through HTTP and a worker's task: what each means, what is refused, pages, cancelling, accesses."""

from __future__ import annotations

import gzip
import json
import math
import statistics
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from sqlalchemy import text

from app.db import access_days, accesses, batch_counts, ingest, observations, watch
from app.db.session import session_scope
from app.domain.accesses import Block
from app.domain.roles import Role
from ml.features import NAMES, snapshot
from tests.integration.conftest import Api
from tests.learning import fill
from workers.batch import run_batch

DAY = "2026-01-01T00:00:00Z"
NOON = datetime(2026, 3, 29, 12, tzinfo=UTC)


def answer(api: Api, document: Any, *, path: str = "/v1/batch", **options: Any) -> tuple[dict[str, Any], list[Any]]:
    """The job's result and all lines, run as a worker does."""
    started = api.post(path, document, role=Role.OPERATOR, **options)
    assert started.status_code == 202, started.json
    assert started.headers["Location"] == f"/v1/jobs/{started.json['id']}"
    return finished(api, started.json["id"])


def finished(api: Api, job_id: int) -> tuple[dict[str, Any], list[Any]]:
    run_batch(job_id)
    job = api.get(f"/v1/jobs/{job_id}").json
    assert job["state"] == "succeeded", job
    lines: list[Any] = []
    for number in range(1, job["result"]["pages"] + 1):
        page = api.get(f"/v1/batch/{job_id}/pages/{number}", role=Role.VIEWER)
        assert page.content_type == "application/x-ndjson"
        lines += [json.loads(line) for line in gzip.decompress(page.data).splitlines()]
    assert len(lines) == job["result"]["lines"]
    return job["result"], lines


def at(minutes: float) -> str:
    return (NOON + timedelta(minutes=minutes)).isoformat()


def test_windows_are_of_sixty_minutes_unless_told(api: Api):
    values = [3.0, 4.0, 8.0]
    events = [{"timestamp": at(n), "value": value, "service": "é"} for n, value in enumerate(values)]
    events += [{"timestamp": at(60), "value": 1}, {"timestamp": at(59.999), "value": None, "service": "é"}]
    result, lines = answer(api, {"operation": "time_window_metrics", "events": events})
    assert result["engine"] == "duckdb"
    assert result["why"] == "FORETIDE_SPARK_MASTER is not set"
    assert [line["window_start"] for line in lines] == ["2026-03-29T12:00:00Z", "2026-03-29T13:00:00Z"]
    first = lines[0]
    assert first["window_end"] == "2026-03-29T13:00:00Z"
    assert (first["count"], first["values"], first["sum"], first["min"], first["max"]) == (4, 3, 15.0, 3.0, 8.0)
    assert math.isclose(first["mean"], 5.0)
    assert math.isclose(first["stddev"], statistics.pstdev(values))
    assert lines[1]["stddev"] == 0
    more = {"window_minutes": 7, "group_by": ["service"]}
    _, grouped = answer(api, {"operation": "time_window_metrics", "events": events, **more})
    assert [line["group"]["service"] for line in grouped] == ["é", None, "é"]
    assert grouped[1]["window_start"] == "2026-03-29T12:56:00Z"  # a multiple of seven minutes since 1970


def test_events_are_summed_up_by_their_type(api: Api):
    events = [{"type": "a", "value": 1}, {"type": "a", "value": 3, "ts": 5}, {"type": "b"}, {"value": 2}, 7]
    result, lines = answer(api, {"operation": "process_events", "events": events})
    assert [line["group"]["type"] for line in lines] == [None, "a", "b"]
    assert lines[1] | {"stddev": 0} == {
        "group": {"type": "a"}, "count": 2, "values": 2, "sum": 4.0, "mean": 2.0, "min": 1.0, "max": 3.0, "stddev": 0,
        "first": "1970-01-01T00:00:05Z", "last": "1970-01-01T00:00:05Z",
    }  # fmt: skip
    assert (lines[2]["count"], lines[2]["values"], lines[2]["mean"]) == (1, 0, None)
    assert (result["events"], result["left_out"]) == (5, 1)
    assert result["errors"] == [{"pointer": "/events/4", "detail": "is no JSON object"}]
    _, lines = answer(api, {"operation": "process_events", "events": []})
    assert lines == []


def test_anomalies_lie_beyond_two_deviations_unless_told(api: Api):
    events = [{"value": value, "id": n} for n, value in enumerate([10.0] * 10 + [11.0] * 10 + [50.0, None])]
    _, lines = answer(api, {"operation": "detect_anomalies", "events": events})
    values = [event["value"] for event in events[:-1]]
    z = (50 - statistics.mean(values)) / statistics.pstdev(values)
    assert [line["event"]["id"] for line in lines] == [20]
    assert math.isclose(lines[0]["z"], z)
    assert answer(api, {"operation": "detect_anomalies", "events": events, "threshold": z + 0.01})[1] == []
    flat = [{"value": 5, "g": "flat"}] * 5 + [{"value": 9, "g": "alone"}]
    assert answer(api, {"operation": "detect_anomalies", "events": flat, "group_by": ["g"], "threshold": 0.1})[1] == []


def test_streams_are_joined_by_key(api: Api):
    left = [{"user": "a", "ts": at(0), "n": 1}, {"user": 1, "ts": at(1), "n": 2}, {"ts": at(0), "n": 3}]
    right = [{"user": "1", "ts": at(9), "m": 1}, {"user": "a", "m": 2}, {"user": "1", "ts": at(1.5), "m": 3}]
    asked = {"operation": "join_streams", "key": "user", "events": left, "other": {"events": right}}
    _, lines = answer(api, asked)
    assert [(line["left"]["n"], line["right"]["m"], line["seconds_apart"]) for line in lines] == [
        (1, 2, None), (2, 3, 30.0), (2, 1, 480.0),
    ]  # fmt: skip
    assert lines[1]["left"] == left[1]  # as it was sent
    _, near = answer(api, {**asked, "within_seconds": 30})
    assert [(line["left"]["n"], line["right"]["m"]) for line in near] == [(2, 3)]
    packed = gzip.compress(b"\n".join(json.dumps(event).encode() for event in left + right))
    headers = {"Content-Type": "application/x-ndjson", "Content-Encoding": "gzip"}
    _, same = answer(api, None, path="/v1/batch?operation=join_streams&key=user&left=3", data=packed, headers=headers)
    assert same == lines


@pytest.mark.parametrize(
    ("document", "pointer"),
    [
        ({"operation": "guess", "events": []}, "/operation"),
        ({"operation": "process_events"}, "/events"),
        ({"operation": "process_events", "events": [], "window_minutes": 5}, "/window_minutes"),
        ({"operation": "time_window_metrics", "events": [], "window_minutes": 0}, "/window_minutes"),
        ({"operation": "detect_anomalies", "events": [], "threshold": 0}, "/threshold"),
        ({"operation": "join_streams", "events": [], "key": "a"}, "/other"),
        ({"operation": "join_streams", "events": [], "other": {"events": []}}, "/key"),
        ({"operation": "process_events", "events": [], "other": {"events": []}}, "/other"),
        (
            {
                "operation": "join_streams",
                "accesses": {"since": DAY, "until": "2026-01-02T00:00:00Z"},
                "other": {"events": []},
            },
            "/other/key",
        ),
        ({"operation": "extract_features", "events": []}, "/accesses"),
        (
            {
                "operation": "process_events",
                "accesses": {"since": "2026-01-02T00:00:00Z", "until": DAY},
            },
            "/accesses/until",
        ),
        (
            {
                "operation": "process_events",
                "accesses": {"since": "2026-01-01T00:00:00", "until": DAY},
            },
            "/accesses/since",
        ),
        (
            {
                "operation": "extract_features",
                "accesses": {"since": DAY, "until": "2026-01-02T00:30:00Z"},
            },
            "/accesses/until",
        ),
        (
            {
                "operation": "process_events",
                "group_by": ["colour"],
                "accesses": {"since": DAY, "until": "2026-01-02T00:00:00Z"},
            },
            "/group_by",
        ),
    ],
)
def test_what_cannot_be_asked_is_refused(api: Api, document: dict[str, Any], pointer: str):
    refused = api.post("/v1/batch", document, role=Role.OPERATOR)
    assert refused.status_code == 422, refused.json
    assert refused.json["errors"][0]["pointer"] == pointer


def test_work_is_started_by_operators_and_once_a_key(api: Api):
    document = {"operation": "process_events", "events": [{"value": 1}]}
    assert api.post("/v1/batch", document, role=Role.VIEWER).status_code == 403
    headers = {"Idempotency-Key": "one"}
    first, again = (api.post("/v1/batch", document, headers=headers) for _ in range(2))
    assert first.json["id"] == again.json["id"]
    other = api.post("/v1/batch", {**document, "events": [{"value": 2}]}, headers=headers)
    assert other.status_code == 422
    assert api.get(f"/v1/batch/{first.json['id']}/pages/1").status_code == 404


def test_an_engine_that_cannot_run_is_refused_or_replaced_aloud(make_api: Callable[..., Api]):
    api = make_api(spark_master="local[1]", java_home="")
    document = {"operation": "process_events", "events": [{"value": 1}]}
    told = api.get("/v1/batch/engine", role=Role.VIEWER).json
    if told["spark"]["problem"] is None:
        pytest.fail("Spark runs here: this test is for where it does not")
    assert (told["engine"], told["falls_back"]) == ("duckdb", True)
    refused = api.post("/v1/batch", {**document, "engine": "spark"})
    assert (refused.status_code, refused.json["reason"]) == (409, "spark_cannot_run")
    result, _ = answer(api, document)
    assert result["engine"] == "duckdb"
    assert told["spark"]["problem"] in result["why"]
    (alert,) = api.get("/v1/alerts").json["items"]
    assert alert["kind"] == "spark_cannot_run"
    status = api.get("/pipeline/spark/status").json
    assert (status["status"], status["mode"]) == ("active_fallback_mode", "local")


@pytest.mark.needs("Spark")
def test_spark_runs_where_a_master_is_set_and_its_java_ends_with_the_job(make_api: Callable[..., Api]):
    api = make_api(spark_master="local[2]")
    told = api.get("/v1/batch/engine", role=Role.VIEWER).json
    assert (told["engine"], told["spark"]["problem"]) == ("spark", None)
    events = [{"timestamp": at(n), "value": n, "service": "é"} for n in range(100)]
    document = {"operation": "time_window_metrics", "events": events, "group_by": ["service"]}
    result, lines = answer(api, document)
    assert (result["engine"], result["why"]) == ("spark", "FORETIDE_SPARK_MASTER is local[2]")
    by_duckdb, same = answer(api, {**document, "engine": "duckdb"})
    assert by_duckdb["why"] == "it was asked for"
    assert [line | {"stddev": 0} for line in lines] == [line | {"stddev": 0} for line in same]
    assert not [child for child in psutil.Process().children(recursive=True) if "java" in child.name()]
    assert api.get("/pipeline/spark/status").json["status"] == "active"
    assert answer(api, {**document, "operation": "process_events"})[0]["engine"] == "spark"  # a second session


def test_a_folder_that_is_not_there_is_named(make_api: Callable[..., Api], tmp_path: Path):
    api = make_api(batch_dir=tmp_path / "missing")
    job_id = api.post("/v1/batch", {"operation": "process_events", "events": []}).json["id"]
    run_batch(job_id)
    job = api.get(f"/v1/jobs/{job_id}").json
    assert (job["state"], job["problem"]["type"]) == ("failed", "settings")


def test_source_routes(api: Api):
    body = {"events": [{"timestamp": at(0), "value": 2}], "operation": "time_window_metrics", "window_minutes": 60}
    _, lines = answer(api, body, path="/pipeline/spark/process")
    assert lines[0]["mean"] == 2.0
    body = {"events": [{"id": 1}], "right_events": [{"id": 1}], "join_key": "id", "operation": "join_streams"}
    assert len(answer(api, body, path="/pipeline/spark/process")[1]) == 1
    useless = api.post("/pipeline/spark/process", {"events": [], "operation": "process_events", "threshold_std": 3.0})
    assert [error["pointer"] for error in useless.json["errors"]] == ["/threshold_std"]
    refused = api.post("/pipeline/spark/process", {"events": [], "operation": "join_streams"})
    assert [error["pointer"] for error in refused.json["errors"]] == ["/right_events"]
    status = api.get("/pipeline/spark/status", role=Role.VIEWER).json
    assert status | {"why": ""} == {
        "status": "active_fallback_mode", "mode": "local", "events_processed": 3, "engine": "duckdb", "why": "",
    }  # fmt: skip
    shown = api.get("/metrics").text
    assert 'foretide_batch_runs_total{engine="duckdb",operation="time_window_metrics",result="succeeded"} 1.0' in shown
    assert "foretide_batch_events_total 3.0" in shown


def test_failures_are_counted_and_cancelled_work_ends(api: Api, monkeypatch: pytest.MonkeyPatch):
    left = [{"k": "a"}] * 1100
    document = {"operation": "join_streams", "key": "k", "events": left, "other": {"events": left}}
    started = api.post("/v1/batch", document).json
    run_batch(started["id"])
    job = api.get(f"/v1/jobs/{started['id']}").json
    assert (job["state"], job["problem"]["type"]) == ("failed", "too-large")
    with session_scope() as session:
        (failed,) = batch_counts.counts(watch.totals(session).counters)
    assert (failed.operation, failed.ended, failed.runs) == ("join_streams", "failed", 1)
    started = api.post("/v1/batch", document).json
    api.post(f"/v1/jobs/{started['id']}:cancel")
    run_batch(started["id"])
    assert api.get(f"/v1/jobs/{started['id']}").json["state"] == "cancelled"


# -- accesses ---------------------------------------------------------------------------------------------------------


def ingest_accesses(*lines: tuple[datetime, str, str, int, int | None]) -> None:
    n = len(lines)
    block = Block(
        ts=[accesses.microseconds(line[0]) for line in lines],
        key=[line[1] for line in lines],
        op=[line[2] for line in lines],
        site_id=[None] * n,
        bytes_read=[line[3] for line in lines],
        status=[line[4] for line in lines],
        event_id=[None] * n,
        region=["", *[None] * (n - 1)],
        client=['a "b",\n\\N', *[None] * (n - 1)],
        partial_upload=[False] * n,
    )
    with session_scope() as session:
        ingest.copy_block(session, block)
        accesses.roll_up(session)


def test_accesses_of_a_span_are_summed_up(api: Api):
    day = NOON.replace(hour=0)
    ingest_accesses(
        (day, "é/a", "GET", 5, 200),
        (day + timedelta(hours=23), "é/a", "PUT", 7, None),
        (day + timedelta(hours=25), "é/b", "GET", 11, 404),
        (day + timedelta(hours=26), "other", "GET", 13, 200),
        (day + timedelta(hours=49), "é/a", "GET", 17, 200),
    )
    span = {"since": day.isoformat(), "until": (day + timedelta(hours=49)).isoformat()}
    result, lines = answer(api, {"operation": "process_events", "accesses": span})
    assert [(line["group"]["op"], line["count"], line["sum"]) for line in lines] == [("GET", 3, 29.0), ("PUT", 1, 7.0)]
    assert result["days"] == {"database": 3, "exported": 0, "none": 0}
    span |= {"prefix": "é/", "since": (day + timedelta(microseconds=1)).isoformat()}
    grouped = {"operation": "time_window_metrics", "accesses": span, "window_minutes": 1440, "group_by": ["status"]}
    _, lines = answer(api, grouped)
    assert [(line["window_start"][:10], line["group"]["status"], line["sum"]) for line in lines] == [
        ("2026-03-29", None, 7.0), ("2026-03-30", "404", 11.0),
    ]  # fmt: skip
    whole = {"since": day.isoformat(), "until": (day + timedelta(hours=1)).isoformat()}
    document = {
        "operation": "join_streams", "accesses": whole, "other": {"events": [{"path": "é/a"}], "key": "path"},
    }  # fmt: skip
    (pair,) = answer(api, document)[1]
    assert pair["left"]["client"] == 'a "b",\n\\N'
    assert pair["left"]["region"] == ""
    assert pair["left"] | {"client": "", "region": ""} == {
        "ts": "2026-03-29T00:00:00Z", "key": "é/a", "op": "GET", "site": None, "bytes": 5, "status": 200, "region": "",
        "client": "", "event_id": None, "partial_upload": False,
    }  # fmt: skip
    nothing = {"since": "2025-01-01T00:00:00Z", "until": "2025-01-03T00:00:00Z"}
    result, lines = answer(api, {"operation": "process_events", "accesses": nothing})
    assert (lines, result["days"]) == ([], {"database": 0, "exported": 0, "none": 2})


def test_features_are_those_that_models_see(api: Api):
    until = datetime(2026, 11, 20, 12, tzinfo=UTC)
    fill(30, until=until)
    with session_scope() as session:
        while accesses.roll_up(session).batches:
            pass
    with session_scope() as session:
        since = access_days.first_known(session)
        observed = observations.observe_hours(session, until)
        keys = {row.id: row.key for row in session.execute(text("select id, key from object"))}
    expected = snapshot(observed.history, observed.catalogue, accesses.microseconds(until))
    assert since is not None
    span = {"since": since.isoformat(), "until": until.isoformat()}
    result, lines = answer(api, {"operation": "extract_features", "accesses": span})
    found = {line["key"]: [line["features"][name] for name in NAMES] for line in lines}
    assert result["lines"] == len(keys) > 20
    assert lines[0]["as_of"] == "2026-11-20T12:00:00Z"
    wanted = {keys[number]: row for number, row in zip(observed.ids.tolist(), expected, strict=True)}
    for key, row in found.items():
        assert np.allclose(row, wanted[key], rtol=1e-6), key


# -- topics -----------------------------------------------------------------------------------------------------------


def test_events_of_a_topic_are_joined_with_accesses(api: Api):
    for number in range(3):
        assert api.post("/v1/events/user", [{"path": f"é{number}", "value": number}] * 2).status_code < 300
    result, lines = answer(api, {"operation": "process_events", "topic": {"name": "user"}, "group_by": ["path"]})
    assert [(line["group"]["path"], line["count"], line["sum"]) for line in lines] == [
        ("é0", 2, 0.0), ("é1", 2, 2.0), ("é2", 2, 4.0),
    ]  # fmt: skip
    assert result["events"] == 6
    later = {"name": "user", "since": "2100-01-01T00:00:00Z"}
    assert answer(api, {"operation": "process_events", "topic": later})[1] == []
    ingest_accesses((NOON, "é2", "GET", 1, 200))
    span = {"since": at(0), "until": at(1)}
    joined = {"operation": "join_streams", "topic": {"name": "user"}, "key": "path"}
    _, lines = answer(api, {**joined, "other": {"accesses": span, "key": "key"}})
    assert [(line["left"]["value"], line["right"]["bytes"]) for line in lines] == [(2, 1), (2, 1)]
    both = api.post("/v1/batch", {"operation": "process_events", "topic": {"name": "user"}, "events": []})
    assert both.json["errors"][0]["pointer"] == "/events"
