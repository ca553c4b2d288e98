"""Metrics over HTTP: samples taken and refused by line, windows, groups, tops, resets; source 003's routes."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from app.domain.roles import Role
from tests.integration.conftest import Api

LINE = {"name": "latency", "value": 1.5}


def send(api: Api, lines: list[Any] | bytes, path: str = "/v1/metrics", **options: Any):
    body = lines if isinstance(lines, bytes) else b"\n".join(json.dumps(line).encode() for line in lines)
    options.setdefault("content_type", "application/x-ndjson")
    return api.post(path, role=Role.OPERATOR, data=body, **options)


def ago(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()


def test_samples_are_taken_as_one_array_lines_and_gzip(api: Api):
    none = {"accepted": 2, "rejected": 0, "errors": []}
    lines = [LINE, LINE | {"group": "a", "item": "i", "ts": ago(5)}]
    assert send(api, lines).json == none
    assert send(api, json.dumps(lines).encode(), content_type="application/json").json == none
    packed = gzip.compress(b"\n".join(json.dumps(line).encode() for line in lines))
    assert send(api, packed, headers={"Content-Encoding": "gzip"}).json == none
    for indent in (None, 2):
        one = json.dumps(LINE, indent=indent).encode()
        assert send(api, one, content_type="application/json").json == none | {"accepted": 1}
    assert send(api, b"").json == none | {"accepted": 0}
    assert send(api, b"[]").json == none | {"accepted": 0}
    assert api.get("/v1/metrics/latency").json["count"] == 8
    assert send(api, b"a", content_type="text/csv").status_code == 415


WRONG = {
    "no value": ({"value": None}, "/value", "float"),
    "a text": ({"value": "1"}, "/value", "float"),
    "a truth": ({"value": True}, "/value", "float"),
    "a huge number": ({"value": 10**200}, "/value", "1e+140"),
    "a name that is none": ({"name": "a b"}, "/name", "letters"),
    "no name": ({"name": None}, "/name", "str"),
    "an empty group": ({"group": ""}, "/group", "length >= 1"),
    "a long group": ({"group": "g" * 257}, "/group", "length <= 256"),
    "NUL": ({"item": "a\x00"}, "/item", "character"),
    "a naive time": ({"ts": "2026-01-01T00:00:00"}, "/ts", "no zone"),
    "no time": ({"ts": "yesterday"}, "/ts", "RFC3339"),
    "a number as time": ({"ts": 5}, "/ts", "str"),
    "a word that numpy reads": ({"ts": "nowZ"}, "/ts", "RFC3339"),
    "late": ({"ts": "2020-01-01T00:00:00Z"}, "/ts", "too_late"),
    "future": ({"ts": "2200-01-01T00:00:00Z"}, "/ts", "future"),
    "a weight below 0": ({"value": -1, "item": "i"}, "/value", "weight"),
    "an unknown field": ({"unit": "ms"}, "/unit", "unknown field"),
}


def test_each_wrong_line_is_named_and_the_others_are_taken(api: Api):
    lines = [entry for changes, _, _ in WRONG.values() for entry in (LINE, LINE | changes)]
    body = b"\n".join(json.dumps(entry).encode() for entry in lines)
    for nan in (b"NaN", b"1e999", b"1" * 5000):
        body += b"\n" + json.dumps(LINE).encode() + b'\n{"name": "latency", "value": ' + nan + b"}"
    for sent in (body, b"[" + b",".join(body.split(b"\n")[: 2 * len(WRONG)]) + b"]"):
        answer = send(api, sent)
        assert answer.status_code == 200
        errors = {error["line"]: error for error in answer.json["errors"]}
        assert sorted(errors) == list(range(2, 2 * answer.json["accepted"] + 1, 2))
        for number, (name, (_, pointer, words)) in enumerate(WRONG.items(), 1):
            assert errors[2 * number]["pointer"] == pointer, name
            assert words in errors[2 * number]["detail"], name
    strict = send(api, [LINE, LINE | {"value": None}], "/v1/metrics?strict=true")
    assert strict.status_code == 422
    assert strict.json["errors"][0]["pointer"] == "/1/value"
    assert api.get("/v1/metrics/latency").json["count"] == 2 * len(WRONG) + 3


def test_limits(make_api: Callable[..., Api]):
    api = make_api(ingest_max_lines=3, metric_streams=2)
    assert send(api, [LINE] * 4).status_code == 413
    assert send(api, [LINE] * 3).status_code == 200
    many = send(api, [LINE | {"group": group} for group in "abc"]).json
    assert (many["accepted"], many["rejected"]) == (1, 2)
    assert "FORETIDE_METRIC_STREAMS" in many["errors"][0]["detail"]
    assert api.get("/v1/metrics/latency?window=3601").status_code == 422
    assert api.get("/v1/metrics/none").status_code == 404
    assert api.get("/v1/metrics:top?name=none").status_code == 404
    assert send(api, [LINE], headers={"Authorization": f"Bearer {api.tokens[Role.VIEWER]}"}).status_code == 403


def test_a_block_that_is_sent_again_counts_once(api: Api):
    key = {"Idempotency-Key": "block-1"}
    first = send(api, [LINE, LINE | {"value": None}], headers=key)
    again = send(api, [LINE, LINE | {"value": None}], headers=key)
    assert first.json == again.json
    assert api.get("/v1/metrics/latency").json["count"] == 1
    assert send(api, [LINE], headers=key).status_code == 422


def test_a_window_its_groups_and_percentiles(api: Api):
    rng = np.random.default_rng(1)
    values, groups = rng.normal(100, 10, 500), [f"g{n % 7}\u202e" for n in range(500)]
    pairs = zip(values.tolist(), groups, strict=True)
    send(api, [LINE | {"value": value, "group": group, "ts": ago(100)} for value, group in pairs])
    shown = api.get("/v1/metrics/latency?group_by=group&limit=5").json
    assert shown["count"] == shown["total_events"] == 500
    assert shown["variance"] == pytest.approx(np.var(values), rel=1e-9)
    assert shown["p99"] == np.quantile(values, 0.99, method="inverted_cdf")
    assert shown["error_bound"] == {"rank": 0.0} | {name: [shown[name]] * 2 for name in ("p50", "p90", "p95", "p99")}
    assert shown["rate"] == 0
    assert datetime.fromisoformat(shown["as_of"]) - datetime.fromisoformat(shown["since"]) <= timedelta(seconds=300)
    rest = api.get("/v1/metrics/latency", query_string={"group_by": "group", "cursor": shown["next_cursor"]}).json
    both = shown["groups"] + rest["groups"]
    assert [each["group"] for each in both] == sorted(set(groups))
    assert rest["next_cursor"] is None
    for each in both:
        mine = [value for value, group in zip(values, groups, strict=True) if group == each["group"]]
        assert each["mean"] == pytest.approx(np.mean(mine), rel=1e-12)
        alone = api.get("/v1/metrics/latency", query_string={"group": each["group"]}).json
        assert {name: alone[name] for name in ("count", "p50", "max")} == {
            name: each[name] for name in ("count", "p50", "max")
        }
    assert api.get("/v1/metrics/latency?group=none").status_code == 404
    assert api.get("/v1/metrics/latency?group_by=host").status_code == 422
    assert api.get("/v1/metrics/latency?window=60").json["mean"] is None


def test_streams_are_listed_in_pages(api: Api):
    send(api, [{"name": name, "value": 1, "group": group} for name in ("a", "b") for group in ("x/y", "z", None)])
    first = api.get("/v1/metrics?limit=4").json
    rest = api.get("/v1/metrics", query_string={"limit": 4, "cursor": first["next_cursor"]}).json
    found = [(each["name"], each["group"]) for each in first["items"] + rest["items"]]
    assert found == [(name, group) for name in ("a", "b") for group in (None, "x/y", "z")]
    assert all(each["count"] == 1 for each in first["items"])
    assert api.get("/v1/metrics?cursor=x").status_code == 422


def test_what_weighs_most(api: Api):
    send(api, [LINE | {"value": n, "group": f"g{n % 20}", "item": f"i{n % 30}"} for n in range(60)])
    groups = api.get("/v1/metrics:top?name=latency").json
    assert [each["group"] for each in groups["items"]] == [f"g{n}" for n in range(19, 9, -1)]
    assert groups["items"][0]["weight"] == 19 + 39 + 59
    items = api.get("/v1/metrics:top?name=latency&by=item&k=2").json
    assert items["items"] == [{"item": "i29", "weight": 88.0}, {"item": "i28", "weight": 86.0}]
    assert groups["error_bound"] == items["error_bound"] == 0
    assert api.get("/v1/metrics:top?name=latency&k=0").status_code == 422


def test_a_metric_is_reset_and_the_audit_says_who(api: Api):
    send(api, [LINE, {"name": "other", "value": 1}])
    assert api("DELETE", "/v1/metrics/latency", role=Role.VIEWER).status_code == 403
    assert api("DELETE", "/v1/metrics/latency", role=Role.OPERATOR).status_code == 204
    assert api("DELETE", "/v1/metrics/latency").status_code == 404
    assert [each["name"] for each in api.get("/v1/metrics").json["items"]] == ["other"]
    assert api.get("/v1/audit?action=metric.reset").json["items"][0]["subject"] == "latency"


def test_numbers_for_prometheus(api: Api):
    send(api, [LINE | {"ts": ago(20)}] * 60)
    shown = api.get("/metrics").text
    assert "foretide_metric_streams 1.0" in shown
    assert "foretide_metric_samples_per_second 1.0" in shown
    assert "foretide_metric_expired_total 0.0" in shown
    assert "foretide_metric_part_bytes " in shown


def test_the_source_routes(api: Api):
    sent = {"metric_name": "latency", "value": 150.5, "group_by": "service_id"}
    assert api.post("/pipeline/aggregate", sent, role=Role.OPERATOR).json["accepted"] == 1
    assert api.post("/pipeline/aggregate", {"metric_name": "latency", "value": 100}).json["accepted"] == 1
    assert api.post("/pipeline/aggregate", {"metric_name": "cpu_usage", "value": 1}).json["accepted"] == 1
    for wrong in ({"value": "1"}, {"value": True}, {"metric_name": "a b"}, {"group_by": ""}, {"value": 10**200}):
        assert api.post("/pipeline/aggregate", sent | wrong).status_code == 422, wrong
    shown = api.get("/pipeline/stats/latency").json
    assert shown.keys() == {"stats", "total_events", "timestamp"}
    assert shown["stats"] == {"count": 2, "mean": 125.25, "min": 100, "max": 150.5, "stddev": 25.25}
    assert shown["total_events"] == 2
    every = api.get("/pipeline/all-stats").json
    assert every.keys() == {"latency", "cpu_usage"}
    assert every["latency"]["stats"] == shown["stats"]
    assert api.get("/v1/metrics/latency?group=service_id").json["mean"] == 150.5
    assert api.get("/pipeline/stats/none").status_code == 404
