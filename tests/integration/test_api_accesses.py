"""Ingest over HTTP: committed before the reply, each line counted once, every wrong line named, limits kept."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import func, select

from app.db.session import session_scope
from app.db.tables import Access, Object
from app.domain.roles import Role
from tests.integration.conftest import Api

NOW = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)


def line(**changes: Any) -> dict[str, Any]:
    return {"ts": NOW.isoformat(), "key": "logs/app.log", "op": "GET", "bytes": 10} | changes


def send(api: Api, lines: list[dict[str, Any]] | bytes, path: str = "/v1/accesses", **options: Any):
    body = lines if isinstance(lines, bytes) else b"\n".join(json.dumps(entry).encode() for entry in lines)
    options.setdefault("content_type", "application/x-ndjson")
    return api.post(path, role=Role.OPERATOR, data=body, **options)


def stored() -> int:
    with session_scope() as session:
        return session.scalar(select(func.count()).select_from(Access)) or 0


def test_lines_are_taken_as_ndjson_array_and_gzip(api: Api):
    lines = [line(key=f"k{n}", region="eu", client="c", status=200, partial_upload=True) for n in range(3)]
    none = {"accepted": 3, "duplicates": 0, "rejected": 0, "errors": []}
    assert send(api, lines).json == none
    assert send(api, json.dumps(lines).encode(), content_type="application/json").json == none
    packed = gzip.compress(b"\n".join(json.dumps(entry).encode() for entry in lines))
    assert send(api, packed, headers={"Content-Encoding": "gzip"}).json == none
    assert send(api, b"").json == none | {"accepted": 0}
    assert stored() == 9
    with session_scope() as session:
        row = session.scalars(select(Access)).first()
        assert (row.op, row.bytes, row.region, row.client, row.status) == ("GET", 10, "eu", "c", 200)
        assert row.ts == NOW
        assert row.partial_upload


def test_duplicates_count_once(api: Api):
    twice = [line(event_id="a"), line(event_id="a"), line(event_id="a", ts=(NOW + timedelta(1 / 86400)).isoformat())]
    first = send(api, [*twice, line(), line()]).json
    assert (first["accepted"], first["duplicates"]) == (4, 1)
    again = send(api, [*twice, line()]).json
    assert (again["accepted"], again["duplicates"]) == (1, 3)


WRONG = {
    "a naive time": ({"ts": "2026-01-01T00:00:00"}, "/ts", "no zone"),
    "no time": ({"ts": None}, "/ts", "datetime"),
    "a time in the future": ({"ts": (datetime.now(UTC) + timedelta(hours=2)).isoformat()}, "/ts", "future"),
    "before the retention": ({"ts": (datetime.now(UTC) - timedelta(days=400)).isoformat()}, "/ts", "too_old"),
    "a negative size": ({"bytes": -1}, "/bytes", ">= 0"),
    "a size that no object has": ({"bytes": 2**46 + 1}, "/bytes", "<= 70368744177664"),
    "a key of 1,025 bytes": ({"key": "é" * 512 + "a"}, "/key", "1024 bytes"),
    "an empty key": ({"key": ""}, "/key", "length >= 1"),
    "NUL": ({"key": "a\x00b"}, "/key", "NUL"),
    "NUL in a region": ({"region": "a\x00b"}, "/region", "NUL"),
    "an unknown site": ({"site": "nowhere"}, "/site", "no site nowhere"),
    "an unknown operation": ({"op": "POST"}, "/op", "POST"),
    "an unknown field": ({"size": 1}, "/size", "unknown field"),
}


def test_each_wrong_line_is_named_and_the_others_are_taken(api: Api):
    lines = [entry for changes, _, _ in WRONG.values() for entry in (line(), line(**changes))]
    answer = send(api, lines)
    assert answer.status_code == 200
    assert (answer.json["accepted"], answer.json["rejected"]) == (len(WRONG), len(WRONG))
    assert stored() == len(WRONG)
    errors = {error["line"]: error for error in answer.json["errors"]}
    for number, (name, (_, pointer, words)) in enumerate(WRONG.items(), 1):
        error = errors[2 * number]
        assert error["pointer"] == pointer, name
        assert words in error["detail"], name


def test_a_truncated_line_loses_no_other(api: Api):
    body = json.dumps(line()).encode()
    answer = send(api, body + b"\n\n" + body[:-5] + b"\n" + body + b"\n" + b"\xff\n").json
    assert answer["accepted"] == 2
    assert [error["line"] for error in answer["errors"]] == [3, 5]
    broken = send(api, b"[" + body + b",", content_type="application/json").json
    assert (broken["accepted"], broken["rejected"]) == (0, 1)


def test_a_key_of_1024_bytes_is_taken(api: Api):
    assert send(api, [line(key="é" * 512)]).json["accepted"] == 1


def test_strict_takes_all_or_nothing(api: Api):
    refused = send(api, [line(), line(bytes=-1)], "/v1/accesses?strict=true")
    assert refused.status_code == 422
    assert refused.json["errors"][0]["pointer"] == "/1/bytes"
    assert stored() == 0
    assert send(api, [line()], "/v1/accesses?strict=true").json["accepted"] == 1


def test_limits(make_api: Callable[..., Api]):
    api = make_api(ingest_max_lines=3, ingest_max_bytes=1000)
    assert send(api, [line()] * 3).status_code == 200
    assert send(api, [line()] * 4).status_code == 413
    assert send(api, json.dumps([line()] * 4).encode(), content_type="application/json").status_code == 413
    assert send(api, b" " * 1001).status_code == 413
    bomb = gzip.compress(b" " * 10**7)
    assert len(bomb) > 1000 or send(api, bomb, headers={"Content-Encoding": "gzip"}).status_code == 413
    small_bomb = gzip.compress(b"\n" * 100_000)
    assert len(small_bomb) < 1000
    assert send(api, small_bomb, headers={"Content-Encoding": "gzip"}).status_code == 413
    assert send(api, gzip.compress(b"{}")[:-4], headers={"Content-Encoding": "gzip"}).status_code == 400
    assert send(api, b"{}", headers={"Content-Encoding": "br"}).status_code == 415
    assert send(api, b"{}", content_type="text/csv").status_code == 415
    assert stored() == 3


def test_parallel_blocks_of_the_same_new_keys_are_all_taken(api: Api):
    """New objects, new days and duplicates meet from several threads at once."""
    days = [NOW - timedelta(days=day) for day in range(5)]
    lines = [line(key=f"k{n % 50}", ts=days[n % 5].isoformat(), event_id=f"e{n}") for n in range(500)]
    answers: list[dict[str, Any]] = []
    threads = [threading.Thread(target=lambda: answers.append(send(api, lines).json)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(answer["accepted"] for answer in answers) == 500
    assert sum(answer["duplicates"] for answer in answers) == 2500
    with session_scope() as session:
        assert session.scalar(select(func.count()).select_from(Object)) == 50
