"""What-if and previews of policies over real rows: two answers told apart, and nothing changed but the job."""

from __future__ import annotations

import pytest
from sqlalchemy import func, select, text, update

from app.db import jobs, policies
from app.db.session import session_scope
from app.db.tables import Job, Migration, Object, Site
from app.domain import price_documents
from app.domain.price_books import AWS
from app.domain.roles import Role
from app.lab import fleets
from app.queue import TaskName
from tests.integration import test_votes
from tests.integration.conftest import Api
from tests.integration.test_plans import NOW, add_object, add_sites
from tests.jobs import finish, run
from workers.what_if import what_if

UNTOUCHED = (
    "plan", "move", "migration", "replica", "object", "policy", "price_book", "site", "audit", "budget",
    "object_opinion", "model_version",
)  # fmt: skip


@pytest.fixture
def fleet(api: Api) -> Api:
    with session_scope() as session:
        ids = add_sites(session)
        for number in range(6):
            add_object(session, ids["aws-eu"], f"cold/{number}")
            add_object(session, ids["aws-eu"], f"hot/{number}", reads_a_day=40)
    api.put("/v1/policies/sla", {"default": {"readers": "routed"}})
    return api


def rows():
    """Every row of the tables that a what-if must leave alone, as one sum a table."""
    whole = "select md5(coalesce(string_agg(t::text, '' order by t::text), '')) from {} t"
    with session_scope() as session:
        return {name: session.scalar(text(whole.format(name))) for name in UNTOUCHED}


def answered(api: Api, path: str, body: object):
    started = api.post(path, body)
    assert started.status_code == 202, started.json
    assert started.headers["Location"] == f"/v1/jobs/{started.json['id']}"
    return dict(finish(what_if, started.json["id"]).result)


def asked(api: Api, **otherwise: object):
    return answered(api, "/v1/what-if", otherwise)


def test_nothing_is_touched_but_the_job(fleet: Api):
    before = rows()
    with session_scope() as session:
        jobs = session.scalar(select(func.count()).select_from(Job))
    found = asked(fleet, lost=["aws-eu"], rf=2, reads_times=3, sla_ms=50)
    assert (found["objects"], found["objects_lost"]) == (12, 12)
    assert rows() == before
    with session_scope() as session:
        assert session.scalar(select(func.count()).select_from(Job)) == jobs + 1
        assert session.scalar(select(Job.kind).order_by(Job.id.desc())) == TaskName.WHAT_IF


def test_what_is_left_out_is_said(fleet: Api):
    with session_scope() as session:
        session.execute(text("update replica set storage_class = 'NOWHERE' where object_id in (select id from object "
                             "where key in ('cold/0', 'cold/1'))"))  # fmt: skip
    found = asked(fleet, rf=2)
    assert found["objects"] == 10
    (note,) = [note for note in found["notes"] if "left out" in note]
    assert note == "2 objects are left out, such as cold/0: the price book of aws-eu has no storage class NOWHERE"
    refused = fleet.post("/v1/what-if", {"key": "cold/2", "keys": ["cold/3"], "rf": 2})
    assert (refused.status_code, [error["pointer"] for error in refused.json["errors"]]) == (422, ["/key"])


def test_more_copies_cost_more_and_by_prefix(fleet: Api):
    found = asked(fleet, rf=2)
    assert found["scenario"] == ["2 copies of each object"]
    assert found["what_if"]["cost_after"] > found["current"]["cost_after"]
    assert found["what_if"]["one_off"] > found["current"]["one_off"]
    assert {row["prefix"] for row in found["by_prefix"]} == {"cold/", "hot/"}
    assert all(row["touched"] == 6 and row["examples"] for row in found["by_prefix"])
    assert found["objects_under_other_rules"] == 12
    one = asked(fleet, rf=2, key="hot/1")
    assert one["objects"] == 1


def test_what_becomes_infeasible_is_named_with_its_relaxation(fleet: Api):
    found = asked(fleet, rf=3, lost=["gcp-eu"], prefix="cold/")
    (group,) = found["what_if"]["infeasible"]
    assert (group["objects"], found["current"]["infeasible"]) == (6, [])
    assert group["relaxations"][0]["change"] == "rf 2"


