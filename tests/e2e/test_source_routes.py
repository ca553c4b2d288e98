"""The curl lines of source 004's own document, run as they stand there with a token added."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Callable, Iterator

import httpx
import pytest

from app.client import Client
from app.devstack.stack import Stack
from tests.e2e.conftest import Folder, buckets

KEY = "logs/2025-11-06/app.log"
CURL = Callable[[str], httpx.Response]


@pytest.fixture(scope="module")
def curl(http: httpx.Client) -> CURL:
    """Runs a curl line of the document, up to its pipe."""

    def run(line: str) -> httpx.Response:
        words = shlex.split(line.partition(" | ")[0])
        assert words.pop(0) == "curl"
        request: dict[str, object] = {"method": "GET", "headers": {}}
        while words:
            word = words.pop(0)
            if word == "-X":
                request["method"] = words.pop(0)
            elif word == "-H":
                name, _, value = words.pop(0).partition(": ")
                request["headers"][name] = value
            elif word == "-d":
                request["content"] = words.pop(0)
            else:
                request["url"] = word.removeprefix("http://localhost:8000")
        reply = http.request(**request)
        assert reply.is_success, (line, reply.text)
        return reply

    return run


@pytest.fixture(scope="module")
def metric(curl: CURL) -> Callable[[str], float]:
    """A sample of /metrics, 0 while it is not there."""

    def read(name: str) -> float:
        found = re.search(rf"^{re.escape(name)} (\S+)$", curl("curl http://localhost:8000/metrics").text, re.M)
        return float(found[1]) if found else 0.0

    return read


@pytest.fixture(scope="module")
def learned(client: Client, month) -> None:
    """A model that serves."""
    if not list(client.models()):
        client.wait(client.start_run(last="predict"), timeout_s=180)


@pytest.fixture(scope="module")
def stored(learned, client: Client, stack: Stack) -> Folder:
    """The files that the document speaks of, at one site each, with predictions."""
    everywhere = Folder("", client, buckets(stack))
    for key in (KEY, "some-file", "file.txt"):
        everywhere.put(key, key.encode(), "aws-eu")
    everywhere.scanned()
    client.wait(client.start_run("features", "predict"), timeout_s=180)
    return everywhere


@pytest.fixture
def files(stored: Folder) -> Iterator[Folder]:
    """The same, under rules of their own for the test's time."""
    stored.require(rf=1, sla_ms=80, pinned=True)
    yield stored
    stored.require(rf=1)


def test_a_burst_is_counted_and_heats(curl: CURL, metric, files, client: Client, await_true):
    before = metric("simulate_events_total")
    burst = curl('curl -X POST "http://localhost:8000/simulate?key=file.txt&events=100"')
    assert burst.status_code == 202
    await_true(lambda: metric("simulate_events_total") == before + 100, "the counter")
    client.wait(burst.json()["job_id"], timeout_s=180)
    shown = curl('curl "http://localhost:8000/debug/placement/file.txt?run=false" | jq').json()
    assert shown["windows"]["c1"] >= 100
    assert shown["windows"]["c24"] >= shown["windows"]["c1"]
    assert shown["prediction"]["p"] is not None


def test_explain(curl: CURL, files):
    shown = curl(f"curl http://localhost:8000/explain/{KEY} | jq").json()
    assert shown.keys() >= {"objective", "chosen", "sla_ms", "rf", "p_hot", "scores", "sites"}
    assert shown["chosen"] == ["aws-eu"]
    assert (shown["sla_ms"], shown["rf"]) == (80, 1)
    assert shown["objective"] > 0
    assert 0 <= shown["p_hot"] <= 1
    assert shown["scores"].keys() == {site["name"] for site in shown["sites"]} == {"aws-eu", "azure-we", "gcp-eu"}


