"""Plans as lifecycle rules: read back from a server that takes them, and what no rule can say."""

from __future__ import annotations

import pytest
from sqlalchemy import select, update

from app.db import plans
from app.db.session import session_scope
from app.db.tables import Move, Object, Plan, Replica, Site
from app.domain.states import MoveKind, PlanState
from tests.integration.test_plans import NOW, add_object, add_sites
from tests.plain import Plain
from tests.s3servers import MOTO

TARGETS = {
    **{f"cold/{number}": ("aws-eu", "GLACIER_IR") for number in range(6)},
    **{f"mixed/{number}": ("aws-eu", "GLACIER_IR") for number in range(3)},
    "archive/a": ("gcp-eu", "ARCHIVE"),
    "blobs/a": ("azure-we", "COOL"),
}


@pytest.fixture
def fleet(api):
    with session_scope() as session:
        ids = add_sites(session)
        for number in range(6):
            add_object(session, ids["aws-eu"], f"cold/{number}")
            add_object(session, ids["aws-eu"], f"hot/{number}")
        for number in range(3):
            add_object(session, ids["aws-eu"], f"mixed/{number}", days=90 if number else 70)
        add_object(session, ids["aws-eu"], "mixed/busy", days=80)
        add_object(session, ids["gcp-eu"], "archive/a")
        add_object(session, ids["azure-we"], "blobs/a", storage_class="HOT")
    return api


@pytest.fixture
def plan_id(fleet):
    """A plan that changes classes as TARGETS says."""
    with session_scope() as session:
        sites = {site.name: site.id for site in session.scalars(select(Site))}
        money = {"cost_before": 2, "cost_after": 1, "one_off": 0}
        plan = Plan(state=PlanState.READY, as_of=NOW, objects=len(TARGETS), moves=len(TARGETS), **money)
        session.add(plan)
        session.flush()
        for row in session.scalars(select(Object).where(Object.key.in_(TARGETS))):
            site, to_class = TARGETS[row.key]
            ends = {"from_site_id": sites[site], "to_site_id": sites[site], "from_class": "", "to_class": to_class}
            session.add(
                Move(
                    plan_id=plan.id, object_id=row.id, object_version=1, kind=MoveKind.CLASS, bytes=row.size, one_off=0,
                    monthly_delta=0, reason="t", **ends,
                )
            )  # fmt: skip
        return plan.id


def exported(api, plan_id, form, **query):
    answer = api.get(f"/v1/plans/{plan_id}/export", query_string={"format": form, **query})
    assert answer.status_code == 200, answer.json
    return answer.json


def test_s3_rules_are_taken_by_a_server_and_read_back_the_same(fleet, plan_id, site_of):
    (found,) = exported(fleet, plan_id, "s3-lifecycle")["sites"]
    by_prefix = {rule["prefix"]: rule for rule in found["rules"]}
    assert (by_prefix["cold/"]["objects"], by_prefix["cold/"]["days"]) == (6, 60)
    assert "hot/" not in by_prefix
    (left,) = found["left_out"]
    assert (left["objects"], left["prefixes"]) == (3, ["mixed/"])
    assert "no rule tells them apart" in left["reason"]
    server = Plain(site_of(MOTO))
    server.client.put_bucket_lifecycle_configuration(Bucket=server.bucket, LifecycleConfiguration=found["document"])
    kept = server.client.get_bucket_lifecycle_configuration(Bucket=server.bucket)["Rules"]
    assert [
        {name: rule[name] for name in sent} for rule, sent in zip(kept, found["document"]["Rules"], strict=True)
    ] == (found["document"]["Rules"])


def test_other_providers_have_their_own(fleet, plan_id):
    (google,) = exported(fleet, plan_id, "gcs-lifecycle")["sites"]
    (rule,) = google["document"]["lifecycle"]["rule"]
    assert (rule["condition"]["matchesPrefix"], rule["condition"]["age"]) == (["archive/"], 60)
    (azure,) = exported(fleet, plan_id, "azure-policy")["sites"]
    (rule,) = azure["document"]["rules"]
    assert rule["definition"]["filters"]["prefixMatch"] == ["b/blobs/"]
    assert exported(fleet, plan_id, "azure-policy")["other_sites"] == ["aws-eu", "gcp-eu"]
    assert exported(fleet, plan_id, "azure-policy", site="aws-eu")["sites"] == []


def test_what_no_rule_can_say_is_listed(fleet, plan_id):
    with session_scope() as session:
        sites = {site.name: site.id for site in session.scalars(select(Site))}
        by_key = {change.key: change.move for change in plans.changes(session, plan_id)}
        by_key["cold/0"].kind, by_key["cold/0"].to_site_id = MoveKind.COPY, sites["gcp-eu"]
        by_key["cold/1"].to_class = "INTELLIGENT_TIERING"
        by_key["archive/a"].to_class = "AUTOCLASS"
        session.execute(
            update(Replica).where(Replica.object_id == by_key["cold/1"].object_id).values(storage_class="GLACIER_IR")
        )
    (found,) = exported(fleet, plan_id, "s3-lifecycle")["sites"]
    reasons = {entry["reason"].partition(":")[0]: entry["objects"] for entry in found["left_out"]}
    assert reasons["a copy between sites"] == 1
    assert reasons["to a hotter class"] == 1
    (google,) = exported(fleet, plan_id, "gcs-lifecycle")["sites"]
    assert [entry["reason"] for entry in google["left_out"]] == ["the provider has no rule to this class"]
    assert google["document"]["lifecycle"]["rule"] == []


def test_what_is_not_there_is_refused(fleet, plan_id):
    for path, status in (
        (f"/v1/plans/{plan_id}/export", 422),
        (f"/v1/plans/{plan_id}/export?format=yaml", 422),
        ("/v1/plans/999/export?format=s3-lifecycle", 404),
        (f"/v1/plans/{plan_id}/export?format=s3-lifecycle&site=mars", 404),
    ):
        assert fleet.get(path).status_code == status, path
    with session_scope() as session:
        assert session.get(Plan, plan_id).state == "ready", "an export changes nothing"
