"""Work is started once a key, committed before the reply, and accepted with the broker dead, hung or full."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from sqlalchemy import func, select, text
from werkzeug.test import TestResponse

from app import queue
from app.db import jobs
from app.db.session import engine, session_scope
from app.db.tables import Audit, IdempotencyKey, Job
from app.devstack.stack import Stack
from app.domain.roles import Role
from app.domain.tasks import TaskName
from app.settings import PROJECT_ROOT
from tests.integration.conftest import Api


def start(api: Api, key: str | None = None, body: object = None, role: Role = Role.OPERATOR) -> TestResponse:
    return api.post("/v1/plans", body or {"rf": 1}, role=role, headers={"Idempotency-Key": key} if key else {})


def count_jobs() -> int:
    with session_scope() as session:
        return session.scalar(select(func.count()).select_from(Job)) or 0


def test_a_field_has_the_json_type_that_is_asked_for(api: Api):
    for path, field, wrong in (
        ("/v1/plans", "rf", True), ("/v1/plans", "rf", "5"), ("/v1/plans", "sla_ms", "50"),
        ("/v1/plans", "peaks", "yes"), ("/v1/plans", "peaks", 1), ("/v1/plans", "prefix", 5),
        ("/v1/what-if", "reads_times", True),
        ("/v1/migrations:pause", "reason", 5), ("/v1/objects:scan", "believe_absent", "true"),
    ):  # fmt: skip
        refused = api.post(path, {field: wrong})
        assert refused.status_code == 422, (path, field, wrong)
        assert f"/{field}" in [error["pointer"] for error in refused.json["errors"]], refused.json
    assert api.post("/v1/plans", {"sla_ms": 50, "rf": 2}).status_code == 202, "a whole number is a number"
    assert api.put("/v1/mode", {"mode": "approve"}).status_code == 200, "a text names a state"


@pytest.mark.parametrize(
    ("path", "body", "pointer"),
    [("/v1/routing/decisions/d/outcome", {"latency_ms": 1, "status": 200, "bytes": 2**63}, "/bytes"),
     ("/v1/sites/s/samples", {"samples": [{"in_flight": 2**63}]}, "/samples/0/in_flight")],
)  # fmt: skip
def test_a_number_that_is_too_large_to_be_kept_is_named(api: Api, path: str, body: object, pointer: str):
    refused = api.post(path, body)
    assert (refused.status_code, [error["pointer"] for error in refused.json["errors"]]) == (422, [pointer])


def test_a_submission_answers_with_the_job(api: Api):
    answer = start(api)
    assert answer.status_code == 202
    assert answer.headers["Location"] == f"/v1/jobs/{answer.json['id']}"
    assert int(answer.headers["Retry-After"]) >= 1
    assert answer.json["state"] == "queued"
    assert answer.json["request_id"] == answer.headers["X-Request-Id"]
    assert api.get(answer.headers["Location"]).json["args"] == {"rf": 1}


def test_the_same_key_gets_the_same_reply_in_any_state(api: Api):
    first = start(api, "k")
    assert start(api, "k").json == first.json
    with session_scope() as session:
        claimed = jobs.claim(session, first.json["id"], "test", 30)
        jobs.succeed(session, claimed.id, claimed.fence, {})
    again = start(api, "k")
    assert (again.status_code, again.json, again.headers["Location"]) == (202, first.json, first.headers["Location"])
    assert count_jobs() == 1


def test_a_key_belongs_to_one_request_of_one_token_for_a_day(api: Api):
    start(api, "k", {"rf": 1, "sla_ms": 80})
    assert start(api, "k", {"sla_ms": 80, "rf": 1}).status_code == 202
    assert start(api, "k", {"rf": 2}).status_code == 422
    assert api.post("/v1/runs", {}, role=Role.OPERATOR, headers={"Idempotency-Key": "k"}).status_code == 422
    assert count_jobs() == 1
    assert start(api, "k", {"rf": 2}, role=Role.ADMIN).status_code == 202
    with session_scope() as session:
        session.execute(text("update idempotency_key set created_at = now() - interval '25 hours'"))
    assert start(api, "k", {"rf": 3}).status_code == 202
    assert count_jobs() == 3
    assert start(api, "k" * 256).status_code == 400


def test_a_refused_request_stores_nothing(api: Api):
    headers = {"Idempotency-Key": "k"}
    assert api.post("/v1/objects:scan", {"site": "nowhere"}, headers=headers).status_code == 404
    assert api.post("/v1/objects:scan", {}, headers=headers).status_code == 202
    with session_scope() as session:
        assert session.scalar(select(func.count()).select_from(IdempotencyKey)) == 1


def test_409_only_while_the_first_has_not_committed(api: Api):
    """The lock of a first request is held here by hand, as if it were still at work."""
    with engine().connect() as connection, connection.begin():
        with session_scope() as session:
            token_id = session.scalar(text("select id from token where role = 'operator'"))
        lock = text("select pg_advisory_xact_lock(hashtextextended('k', :token))")
        connection.execute(lock, {"token": token_id})
        assert start(api, "k").status_code == 409
    assert start(api, "k").status_code == 202


@pytest.fixture
def hung_broker(stack: Stack):
    """Valkey accepts connections and answers nothing, as a frozen process does."""
    pid = int(queue.broker().info("server")["process_id"])
    os.kill(pid, signal.SIGSTOP)
    yield
    os.kill(pid, signal.SIGCONT)


def p95(api: Api, submissions: int = 100) -> float:
    times = []
    for _ in range(submissions):
        began = time.perf_counter()
        assert start(api).status_code == 202
        times.append(time.perf_counter() - began)
    return sorted(times)[int(0.95 * submissions) - 1]


@pytest.fixture
def healthy_p95(api: Api) -> float:
    return p95(api)


def test_a_hung_broker_slows_nothing(api: Api, healthy_p95: float, hung_broker: None):
    assert p95(api) < max(0.1, 2 * healthy_p95)
    ready = api.get("/readyz", role=None)
    assert ready.status_code == 200
    assert any("broker" in part for part in ready.json["degraded"])
    with session_scope() as session:
        assert session.scalar(select(func.count()).where(Job.rung_at.is_(None))) >= 100


def test_each_change_is_audited(api: Api):
    api.post("/v1/tokens", {"name": "x", "role": "viewer"})
    api.put("/v1/mode", {"mode": "paused", "reason": "test"})
    with session_scope() as session:
        rows = session.scalars(select(Audit).order_by(Audit.id)).all()
        assert [(row.action, row.actor) for row in rows] == [("token.create", "admin"), ("policy.mode", "admin")]
        assert all(row.request_id for row in rows)


def test_the_kind_of_a_job_names_its_queue(api: Api):
    assert start(api).json["queue"] == "optimize"
    assert api.post("/v1/models/tier:train").json["kind"] == TaskName.TRAIN


def test_the_first_rings_of_a_process_may_come_at_once():
    code = """
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from app import queue
together = Barrier(8)
def first(_):
    together.wait()
    return id(queue.producer())
print(len(set(ThreadPoolExecutor(8).map(first, range(8)))))
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, cwd=PROJECT_ROOT, capture_output=True, text=True)
    assert done.stdout == "1\n"
