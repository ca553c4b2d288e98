"""The main job through HTTP, real workers and real sites: accesses in, objects moved, reads redirected."""

from __future__ import annotations

import hashlib
import os
import threading
import uuid
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
from sqlalchemy import select

from app.client import Client
from app.db import faults
from app.db import sites as site_rows
from app.db.session import session_scope
from app.db.tables import Migration
from app.devstack.demo_data import DemoData
from app.devstack.services import Endpoints
from app.devstack.stack import Stack

SWITCHED = ("switched", "draining", "done")
PATIENCE_S = 180.0


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_from_accesses_to_moved_objects_and_redirected_reads(
    month: DemoData, everywhere, client: Client, mode, http: httpx.Client, stack: Stack
):
    everywhere.scanned()
    before = {row["key"]: copies for row in client.objects() if (copies := everywhere.copies(row["key"]))}
    stored = {key: next(iter(copies.values())) for key, copies in before.items()}
    keys = [month.trace.keys[index] for index in month.stored]
    assert before.keys() >= set(keys)
    everywhere.require(rf=2, sla_ms=80)
    mode("auto")
    run = client.run(client.wait(client.start_run(), timeout_s=PATIENCE_S)["id"])
    assert [(step["name"], step["state"]) for step in run["steps"]] == [
        (name, "succeeded") for name in ("ingest", "features", "train", "predict", "plan", "migrate", "route")
    ]

    plan, _ = client.plan(run["result"]["plan_id"])
    moved = everywhere.migrations(plan)
    assert len(moved) == plan["moves"] > 0
    for migration in moved:
        assert migration["state"] in SWITCHED
        assert migration["verified_at"]
        held = everywhere.at(migration["to_site"] or migration["from_site"], migration["key"])
        assert held == stored[migration["key"]]
        assert migration["sha256"] in (None, sha256(held))  # a class change hashes nothing
    addresses = {urlsplit(site.endpoint_url).netloc: site.name for site in stack.sites}
    for key in keys:
        copies = everywhere.copies(key)
        assert len(copies) >= max(2, len(before[key]))
        assert set(copies.values()) == {stored[key]}
        answer = http.get("/v1/read", params={"key": key})
        assert answer.status_code == 307
        site = addresses[urlsplit(answer.headers["Location"]).netloc]
        assert site == answer.headers["Foretide-Site"]
        assert site in copies
        assert httpx.get(answer.headers["Location"]).content == stored[key]

    model = next(model for model in client.models() if model["name"] == "tier")
    assert model["baselines"]
    assert 0 < model["metrics"]["auc"] <= 1


@pytest.fixture
def slow_sites(running: Endpoints) -> Iterator[None]:
    """Each request to a site takes longer, so that what is under way can be met under way."""
    with session_scope() as session:
        for site in site_rows.listing(session):
            faults.inject(session, site.id, "latency", 60, latency_ms=200)
    yield
    with session_scope() as session:
        faults.clear(session)


def worker() -> psutil.Process:
    """The parent of the worker's processes."""
    return next(
        process for process in psutil.Process(os.getpid()).children() if {"celery", "worker"} <= set(process.cmdline())
    )


VICTIMS: dict[str, Callable[[], list[psutil.Process]]] = {
    "its children": lambda: worker().children(),
    "all of it": lambda: [worker(), *worker().children()],
}


