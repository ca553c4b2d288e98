"""Jobs over HTTP: polled, waited for, cancelled, retried; unknown ones are 404."""

from __future__ import annotations

import threading
import time

from app.db import jobs
from app.db.session import session_scope
from app.domain.roles import Role
from app.domain.states import JobState
from app.domain.tasks import TaskName
from tests.integration.conftest import Api


def submit(kind: TaskName = TaskName.PLAN) -> int:
    with session_scope() as session:
        return jobs.submit(session, kind).id


def test_a_queued_job_says_how_many_are_ahead(api: Api):
    submit(), submit()
    third = submit()
    assert api.get(f"/v1/jobs/{third}").json["reason"] == "waiting for queue optimize, 2 ahead"


def test_unknown_ids_are_not_found(api: Api):
    for path in ("/v1/jobs/999", "/v1/jobs/99999999999999999999999", "/v1/jobs/x"):
        answer = api.get(path)
        assert answer.status_code == 404
        assert answer.content_type == "application/problem+json"


def test_jobs_are_listed_in_pages(api: Api):
    ids = [submit() for _ in range(5)]
    seen, cursor = [], None
    while True:
        page = api.get("/v1/jobs", query_string={"limit": 2, **({"cursor": cursor} if cursor else {})}).json
        seen += [job["id"] for job in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == ids[::-1]
    assert api.get("/v1/jobs?kind=train").json["items"] == []
    assert len(api.get("/v1/jobs?state=queued").json["items"]) == 5
    assert api.get("/v1/jobs?cursor=!").status_code == 422


def test_waiting_ends_with_the_change(api: Api):
    job_id = submit()

    def work() -> None:
        with session_scope() as session:
            jobs.claim(session, job_id, "test", 30)

    started = time.monotonic()
    worker = threading.Timer(0.3, work)
    worker.start()
    answer = api.get(f"/v1/jobs/{job_id}?wait=20")
    worker.join()
    assert answer.json["state"] == JobState.RUNNING
    assert time.monotonic() - started < 5
    assert answer.headers["ETag"]


def test_cancel_and_retry(api: Api):
    job_id = submit()
    assert api.post(f"/v1/jobs/{job_id}:cancel", role=Role.OPERATOR).json["state"] == "cancelled"
    assert api.post(f"/v1/jobs/{job_id}:cancel").status_code == 409
    again = api.post(f"/v1/jobs/{job_id}:retry")
    assert again.status_code == 202
    assert again.headers["Location"] == f"/v1/jobs/{job_id}"
    assert again.json["state"] == "queued"
    assert api.post("/v1/jobs/999:retry").status_code == 404
    actions = [entry["action"] for entry in api.get("/v1/audit").json["items"]]
    assert actions == ["job.retry", "job.cancel"]


def test_events_are_told_in_order_from_the_last_seen(api: Api):
    with session_scope() as session:
        parent = jobs.submit(session, TaskName.RUN)
        child = jobs.submit(session, TaskName.PLAN, parent_id=parent.id)
    with session_scope() as session:
        claimed = jobs.claim(session, child.id, "test", 30)
    with session_scope() as session:
        jobs.succeed(session, child.id, claimed.fence, {})
    events = api.get(f"/v1/jobs/{parent.id}/events").json["items"]
    assert [(event["job_id"], event["event"]) for event in events] == [
        (parent.id, "submitted"),
        (child.id, "submitted"),
        (child.id, "started"),
        (child.id, "succeeded"),
    ]
    assert api.get(f"/v1/jobs/{parent.id}/events?after={events[-2]['id']}").json["items"] == events[-1:]
