import json
from dataclasses import replace

import pytest

from app.domain.explanation import explain
from app.domain.placement_problem import Held
from app.domain.policies import Readers, Rules
from tests.unit.placement_cases import DIRECT, ROUTED, item, problem


def explained(thing):
    document = explain(problem(thing))
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    return document


def test_the_sources_fields_are_there():
    rules = Rules(rf=2, sla_ms=50, readers=Readers.ROUTED, preferences={"aws-eu": 2.0})
    held = (Held("aws-eu", "STANDARD", 50.0, True), Held("gcp-eu", "STANDARD", 50.0))
    document = explained(item(reads=1000, rules=replace(rules, payback=1e9), held=held))
    assert document["chosen"] == ["aws-eu", "gcp-eu"]
    assert (document["sla_ms"], document["rf"]) == (50, 2)
    assert document["scores"] == {"aws-eu": 2.0, "azure-we": 0.0, "gcp-eu": 0.0}
    assert document["objective_source"] == pytest.approx(0.023 + 0.020 + 0.001 * 10 - 2.0)
    assert {site["name"] for site in document["sites"] if site["chosen"]} == set(document["chosen"])


def test_every_candidate_says_what_rules_it_out():
    document = explained(item(reads=1000, rules=DIRECT))
    assert [entry["copies"] for entry in document["candidates"] if entry["chosen"]] == ["STANDARD at aws-eu"]
    assert len(document["candidates"]) == 7 + 4 + 4
    by_copies = {entry["copies"]: entry for entry in document["candidates"]}
    assert by_copies["DEEP_ARCHIVE at aws-eu"]["ruled_out"] == ["DEEP_ARCHIVE at aws-eu: restore is not allowed"]
    assert "readers" in by_copies["HOT at azure-we"]["ruled_out"]
    assert by_copies["STANDARD_IA at aws-eu"]["ruled_out"][0].startswith("costs $")
    assert all(entry["ruled_out"] for entry in document["candidates"] if not entry["chosen"])


def test_a_split_adds_up():
    for entry in explained(item(reads=3, rules=replace(ROUTED, rf=2)))["candidates"]:
        if entry["total_usd"] is not None:
            assert sum(entry["split_usd"].values()) == pytest.approx(entry["total_usd"])


def test_the_flip_point_is_where_the_runner_up_costs_the_same():
    thing = item(reads=1, rules=replace(DIRECT, confidence=0))
    document = explained(thing)
    flip = document["flips_at_reads_a_month"]
    below, above = (explained(replace(item(reads=flip * k), rules=thing.rules)) for k in (0.97, 1.03))
    assert below["chosen"] == above["chosen"] == ["aws-eu"]
    best = [next(e["copies"] for e in d["candidates"] if not e["ruled_out"] or e["chosen"]) for d in (below, above)]
    assert document["today"] in best or best[0] != best[1]


def test_the_runner_up_is_dearer_than_the_chosen():
    document = explained(item(reads=1000, rules=DIRECT))
    assert document["margin_usd"] > 0
    assert document["runner_up"] != "STANDARD at aws-eu"


def test_a_hold_back_shows_its_gate():
    document = explained(item(reads=0.001, rules=replace(DIRECT, payback=1e9)))
    assert (document["verdict"], document["chosen"]) == ("held", ["aws-eu"])
    assert "times its cost" in document["gate"][0]
    assert document["moves"] == []


def test_no_placement_shows_the_conflict():
    document = explained(item(rules=replace(ROUTED, rf=5)))
    assert document["verdict"] == "infeasible"
    assert document["conflict"]["relaxations"][0]["words"] == "rf 3"
    assert all(entry["ruled_out"] for entry in document["candidates"] if not entry["chosen"])