def test_other_prices_and_more_reads_change_the_plan(fleet: Api):
    busier = asked(fleet, reads_times=1000, prefix="cold/")
    assert busier["what_if"]["cost_after"] > busier["current"]["cost_after"]
    book = fleet.get("/v1/sites/aws-eu/prices").json
    book["classes"][0]["storage"] = [{"usd": "0.0001"}]
    cheap = asked(fleet, prices={"aws-eu": book | {"name": "gift"}}, prefix="cold/")
    assert cheap["scenario"] == ["other prices at aws-eu"]
    assert (cheap["current"]["moves"], cheap["what_if"]["moves"]) == (6, 0)
    assert {len(example["current"]) for example in cheap["examples"]} == {1}
    assert {example["reason"] for example in cheap["examples"]} == {"nothing is moved"}


def test_wrong_what_ifs_are_told_field_by_field(fleet: Api):
    for body, pointer in (
        ({"lost": ["mars"]}, "/lost/0"),
        ({"residency": ["mars"]}, "/residency/0"),
        ({"prices": {"aws-eu": "ibm"}}, "/prices/aws-eu"),
        ({"prices": {"aws-eu": {}}}, "/prices/aws-eu/name"),
        ({"rf": 0}, "/rf"),
        ({"reads_times": -1}, "/reads_times"),
        ({"colour": "red"}, "/colour"),
    ):
        refused = fleet.post("/v1/what-if", body)
        assert (refused.status_code, refused.json["errors"][0]["pointer"]) == (422, pointer), refused.json
    for nothing in ({}, {"prefix": "cold/"}, {"reads_times": 1}, {"prices": {}}, {"horizon_days": 9}):
        refused = fleet.post("/v1/what-if", nothing)
        assert (refused.status_code, "nothing would be otherwise" in refused.json["detail"]) == (422, True), nothing
    assert fleet("POST", "/v1/what-if", json={"rf": 2}, role=Role.VIEWER).status_code == 403


@pytest.mark.parametrize("body", [{"lost": ["bare"]}, {"residency": ["bare"]}, {"prices": {"bare": "aws"}}])
def test_a_site_without_prices_is_told_before_work_is_started(fleet: Api, body):
    with session_scope() as session:
        session.execute(update(Site).where(Site.name == "gcp-eu").values(name="bare", provider="other"))
    refused = fleet.post("/v1/what-if", body)
    assert refused.status_code == 422
    assert "bare has no prices" in refused.json["errors"][0]["detail"]


def test_a_preview_tells_what_a_policy_would_touch_and_writes_nothing(fleet: Api):
    before = rows()
    document = {
        "default": {"readers": "routed"},
        "prefixes": [{"prefix": "cold/", "rf": 5}, {"prefix": "none/", "rf": 2}],
    }
    found = answered(fleet, "/v1/policies/sla:preview", document)
    assert rows() == before
    assert found["objects_under_other_rules"] == 6
    (row,) = [row for row in found["by_prefix"] if row["touched"]]
    assert (row["prefix"], row["touched"], row["infeasible"]) == ("cold/", 6, 6)
    home = answered(fleet, "/v1/policies/residency:preview", {"prefixes": [{"prefix": "hot/", "sites": ["gcp-eu"]}]})
    assert home["what_if"]["moves"] == home["current"]["moves"] + 6
    assert home["what_if"]["one_off"] > home["current"]["one_off"]
    strict = answered(fleet, "/v1/policies/budget:preview", {"moves_per_day": 2})
    assert (strict["current"]["moves"], strict["what_if"]["moves"]) == (6, 2)
    refused = fleet.post("/v1/policies/sla:preview", {"default": {"rf": 0}})
    assert (refused.status_code, refused.json["errors"][0]["pointer"]) == (422, "/default/rf")
    assert fleet.post("/v1/policies/laws:preview", {}).status_code == 404


