"""Batches of predictions: all objects, a prefix, rows that were sent; pages; what is refused."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from app.db import batch_pages, ingest, predictions
from app.db.session import session_scope
from app.domain.roles import Role
from app.settings import Settings
from ml.features import NAMES
from tests.integration.conftest import Api
from tests.learning import NOW, by_feature, fill, job, perform, version
from workers.accesses import roll_up
from workers.control import prune
from workers.prediction_batches import PAGE, predict_batch
from workers.predictions import predict


@pytest.fixture
def api(make_api: Callable[..., Api]) -> Api:
    made = make_api()
    fill(30)
    fill(10, seed=5, prefix="late/")
    perform(roll_up)
    version(by_feature(), serve="first")
    return made


def scored(api: Api, body: dict[str, Any], **options: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The job's result and its lines, after a worker's turn."""
    started = api.post("/v1/models/tier:predict-batch", body, **options)
    assert started.status_code == 202, started.text
    number = started.json["id"]
    with session_scope() as session:
        session.execute(
            text("update job set args = args || cast(:now as jsonb) where id = :id"),
            {"now": json.dumps({"as_of": NOW.isoformat()}), "id": number},
        )
    predict_batch(number)
    done = job(number)
    assert done.state == "succeeded", done.error
    lines: list[dict[str, Any]] = []
    for page in range(1, done.result["pages"] + 1):
        reply = api.get(f"/v1/models/tier/batches/{number}/pages/{page}", role=Role.VIEWER)
        assert reply.content_type == "application/x-ndjson"
        assert reply.headers["Content-Encoding"] == "gzip"
        lines += [json.loads(line) for line in gzip.decompress(reply.data).splitlines()]
    assert len(lines) == done.result["lines"]
    return done.result, lines


def test_a_batch_says_what_the_pass_over_all_says(api: Api):
    perform(predict)
    result, lines = scored(api, {})
    assert (result["pages"], result["version"]) == (1, 1)
    with session_scope() as session:
        ids = {row.key: row.id for row in session.execute(text("select id, key from object"))}
        assert {line["key"] for line in lines} == set(ids)
        for line in lines:
            stored = predictions.of(session, ids[line["key"]])
            assert stored is not None
            assert line["p_hot"] == pytest.approx(stored.p_hot, abs=1e-6)
            assert line["tier"] == stored.tier


def test_a_prefix_is_taken_to_the_letter(api: Api):
    _, lines = scored(api, {"prefix": "late/"})
    assert 0 < len(lines) <= 10
    assert all(line["key"].startswith("late/") for line in lines)
    result, none = scored(api, {"prefix": "late%"})
    assert (none, result["pages"], result["page"]) == ([], 0, None)


def test_rows_that_were_sent_are_scored_as_one_by_one(api: Api):
    rows = [{"decayed_7d": float(number), "log_size": 3.0} for number in range(5)]
    one_by_one = api.post("/v1/models/tier:predict", {"rows": rows}).json["predictions"]
    result, lines = scored(api, {"rows": rows})
    assert [line["key"] for line in lines] == ["1", "2", "3", "4", "5"]
    assert [line["p_hot"] for line in lines] == pytest.approx([each["p_hot"] for each in one_by_one], abs=1e-6)
    assert result["page"].endswith("/pages/1")


def test_many_objects_come_in_pages(api: Api):
    with session_scope() as session:
        ingest.intern(session, [f"many/{number}" for number in range(PAGE + 5)])
    result, lines = scored(api, {"prefix": "many/"})
    assert result["pages"] == 2
    assert len({line["key"] for line in lines}) == PAGE + 5


def test_what_cannot_be_scored_is_told(api: Api):
    path = "/v1/models/tier:predict-batch"
    for body, status in [
        ({"rows": [{"moon": 1}]}, 422),
        ({"rows": []}, 422),
        ({"rows": [{"decayed_7d": -1}]}, 422),
        ({"rows": [{"decayed_7d": "nan"}]}, 422),
        ({"rows": [{"decayed_7d": 1}], "prefix": "a"}, 422),
        ({"colour": 1}, 422),
    ]:
        assert api.post(path, body).status_code == status, body
    assert api.post("/v1/models/placement:predict-batch", {}).status_code == 404
    big = {"rows": [dict.fromkeys(NAMES, 1.5)] * 20_000}
    assert api.post(path, big).status_code == 413
    assert api.post(path, {"rows": [{"log_size": 1}] * 10_001}).status_code == 413
    assert api.post(path, {"rows": [{"log_size": 1}] * 10_000}).status_code == 202
    assert api.post(path, {}, role=Role.VIEWER).status_code == 403


def test_pages_are_a_batchs_own_and_go_after_a_day(api: Api, configure: Callable[..., Settings]):
    result, _ = scored(api, {})
    path = result["page"]
    assert api.get(path.replace("tier", "placement")).status_code == 404
    assert api.get(path.removesuffix("1") + "2").status_code == 404
    other = perform(roll_up).id
    assert api.get(f"/v1/models/tier/batches/{other}/pages/1").status_code == 404
    assert perform(prune).result["batch_pages"] == 0
    with session_scope() as session:
        old = datetime.now(UTC) - batch_pages.KEEP - timedelta(minutes=1)
        session.execute(text("update batch_page set created_at = :old"), {"old": old})
    assert perform(prune).result["batch_pages"] == 1
    assert api.get(path).status_code == 404


def test_a_batch_before_a_champion_fails_with_what_to_do(make_api: Callable[..., Api]):
    reply = make_api().post("/v1/models/tier:predict-batch", {})
    assert reply.status_code == 404
    assert "foretide models train" in reply.json["detail"]
