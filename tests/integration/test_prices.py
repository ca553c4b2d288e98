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
