"""`foretide serve` as a process: within its memory, with its messages, gone with its parent."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from app import errors
from app.db import tokens
from app.db.session import session_scope
from app.domain.roles import Role
from app.settings import PROJECT_ROOT
from tests.served import MEMORY, Served

HEAVY = {"sklearn", "scipy", "numba", "pulp", "boto3", "botocore", "skops", "duckdb", "pandas"}
COMPUTING = {"numpy", "ml", "app.domain.placement", "app.domain.placement_costs", "app.domain.break_even"}
"""Loaded by the first request that needs them (app/api/computed.py)."""


@pytest.fixture
def served(clean_database: str) -> Iterator[Served]:
    with session_scope() as session:
        token = tokens.create(session, "test", Role.ADMIN)[1]
    made = Served(token)
    yield made
    made.end()


def run(*arguments: str) -> str:
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, check=True).stdout


def test_the_application_loads_no_learning_library():
    loaded = set(json.loads(run("-c", "import json, sys, app.server; print(json.dumps(list(sys.modules)))")))
    assert "app.api.computed" in loaded
    assert not {name.partition(".")[0] for name in loaded} & HEAVY
    assert not loaded & COMPUTING


def test_the_document_is_the_same_without_docstrings():
    arguments = ("-m", "app", "config", "openapi", "--json")
    assert run(*arguments) == run("-OO", *arguments)


def test_errors_have_their_messages_without_docstrings(served: Served):
    code = """
from app import errors
kinds = [errors.ForetideError]
for kind in kinds:
    kinds += kind.__subclasses__()
    print(kind().detail)
"""
    assert len(run("-c", code).splitlines()) > 30
    assert run("-c", code) == run("-OO", "-c", code)
    assert served.http.get("/v1/jobs", headers={"Authorization": ""}).json()["detail"] == errors.Unauthorized().detail


def test_it_stays_within_its_memory(served: Served):
    ts = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    for block in range(3):
        lines = [
            json.dumps({"ts": ts, "key": f"logs/{n}", "op": "GET", "bytes": n, "event_id": f"{block}-{n}"})
            for n in range(10_000)
        ]
        content = "\n".join(lines).encode()
        answer = served.http.post("/v1/accesses", content=content, headers={"Content-Type": "application/x-ndjson"})
        assert answer.json()["accepted"] == 10_000
    for path in ("/openapi.json", "/docs", "/metrics", "/v1/sites", "/v1/objects", "/v1/plans", "/v1/audit", "/tasks"):
        assert served.http.get(path).status_code == 200
    assert served.http.post("/v1/runs", json={}).status_code == 202
    assert served.worker.memory_info().rss <= MEMORY


def test_nothing_is_left_when_its_parent_is_killed(served: Served):
    worker = os.pidfd_open(served.worker.pid)
    served.process.send_signal(signal.SIGKILL)
    ended, _, _ = select.select([worker], [], [], 25)  # also when its new parent has not waited for it yet
    os.close(worker)
    assert ended