@pytest.mark.parametrize("victim", VICTIMS)
def test_a_killed_worker_costs_nothing_but_time(victim: str, folder, client: Client, slow_sites, await_true):
    keys = [folder.put(f"{number}", os.urandom(300_000), "aws-eu") for number in range(12)]
    folder.require(rf=2)
    folder.scanned()
    plan, etag = folder.plan()
    assert plan["moves"] == len(keys)
    wrong: list[str] = []
    reads = 0
    over = threading.Event()

    def watch() -> None:
        nonlocal reads
        while not over.is_set():
            for key in keys:
                if folder.read(key) != folder.written[key]:
                    wrong.append(key)
                reads += 1

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        job = client.apply_plan(plan["id"], etag)
        await_true(lambda: any(client.migrations(plan_id=plan["id"], state="copying")), "a copy under way")
        for process in VICTIMS[victim]():
            process.kill()
        client.wait(job, timeout_s=PATIENCE_S)
    finally:
        over.set()
        watcher.join()
    moved = folder.migrations(plan)
    assert {migration["state"] for migration in moved} <= set(SWITCHED)
    assert all(migration["verified_at"] and not migration["problem"] for migration in moved)
    with session_scope() as session:
        claims = session.scalars(select(Migration.fence).where(Migration.plan_id == plan["id"])).all()
    assert max(claims) > 1  # the kill did meet work under way
    for migration in moved:
        assert {"aws-eu", migration["to_site"]} <= folder.holders(migration["key"])
    assert wrong == []
    assert reads > 0


def test_the_same_request_starts_work_once(folder, http: httpx.Client):
    folder.put("one", b"1", "aws-eu")
    folder.scanned()
    headers = {"Idempotency-Key": str(uuid.uuid4())}
    body = {"prefix": folder.prefix, "rf": 2}
    first, again = (http.post("/v1/plans", json=body, headers=headers) for _ in range(2))
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json()["id"] == again.json()["id"]
    assert first.headers["Location"] == again.headers["Location"] == f"/v1/jobs/{first.json()['id']}"
    assert int(first.headers["Retry-After"]) > 0
    other = http.post("/v1/plans", json=body | {"rf": 1}, headers=headers)
    assert other.status_code == 422
    assert other.headers["Content-Type"] == "application/problem+json"


def test_a_growing_object_is_left_alone(folder, client: Client, http: httpx.Client, await_true):
    key = folder.put("still-written", b"0" * 1000, "aws-eu")
    folder.require(rf=2)
    folder.scanned()
    plan, etag = folder.plan()
    begun, over = threading.Event(), threading.Event()

    def write() -> None:
        while not over.wait(0.1):
            folder.put("still-written", os.urandom(1000), "aws-eu")
            begun.set()

    owner = threading.Thread(target=write)
    owner.start()
    try:
        assert begun.wait(30)
        job = client.apply_plan(plan["id"], etag)
        await_true(lambda: client.job(job["id"])["finished_at"] is not None, "the end of the job")
    finally:
        over.set()
        owner.join()
    (migration,) = folder.migrations(plan)
    assert (migration["state"], migration["reason"]) == ("skipped", "file_growing")
    (task,) = [task for task in http.get("/tasks").json() if "file_growing" in task["error"]]
    assert task["key"] == key
    assert folder.holders(key) == {"aws-eu"}


@pytest.mark.parametrize("schedule", ["roll-up", "probe-sites", "predict"])
def test_beat_fires_the_schedules(schedule: str, client: Client, await_true):
    kind = {"roll-up": "rollup", "probe-sites": "probe", "predict": "predict"}[schedule]

    def fired() -> int:
        return sum(job["created_by"] == f"schedule:{schedule}" for job in client.jobs(kind=kind, state="succeeded"))

    await_true(lambda: fired() >= 2, f"two slots of {schedule}")


def test_flower_shows_workers_and_their_tasks_to_those_who_know_the_password(running: Endpoints, await_true):
    assert httpx.get(f"{running.flower_url}/tasks").status_code == 401
    assert httpx.get(f"{running.flower_url}/workers?json=1", auth=("foretide", "wrong")).status_code == 401
    with httpx.Client(base_url=running.flower_url, auth=(running.flower_user, running.flower_password)) as flower:
        await_true(lambda: any(row["status"] for row in flower.get("/workers?json=1").json()["data"]), "a worker")
        await_true(lambda: bool(flower.get("/api/tasks").json()), "a task")