def test_versions_are_listed_and_compared(fleet: Api):
    fleet.put("/v1/policies/sla", {"default": {"readers": "routed", "rf": 2}})
    listed = fleet.get("/v1/policies/sla/versions").json["items"]
    assert [entry["version"] for entry in listed] == [2, 1]
    found = fleet.get("/v1/policies/sla/diff").json
    assert (found["from"], found["to"]) == (1, 2)
    assert found["changes"] == [{"pointer": "/default/rf", "change": "added", "old": None, "new": 2}]
    whole = fleet.get("/v1/policies/sla/diff?from=0&to=2").json["changes"]
    assert [change["pointer"] for change in whole] == ["/default"]
    assert fleet.get("/v1/policies/sla/diff?from=9").status_code == 404
    assert fleet.get("/v1/policies/budget/diff").json["changes"] == []


def test_an_explanation_may_be_asked_under_other_rules(fleet: Api):
    shown = fleet.get("/v1/explanation", query_string={"key": "hot/1", "rf": 2, "sla_ms": 50, "horizon_days": 60}).json
    assert (shown["rf"], shown["sla_ms"]) == (2, 50)
    assert fleet.get("/v1/explanation?key=hot/1&rf=0").status_code == 422


def test_as_of_is_a_time_of_the_past(fleet: Api):
    with session_scope() as session:
        job_id = jobs.submit(session, TaskName.WHAT_IF, {"as_of": NOW.isoformat(), "reads_times": 2}).id
    assert finish(what_if, job_id).result["as_of"] == NOW.isoformat()


def test_voters_are_asked_as_for_a_plan_and_learn_what_is_supposed(clean_database):
    days, until = fleets.fleet("mixed", 11, objects=60, days=280), 252
    with session_scope() as session:
        policies.put(session, "sla", test_votes.NO_GATE, actor="t")
        test_votes.store(session, days, test_votes.add_site(session), until)
    planned = test_votes.run_plan(horizon_days=90)
    assert planned.state == "succeeded", planned.error

    def found(**otherwise):
        args = {"as_of": test_votes.NOW.isoformat(), "horizon_days": 90, **otherwise}
        return run(what_if, TaskName.WHAT_IF, args).result

    before = rows()
    same = found(residency=["aws-eu"])
    assert same["current"]["moves"] == planned.result["moves"] > 0
    assert same["current"]["cost_after"] == pytest.approx(planned.result["cost_after"])
    assert (same["objects_moved_otherwise"], same["notes"]) == (0, [])
    busier = found(reads_times=1000)
    assert "learned anew" in busier["notes"][0]
    assert busier["current"] == same["current"]
    assert busier["what_if"]["moves"] < same["current"]["moves"]
    book = price_documents.to_json(AWS)
    for entry in book["classes"][1:]:
        entry["storage"] = [{"usd": "0.1"}]
    dear = found(prices={"aws-eu": book})
    assert (dear["current"], dear["what_if"]["moves"]) == (same["current"], 0)
    assert rows() == before


def test_a_preview_of_retention_counts_what_old_versions_cost(fleet: Api):
    """Where moves leave versions that nobody deletes, each costs its bytes once more."""
    with session_scope() as session:
        session.execute(text("update site set capabilities = capabilities || jsonb '{\"versioning\": true}'"))
    told = answered(fleet, "/v1/policies/retention:preview", {"old_versions_days": 0})
    assert told["objects_under_other_rules"] == 0
    assert told["current"]["moves"] == 0, "what is left behind costs more than another class saves"
    assert (told["what_if"]["moves"], told["objects_moved_otherwise"]) == (6, 6)
    assert told["delta"]["cost_after"] < 0
    same = answered(fleet, "/v1/policies/retention:preview", {"old_versions_days": None})
    assert same["current"] == same["what_if"]


def test_what_a_migration_has_in_hand_is_said_to_be_left_out(fleet: Api):
    with session_scope() as session:
        found = session.scalars(select(Object).where(Object.key == "cold/0")).one()
        job = jobs.submit(session, TaskName.MIGRATE)
        session.add(Migration(job_id=job.id, object_id=found.id, object_version=1, kind="class", bytes_total=1))
    assert "1 objects are left out: a move of it is under way" in asked(fleet, rf=2)["notes"]
    assert fleet.get("/v1/explanation?key=cold/0").json["left_out"] == "a move of it is under way"
    assert fleet.get("/v1/explanation?key=cold/1").json["left_out"] is None
