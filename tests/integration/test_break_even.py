"""The break-even card over real rows, for one object and for a prefix."""

import pytest

from app.db import placement
from app.db.session import session_scope
from tests.integration.test_plans import add_object, add_sites


@pytest.fixture
def fleet(api):
    with session_scope() as session:
        ids = add_sites(session)
        add_object(session, ids["aws-eu"], "logs/busy", reads_a_day=2)
        for number in range(9):
            add_object(session, ids["aws-eu"], f"logs/{number}", storage_class="STANDARD_IA", days=10)
    return api


def test_one_objects_card(fleet):
    card = fleet.get("/v1/break-even?key=logs/busy").json
    assert (card["key"], card["prefix"], card["objects"], card["objects_in_all"]) == ("logs/busy", None, 1, 1)
    held = [way for way in card["ways"] if way["held"]]
    assert {way["from"] for way in held} == {"STANDARD"}
    (cheaper,) = [way for way in held if way["to"] == "STANDARD_IA"]
    assert cheaper["flips_at_reads_a_month"] == pytest.approx(1.05, abs=0.02)
    assert cheaper["payback_days"] is None
    assert cheaper["smallest_bytes"] is None, "so busy an object is not moved at any size"
    assert card["prices"]["aws-eu"]["as_of"]


def test_a_prefixs_card_adds_up_and_says_what_is_owed(fleet):
    card = fleet.get("/v1/break-even?prefix=logs/").json
    assert (card["objects"], card["objects_in_all"]) == (10, 10)
    by_class = {copy["storage_class"]: copy for copy in card["copies"]}
    assert by_class["STANDARD_IA"]["objects"] == 9
    assert by_class["STANDARD_IA"]["early_deletion_usd"] == 0, "they stand for longer than thirty days by now"
    assert {(way["from"], way["held"]) for way in card["ways"] if way["to"] == "GLACIER_IR"} >= {
        ("STANDARD", True), ("STANDARD_IA", True), ("ONEZONE_IA", False),
    }  # fmt: skip
    with session_scope() as session:
        keys, total = placement.sample(session, "logs/", 3)
        assert (total, 0 < len(keys) <= 3) == (10, True)


def test_a_sample_is_taken_however_the_ids_of_two_prefixes_lie(api):
    with session_scope() as session:
        ids = add_sites(session)
        for number in range(6):
            for prefix in ("odd", "even"):
                add_object(session, ids["aws-eu"], f"{prefix}/{number}")
    with session_scope() as session:
        for prefix in ("odd", "even"):
            found = [(len(set(keys)), total) for most in (3, 4, 500)
                     for keys, total in [placement.sample(session, f"{prefix}/", most)]]  # fmt: skip
            assert found == [(3, 6), (3, 6), (6, 6)], prefix


def test_what_cannot_be_answered_is_refused(fleet):
    for query, status in (
        ("", 422), ("?key=a&prefix=b", 422), ("?key=none", 404), ("?prefix=none/", 404), ("?key=a&horizon_days=0", 422)
    ):  # fmt: skip
        assert fleet.get(f"/v1/break-even{query}").status_code == status, query
