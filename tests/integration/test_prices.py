"""Price books over the API: listed, a site's own put and given up again, plans made before refused as stale."""

import pytest

from app.db import plans
from app.db.session import session_scope
from app.errors import PlanStale
from tests.integration.test_plans import add_object, add_sites, run_plan


def test_a_sites_own_prices_are_listed_hold_and_are_given_up(api):
    with session_scope() as session:
        ids = add_sites(session)
        add_object(session, ids["aws-eu"], "a")
    listed = api.get("/v1/prices").json["items"]
    assert [(entry["book"]["provider"], entry["shipped"], entry["sites"]) for entry in listed] == [
        ("aws", True, ["aws-eu"]), ("gcp", True, ["gcp-eu"]), ("azure", True, ["azure-we"]), ("cloudflare", True, []),
    ]  # fmt: skip
    assert all(entry["book"]["source"] and entry["book"]["as_of"] for entry in listed)
    plan_id = run_plan().result["plan_id"]
    book = api.get("/v1/sites/aws-eu/prices").json
    assert api.put("/v1/sites/aws-eu/prices", book | {"name": "ours"}).status_code == 200
    own = api.get("/v1/prices").json["items"][-1]
    assert (own["shipped"], own["sites"], own["book"]["name"]) == (False, ["aws-eu"], "ours")
    with session_scope() as session, pytest.raises(PlanStale) as stale:
        plans.check_fresh(session, plans.get(session, plan_id))
    assert [error.pointer for error in stale.value.errors] == ["/inputs/prices/aws-eu"]
    back = api("DELETE", "/v1/sites/aws-eu/prices")
    assert (back.status_code, back.json["name"]) == (200, book["name"])
    assert len(api.get("/v1/prices").json["items"]) == 4
    assert api("DELETE", "/v1/sites/nowhere/prices").status_code == 404
    assert [entry["action"] for entry in api.get("/v1/audit").json["items"]].count("site.prices") == 2
    wrong = api.put("/v1/sites/aws-eu/prices", book | {"egress": {**book["egress"], "internet": "-1"}})
    assert (wrong.status_code, wrong.json["errors"][0]["pointer"]) == (422, "/egress/internet")


def test_a_book_is_changed_only_as_it_was_read(api):
    with session_scope() as session:
        add_sites(session)
    shown = api.get("/v1/sites/aws-eu/prices")
    if_match = {"headers": {"If-Match": shown.headers["ETag"]}}
    changed = api("PUT", "/v1/sites/aws-eu/prices", json=shown.json | {"name": "ours"}, **if_match)
    assert changed.headers["ETag"] == api.get("/v1/sites/aws-eu/prices").headers["ETag"] != shown.headers["ETag"]
    assert api("PUT", "/v1/sites/aws-eu/prices", json=shown.json | {"name": "late"}, **if_match).status_code == 412
    assert api("DELETE", "/v1/sites/aws-eu/prices", **if_match).status_code == 412
    assert api.get("/v1/sites/aws-eu/prices").json["name"] == "ours"
    again = {"headers": {"If-Match": changed.headers["ETag"]}}
    assert api("DELETE", "/v1/sites/aws-eu/prices", **again).headers["ETag"] == shown.headers["ETag"]
    assert api("PUT", "/v1/sites/aws-eu/prices", json=shown.json, headers={"If-Match": "*"}).status_code == 200


def test_a_book_prices_every_class_in_which_copies_lie(api):
    with session_scope() as session:
        ids = add_sites(session)
        for number, name in enumerate(["STANDARD_IA", "STANDARD_IA", "GLACIER_IR", "STANDARD"]):
            add_object(session, ids["aws-eu"], f"a/{number}", storage_class=name)
    book = api.get("/v1/sites/aws-eu/prices").json
    short = book | {"classes": book["classes"][:1]}
    wanted = [
        {"pointer": "/classes", "detail": "GLACIER_IR is not priced, but 1 copies lie in it"},
        {"pointer": "/classes", "detail": "STANDARD_IA is not priced, but 2 copies lie in it"},
    ]
    refused = api.put("/v1/sites/aws-eu/prices", short)
    assert (refused.status_code, refused.json["errors"]) == (422, wanted)
    asked = {"prices": {"aws-eu": short}}
    supposed = api.post("/v1/what-if", asked)
    assert supposed.status_code == 422
    assert [error["pointer"] for error in supposed.json["errors"]] == ["/prices/aws-eu/classes"] * 2
    assert api.post("/v1/what-if", asked | {"lost": ["aws-eu"]}).status_code == 202, "nothing lies there then"
    assert api.put("/v1/sites/gcp-eu/prices", short).status_code == 200, "no copy lies there"
    own = {**book, "classes": [*book["classes"], book["classes"][0] | {"name": "OURS"}]}
    assert api.put("/v1/sites/aws-eu/prices", own).status_code == 200
    with session_scope() as session:
        add_object(session, ids["aws-eu"], "a/ours", storage_class="OURS")
    given_up = api("DELETE", "/v1/sites/aws-eu/prices")
    assert (given_up.status_code, given_up.json["errors"][0]["pointer"]) == (422, "/classes")