def test_debug_placement(curl: CURL, files):
    shown = curl(f'curl "http://localhost:8000/debug/placement/{KEY}?run=false" | jq').json()
    assert shown["key"] == shown["db_before"]["key"] == KEY
    assert shown["windows"].keys() == {"c1", "c24"}
    assert shown["heat"]["score"] == pytest.approx(
        min(1.0, math.log1p(shown["windows"]["c24"]) / math.log1p(1000)), abs=1e-12
    )
    assert 0 <= shown["prediction"]["p"] <= 1
    assert shown["heat"]["boosted"] == max(shown["heat"]["score"], shown["prediction"]["p_adj"])
    assert shown["recommended"]["tier"] in ("hot", "warm", "cold")
    assert shown["recommended"]["primary"] == "aws-eu"


def test_optimize_is_listed_among_the_tasks(curl: CURL, files: Folder, client: Client, mode):
    files.require(rf=2)
    mode("auto")
    client.wait(curl("curl -X POST http://localhost:8000/optimize/some-file").json(), timeout_s=180)
    tasks = curl("curl http://localhost:8000/tasks | jq").json()
    (task,) = [task for task in tasks if task["key"] == "some-file"]
    assert task["src"] == "aws-eu"
    assert task["dst"] in files.holders("some-file") - {"aws-eu"}
    assert task["error"] == ""
    assert "migration_jobs_total{" in curl("curl http://localhost:8000/metrics | grep migration").text
    assert "migration_queue_gauge{" in curl("curl http://localhost:8000/metrics | grep migration").text


def test_a_long_queue_alerts_and_destinations_that_are_not_encrypted_are_blocked(
    curl: CURL, files, folder, client: Client, mode, await_true, metric
):
    keys = {folder.put(f"{number}", b"secret", "aws-eu") for number in range(21)}
    folder.require(rf=2, pinned=False)
    folder.scanned()
    plan, etag = folder.plan()
    mode("paused")
    job = client.apply_plan(plan["id"], etag)
    await_true(lambda: metric('migration_queue_gauge{status="queued"}') == 21, "the gauge")
    alerts = curl("curl http://localhost:8000/alerts | jq").json()
    (alert,) = [alert for alert in alerts if alert["kind"] == "migration_backlog"]
    assert (alert["severity"], alert["data"]) == ("warning", {"queued": 21})
    acked = curl(f"curl -X POST http://localhost:8000/alerts/{alert['id']}/ack").json()
    assert (acked["state"], acked["acked_by"] is not None) == ("acked", True)
    curl("curl -X POST http://localhost:8000/alerts/clear")
    assert alert["id"] not in {alert["id"] for alert in curl("curl http://localhost:8000/alerts").json()}

    on = """curl -X POST http://localhost:8000/policy/security -H "Content-Type: application/json" """
    try:
        assert curl(on + """-d '{"enforce": true}'""").json() == {"enforce": True}
        assert curl("curl http://localhost:8000/policy/security").json() == {"enforce": True}
        mode("observe")
        await_true(lambda: client.job(job["id"])["finished_at"] is not None, "the end of the job")
    finally:
        curl(on + """-d '{"enforce": false}'""")
    tasks = [task for task in curl("curl http://localhost:8000/tasks").json() if task["key"] in keys]
    assert len(tasks) == 21
    assert {(task["status"], task["reason"]) for task in tasks} == {("blocked", "destination_not_encrypted")}
    assert all("destination_not_encrypted" in task["error"] for task in tasks)
    await_true(lambda: metric('migration_jobs_total{result="blocked"}') >= 21, "the counter")
    assert all(folder.holders(key) == {"aws-eu"} for key in keys)


def test_health_wants_no_token(running):
    reply = httpx.get(f"{running.url}/health")
    assert reply.status_code == 200
    assert reply.json()["status"] in ("ok", "degraded")


def test_every_other_route_wants_one(running):
    for path in (f"/explain/{KEY}", f"/debug/placement/{KEY}", "/tasks", "/policy/security", "/alerts"):
        reply = httpx.get(running.url + path)
        assert (reply.status_code, reply.headers["Content-Type"]) == (401, "application/problem+json")
