"""Sites, objects, placement and plans over HTTP, and the same through the sources' own routes."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from sqlalchemy import select, update

from app import clock
from app.api import exposition
from app.db import alerts, migration_plans, placement, watch
from app.db.session import session_scope
from app.db.tables import Job, Migration, Move, Object, Plan, Replica, Site
from app.domain.roles import Role
from app.domain.sites import Capabilities
from app.domain.states import MigrationState, ObjectState, PlanState, ReplicaState, SiteState
from tests.integration.conftest import Api

KEY = "logs/2025-11-06/app.log"
CANARY = "canary-secret-never-shown"
PROVIDERS = {"aws-eu": ("aws", 20), "azure-we": ("azure", 35), "gcp-eu": ("gcp", 60)}


def site(name: str = "aws-eu", **changes: object) -> dict[str, object]:
    provider, latency_ms = PROVIDERS.get(name, ("aws", 20))
    return {
        "name": name,
        "provider": provider,
        "region": "eu-west-1",
        "endpoint_url": "http://127.0.0.1:9999",
        "bucket": "data",
        "access_key": "key",
        "secret_key": CANARY,
        "latency_ms": latency_ms,
    } | changes


@pytest.fixture
def world(api: Api) -> Api:
    """Three sites that are ready, and one object that the first of them holds."""
    for name in PROVIDERS:
        assert api.post("/v1/sites", site(name)).status_code == 201
    with session_scope() as session:
        found = Capabilities(conditional_put=True, encrypted=True, classes=("STANDARD",)).as_json()
        session.execute(update(Site).values(state=SiteState.READY, capabilities=found, probed_at=datetime.now(UTC)))
        row = Object(key=KEY, state=ObjectState.PRESENT, size=10**9)
        session.add(row)
        session.flush()
        held = session.scalar(select(Site).where(Site.name == "aws-eu"))
        copy = {"storage_class": "STANDARD", "state": ReplicaState.SERVING, "is_origin": True}
        session.add(Replica(object_id=row.id, site_id=held.id, object_version=1, size=10**9, **copy))
    return api


def make_plan() -> int:
    with session_scope() as session:
        world = placement.world(session, clock.now())
        row = session.scalar(select(Object))
        sites = {found.name: found.id for found in session.scalars(select(Site))}
        plan = Plan(
            state=PlanState.READY,
            as_of=world.now,
            inputs=world.fingerprint(),
            cost_before=Decimal(3),
            cost_after=Decimal(2),
            one_off=Decimal("0.5"),
            baselines={"all_hot": 4.0},
            objects=1,
            moves=1,
        )
        session.add(plan)
        session.flush()
        money = {"one_off": Decimal("0.5"), "monthly_delta": Decimal(-1), "payback_days": 15.0}
        ends = {"from_site_id": sites["aws-eu"], "to_site_id": sites["azure-we"], "to_class": "Hot"}
        move = {"object_id": row.id, "object_version": 1, "kind": "move", "bytes": 10**9, "reason": "cheaper"}
        session.add(Move(plan_id=plan.id, **move, **ends, **money))
        return plan.id


def test_a_site_is_registered_probed_and_never_tells_its_secret(api: Api):
    made = api.post("/v1/sites", site())
    assert made.status_code == 201
    assert made.json["state"] == "probing"
    assert made.headers["Location"] == "/v1/sites/aws-eu"
    job = api.get(f"/v1/jobs/{made.json['job_id']}").json
    assert (job["kind"], job["args"]) == ("probe", {"site": "aws-eu"})
    assert api.post("/v1/sites", site()).status_code == 409
    changed = api("PATCH", "/v1/sites/aws-eu", json={"latency_ms": 5, "secret_key": CANARY + "2"})
    assert changed.json["latency_ms"] == 5
    assert changed.json["state"] == "probing"
    stale = api("PATCH", "/v1/sites/aws-eu", json={"latency_ms": 6}, headers={"If-Match": '"1"'})
    assert stale.status_code == 412
    with ThreadPoolExecutor(4) as pool:
        ask = {"json": {"latency_ms": 6}, "headers": {"If-Match": changed.headers["ETag"]}}
        answers = list(pool.map(lambda _: api("PATCH", "/v1/sites/aws-eu", **ask), range(4)))
    assert sorted(answer.status_code for answer in answers) == [200, 412, 412, 412], (
        "one of those who read it changes it"
    )
    (changed,) = [answer for answer in answers if answer.status_code == 200]
    replaced = api.put("/v1/sites/aws-eu", site(region="eu-north-1"), headers={"If-Match": changed.headers["ETag"]})
    assert replaced.json["region"] == "eu-north-1"
    assert api.post("/v1/sites/aws-eu:probe").status_code == 202
    shown = [api.get(path).text for path in ("/v1/sites", "/v1/sites/aws-eu", "/v1/jobs", "/v1/audit", "/metrics")]
    assert CANARY not in "".join([*shown, made.text, changed.text])
    assert api("DELETE", "/v1/sites/aws-eu").status_code == 204
    assert api.get("/v1/sites/aws-eu").status_code == 404


def test_a_sites_keys_are_mapped_and_checked(api: Api):
    api.post("/v1/sites", site())
    changed = api(
        "PATCH", "/v1/sites/aws-eu", json={"kms_keys": {"*": "alias/cold", "arn:aws:kms:x:1:key/2": "default"}}
    )
    assert changed.json["kms_keys"] == {"*": "alias/cold", "arn:aws:kms:x:1:key/2": "default"}
    assert changed.json["job_id"] is None, "nothing that a probe looks at"
    for wrong in ({"*": ""}, {"": "k"}, {"*": "a b"}, {"*": "a\r\nx: y"}, {"*": None}, ["k"]):
        refused = api("PATCH", "/v1/sites/aws-eu", json={"kms_keys": wrong})
        assert refused.status_code == 422, wrong
        assert refused.json["errors"][0]["pointer"].startswith("/kms_keys"), refused.json
    assert api.get("/v1/sites/aws-eu").json["kms_keys"]["*"] == "alias/cold"


def test_what_a_site_may_hold_and_serve_is_given_changed_and_lifted(api: Api):
    made = api.post("/v1/sites", site(capacity_bytes=10**15, max_request_rate=2.5))
    assert (made.json["capacity_bytes"], made.json["max_request_rate"]) == (10**15, 2.5)
    changed = api("PATCH", "/v1/sites/aws-eu", json={"capacity_bytes": None})
    assert (changed.json["capacity_bytes"], changed.json["max_request_rate"]) == (None, 2.5)
    assert changed.json["job_id"] is None, "nothing that a probe looks at"
    for field, wrong in (
        ("capacity_bytes", 0), ("capacity_bytes", 1.5), ("capacity_bytes", 2**63), ("capacity_bytes", "much"),
        ("capacity_bytes", True), ("max_request_rate", 0), ("max_request_rate", -1), ("max_request_rate", "fast"),
    ):  # fmt: skip
        refused = api("PATCH", "/v1/sites/aws-eu", json={field: wrong})
        assert (refused.status_code, refused.json["errors"][0]["pointer"]) == (422, f"/{field}"), wrong
        assert api.post("/v1/sites", site("other", **{field: wrong})).status_code == 422, wrong


def test_a_wrong_site_is_told_field_by_field(api: Api):
    wrong = api.post("/v1/sites", site(name="a b", latency_ms=-1, colour="red") | {"bucket": ""})
    assert wrong.status_code == 422
    assert {error["pointer"] for error in wrong.json["errors"]} == {"/name", "/latency_ms", "/colour", "/bucket"}
    assert CANARY not in wrong.text
    for url in ("http://169.254.169.254", "http://10.0.0.1:9000", "ftp://example.com", "http://user@example.com", "x"):
        refused = api.post("/v1/sites", site(endpoint_url=url))
        assert (refused.status_code, refused.json["errors"][0]["pointer"]) == (422, "/endpoint_url"), url


def test_a_site_that_holds_replicas_stays(world: Api):
    assert world("DELETE", "/v1/sites/aws-eu").status_code == 409
    assert world("DELETE", "/v1/sites/gcp-eu").status_code == 204


def test_prices_are_shown_and_replaced(world: Api):
    book = world.get("/v1/sites/aws-eu/prices").json
    assert book["source"]
    assert book["as_of"]
    assert world.put("/v1/sites/aws-eu/prices", book | {"name": "ours"}).json["name"] == "ours"
    wrong = world.put("/v1/sites/aws-eu/prices", {"name": 1})
    assert wrong.status_code == 422
    assert wrong.json["errors"]


def test_objects_are_listed_with_filters(world: Api):
    (found,) = world.get("/v1/objects", query_string={"key": KEY}).json["items"]
    assert found["replicas"][0]["site"] == "aws-eu"
    assert world.get("/v1/objects?site=aws-eu&prefix=logs/").json["items"] == [found]
    assert world.get("/v1/objects?site=gcp-eu").json["items"] == []
    assert world.get(f"/v1/objects/{found['id']}").json["prediction"] is None
    path = f"/v1/objects/{found['id']}"
    tagged = world.put(path, {"tags": {"team": "a"}})
    assert tagged.json["tags"] == {"team": "a"}
    ask = {"json": {"tags": {"team": "b"}}, "headers": {"If-Match": tagged.headers["ETag"]}}
    assert [world("PUT", path, **ask).status_code for _ in range(2)] == [200, 412], "it is another one after the first"
    assert world("PUT", path, json={"tags": {"team": "a"}}, headers={"If-Match": "*"}).json["tags"] == {"team": "a"}
    assert world.get(path).headers["ETag"] == tagged.headers["ETag"]
    for tags in ({"": "a"}, {"t" * 129: "a"}, {"team": "a" * 257}, {"team": 1}):
        assert world.put(f"/v1/objects/{found['id']}", {"tags": tags}).status_code == 422, tags
    assert world.get("/v1/placements", query_string={"key": KEY}).json["key"] == KEY


def test_an_explanation_names_what_was_chosen_and_what_not(world: Api):
    found = world.get("/v1/explanation", query_string={"key": KEY}).json
    assert found["chosen"]
    assert found["candidates"]
    assert world.get("/v1/explanation?key=none").status_code == 404
    assert world.get("/v1/explanation", query_string={"key": KEY, "rf": 2}).json["rf"] == 2


def test_apply_takes_exactly_the_plan_that_was_read(world: Api):
    plan_id = make_plan()
    shown = world.get(f"/v1/plans/{plan_id}")
    assert (shown.json["all_hot"], shown.json["payback_days"]) == (4.0, 15.0)
    (change,) = world.get(f"/v1/plans/{plan_id}/changes").json["items"]
    assert (change["key"], change["from_site"], change["to_site"]) == (KEY, "aws-eu", "azure-we")
    path = f"/v1/plans/{plan_id}:apply"
    assert world.post(path).status_code == 428
    assert world.post(path, headers={"If-Match": '"9"'}).status_code == 412
    approved = world.post(f"/v1/plans/{plan_id}:approve", headers={"If-Match": shown.headers["ETag"]})
    assert approved.json["state"] == "approved"
    assert world.post(path, headers={"If-Match": shown.headers["ETag"]}).status_code == 412
    applied = world.post(path, headers={"If-Match": approved.headers["ETag"]})
    assert (applied.status_code, applied.json["kind"]) == (202, "migrate")
    assert world.post(path, headers={"If-Match": approved.headers["ETag"]}).status_code == 409
    (moving,) = world.get("/v1/migrations?state=queued").json["items"]
    assert (moving["key"], moving["to_site"]) == (KEY, "azure-we")
    assert world.post(f"/v1/migrations/{moving['id']}:cancel").json["id"] == moving["id"]
    assert world.post(f"/v1/migrations/{moving['id']}:retry").status_code == 409


def test_a_stale_plan_says_what_drifted(world: Api):
    plan_id = make_plan()
    with session_scope() as session:
        session.execute(update(Object).values(version=2))
    world.put("/v1/policies/sla", {"default": {"rf": 2}})
    etag = world.get(f"/v1/plans/{plan_id}").headers["ETag"]
    stale = world.post(f"/v1/plans/{plan_id}:apply", headers={"If-Match": etag})
    assert (stale.status_code, stale.json["type"]) == (409, "/problems/plan-stale")
    assert {error["pointer"] for error in stale.json["errors"]} == {"/inputs/policies/sla", "/objects"}


def test_policies_have_versions(world: Api):
    empty = world.get("/v1/policies/security")
    assert (empty.json, empty.headers["ETag"]) == ({}, '"0"')
    first = world.put("/v1/policies/security", {"enforce": True}, headers={"If-Match": '"0"'})
    assert first.headers["ETag"] == '"1"'
    assert world.put("/v1/policies/security", {"enforce": False}, headers={"If-Match": '"0"'}).status_code == 412
    wrong = world.put("/v1/policies/security", {"enforce": "yes", "other": 1})
    assert {error["pointer"] for error in wrong.json["errors"]} == {"/enforce", "/other"}
    assert len(world.get("/v1/policies/security/versions").json["items"]) == 1
    assert world.get("/v1/policies/nothing").status_code == 404
    assert world.put("/v1/mode", {"mode": "paused"}).status_code == 422
    assert world.put("/v1/mode", {"mode": "auto"}).json["mode"] == "auto"
    assert world.get("/v1/mode").json["created_by"] == "admin"


def test_a_run_shows_its_steps(api: Api):
    run = api.post("/v1/runs", {"from": "features", "to": "plan"})
    assert run.status_code == 202
    shown = api.get(f"/v1/runs/{run.json['id']}").json
    assert [step["name"] for step in shown["steps"]] == ["features", "train", "predict", "plan"]
    assert shown["steps"][1]["after"] == ["features"]
    assert shown["steps"][0]["state"] == "pending"
    assert api.post("/v1/runs", {"from": "nothing"}).json["errors"][0]["pointer"] == "/from"
    assert api.post("/v1/runs", {"from": "route", "to": "plan"}).json["errors"][0]["pointer"] == "/to"


def test_the_sources_burst_explain_and_debug(world: Api):
    burst = world.post(f"/simulate?key={KEY}&events=100", role=Role.OPERATOR)
    assert burst.status_code == 202
    assert (burst.json["events"], burst.json["access_24h"]) == (100, 100)
    with session_scope() as session:
        job = session.get_one(Job, burst.json["job_id"])
        assert job.args == {"keys": [KEY], "from": "predict", "to": "migrate"}
        assert watch.totals(session).counters[watch.SIMULATED] == 100
    explained = world.get(f"/explain/{KEY}").json
    assert {"objective", "objective_source", "chosen", "sla_ms", "rf", "p_hot", "scores", "sites"} <= explained.keys()
    debug = world.get(f"/debug/placement/{KEY}?run=false").json
    assert {"key", "db_before", "windows", "prediction", "heat", "recommended"} <= debug.keys()
    assert debug["windows"] == {"c1": 100, "c24": 100}
    assert debug["heat"]["score"] == pytest.approx(0.668, abs=1e-3)
    assert debug["recommended"]["primary"] in PROVIDERS
    assert debug["job"] is None
    assert world.get(f"/debug/placement/{KEY}?run=true").json["job"]["kind"] == "run"
    assert world.get(f"/debug/placement/{KEY}?run=true", role=Role.VIEWER).status_code == 403
    assert world.get("/explain//leading/slash").status_code == 404
    assert world.post(f"/optimize/{KEY}").status_code == 202
    assert world.post("/optimize/some-file").status_code == 404


def test_the_sources_tasks_policy_and_alerts(world: Api):
    plan_id = make_plan()
    with session_scope() as session:
        job = migration_plans.apply(session, plan_id, actor="test")
        skipped = {"state": MigrationState.SKIPPED, "reason": "file_growing"}
        session.execute(update(Migration).where(Migration.job_id == job.id).values(**skipped))
        alerts.raise_alert(session, "migration_backlog", "warning", "21 migrations queued", data={"queued": 21})
    (task,) = world.get("/tasks").json
    assert (task["status"], task["reason"]) == ("skipped", "file_growing")
    assert "file_growing" in task["error"]
    assert world.post("/policy/security", {"enforce": True}).json == {"enforce": True}
    assert world.get("/policy/security").json == {"enforce": True}
    (alert,) = world.get("/alerts").json
    assert alert["kind"] == "migration_backlog"
    assert world.post(f"/alerts/{alert['id']}/ack").json["state"] == "acked"
    assert world.get("/v1/alerts?state=acked").json["items"][0]["acked_by"] == "admin"
    assert world.post("/alerts/clear").json == {"cleared": 1}
    assert world.get("/alerts").json == []
    deadline = time.monotonic() + exposition.CACHE_S + 0.5
    while 'migration_jobs_total{result="skipped"} 1.0' not in (shown := world.get("/metrics", role=None).text):
        assert time.monotonic() < deadline, shown
    assert 'migration_queue_gauge{status="queued"} 0.0' in shown
    assert "simulate_events_total 0.0" in shown


def test_models_before_the_first(api: Api):
    assert api.get("/v1/models").json["items"] == []
    assert api.post("/v1/models/tier:predict", {"rows": [{}]}).status_code == 404
    assert api.post("/v1/models/tier:predict", {"rows": [{}] * 1001}).status_code == 413
    assert api.post("/v1/models/other:train").status_code == 404
