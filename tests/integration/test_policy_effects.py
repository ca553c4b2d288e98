"""Each rule of the policies, put through the API, as the planner then keeps it."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from app.db import policies
from app.db import sites as registered
from app.db.session import session_scope
from app.db.tables import Object
from tests.integration.conftest import Api
from tests.integration.test_plans import add_object, add_sites
from tests.world import World

KEY = "eu/a"


@pytest.fixture
def fleet(api: Api) -> Api:
    with session_scope() as session:
        ids = add_sites(session)
        add_object(session, ids["aws-eu"], KEY, size=50 * 2**30)
    return api


def put(api: Api, name: str, document: object) -> None:
    answer = api.put(f"/v1/policies/{name}", document)
    assert answer.status_code == 200, answer.json


def explained(api: Api):
    return api.get("/v1/explanation", query_string={"key": KEY}).json


def ruled_out(api: Api, copies: str) -> str:
    (found,) = [entry for entry in explained(api)["candidates"] if entry["copies"] == copies]
    return "; ".join(found["ruled_out"])


@pytest.mark.parametrize(
    ("name", "document", "copies", "why"),
    [
        ("sla", {}, "NEARLINE at gcp-eu", "readers"),
        ("sla", {"default": {"readers": "routed", "pinned": True}}, "STANDARD_IA at aws-eu", "pinned"),
        ("sla", {"prefixes": [{"prefix": "eu/", "legal_hold": True}]}, "STANDARD_IA at aws-eu", "legal hold"),
        ("sla", {}, "DEEP_ARCHIVE at aws-eu", "restore is not allowed"),
        (
            "sla",
            {"default": {"allow_restore": True, "never_archive": True}},
            "DEEP_ARCHIVE at aws-eu",
            "never archive",
        ),
        ("sla", {"default": {"allow_restore": True}}, "DEEP_ARCHIVE at aws-eu", ""),
        ("sla", {"default": {"readers": "routed", "sla_ms": 40}}, "NEARLINE at gcp-eu", "sla"),
        (
            "sla",
            {"classes": {"gold": {"sla_ms": 40}}, "default": {"readers": "routed", "sla_class": "gold"}},
            "NEARLINE at gcp-eu",
            "sla",
        ),
        ("residency", {"prefixes": [{"prefix": "eu/", "sites": ["aws-eu"]}]}, "COOL at azure-we", "residency"),
    ],
)  # fmt: skip
def test_a_rule_closes_what_it_forbids(fleet: Api, name, document, copies, why):
    put(fleet, name, document)
    found = ruled_out(fleet, copies)
    assert why in found
    if not why:
        assert "restore" not in found


def test_residency_by_tag(fleet: Api):
    put(fleet, "sla", {"default": {"readers": "routed"}})
    put(fleet, "residency", {"tags": [{"tag": "data", "value": "personal", "sites": ["gcp-eu"]}]})
    assert explained(fleet)["verdict"] != "must"
    with session_scope() as session:
        number = session.scalar(select(Object.id))
    assert fleet.put(f"/v1/objects/{number}", {"tags": {"data": "personal"}}).status_code == 200
    found = explained(fleet)
    assert (found["verdict"], found["chosen"]) == ("must", ["gcp-eu"])
    assert found["rules"]["sites"] == ["gcp-eu"]


def test_a_scan_reads_the_tags_that_residency_goes_by(sites, clean_database):
    world = World(sites)
    world.put("aws-eu", "a", Tagging="data=personal&team=a%20b")
    world.put("aws-eu", "b")
    world.policy("residency", {"tags": [{"tag": "data", "value": "personal", "sites": ["gcp-eu"]}]})
    assert "tags_read" not in world.scan("aws-eu")
    assert world.object("a").tags == {}
    found = world.scan("aws-eu", tags=True)
    assert (found["tags_read"], found["tags_unread"]) == (2, 0)
    assert (world.object("a").tags, world.object("b").tags) == ({"data": "personal", "team": "a b"}, {})
    with session_scope() as session:
        rules = policies.load(session)
    tagged = world.object("a")
    assert rules.rules(tagged.key, tagged.tags).sites == {"gcp-eu"}


def test_encryption_confines_new_copies(fleet: Api):
    put(fleet, "sla", {"default": {"readers": "routed"}})
    with session_scope() as session:
        registered.change(session, "gcp-eu", endpoint_url="http://gcp.example.com")
    put(fleet, "security", {"enforce": True})
    assert "encryption" in ruled_out(fleet, "NEARLINE at gcp-eu")
    with session_scope() as session:
        registered.change(session, "gcp-eu", endpoint_url="https://gcp.example.com", encryption_declared=True)
    assert "encryption" not in ruled_out(fleet, "NEARLINE at gcp-eu")


def test_copies_and_their_diversity(fleet: Api):
    with session_scope() as session:
        registered.change(session, "gcp-eu", provider="aws")
        registered.change(session, "azure-we", provider="aws")
    put(fleet, "sla", {"default": {"rf": 2}})
    found = explained(fleet)
    assert found["verdict"] == "infeasible"
    assert "diversity off" in [entry["words"] for entry in found["conflict"]["relaxations"]]
    put(fleet, "sla", {"default": {"rf": 2}, "prefixes": [{"prefix": "eu/", "diversity": False}]})
    assert len(explained(fleet)["chosen"]) == 2


def test_nothing_proposes_to_lift_a_legal_hold(fleet: Api):
    for rules, proposed in (({"pinned": True}, True), ({"legal_hold": True}, False)):
        put(fleet, "sla", {"default": {"readers": "routed", **rules}})
        put(fleet, "residency", {"default": {"sites": ["gcp-eu"]}})
        found = explained(fleet)
        assert found["verdict"] == "infeasible", found["verdict"]
        words = [entry["words"] for entry in found["conflict"]["relaxations"]]
        assert any("pinned lifted" in line for line in words) is proposed
        assert "residency lifted" in words


def test_wrong_rules_point_at_their_fields(fleet: Api):
    for name, document, pointer in (
        ("sla", {"prefixes": [{"prefix": "a", "legal_hold": "yes"}]}, "/prefixes/0/legal_hold"),
        ("sla", {"default": {"sla_class": "gold"}}, "/default/sla_class"),
        ("residency", {"tags": [{"tag": "x", "sites": []}]}, "/tags/0/sites"),
        ("retention", {"propagate_deletes": 1}, "/propagate_deletes"),
        ("budget", {"moves_per_day": -1}, "/moves_per_day"),
        ("limits", {"sites": {"aws-eu": {"requests_per_s": 0}}}, "/sites/aws-eu/requests_per_s"),
    ):
        for method, path in (("PUT", f"/v1/policies/{name}"), ("POST", f"/v1/policies/{name}:preview")):
            refused = fleet(method, path, json=document)
            assert (refused.status_code, refused.json["errors"][0]["pointer"]) == (422, pointer), (path, refused.json)
