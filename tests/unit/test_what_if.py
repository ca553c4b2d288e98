import json
from dataclasses import replace
from math import inf

import pytest

from app.domain import price_documents
from app.domain.comparisons import OTHERS, PREFIXES_KEPT, Comparison, Tally
from app.domain.documents import differences
from app.domain.placement_costs import price
from app.domain.placement_decisions import Verdict, decide
from app.domain.placement_problem import Held
from app.domain.plans import infeasible
from app.domain.policies import Policies
from app.domain.price_books import AWS as AWS_BOOK
from app.domain.what_if import Scenario, read, words
from app.errors import Invalid, NotFound
from tests.unit.placement_cases import SITES, item, problem

NAMES = [site.name for site in SITES]
ROUTED = Policies({"sla": {"default": {"readers": "routed"}}})
VERSIONED = replace(SITES[0], versioned=True, old_versions_days=inf)
TWO = (Held("aws-eu", "STANDARD", 50.0, True), Held("gcp-eu", "STANDARD", 50.0))


def things(count=6, **options):
    rules = ROUTED.rules("x")
    return [replace(item(number=n, rules=rules, **options), key=f"logs/{n % 2}/{n}") for n in range(1, count + 1)]


def compared(scenario, *items, base=""):
    now = problem(*items)
    then, gone = scenario.apply(now)
    current, other = Tally(base=base), Tally(base=base)
    decided = [decide(price(each)) if each.items else [] for each in (now, then)]
    for tally, decisions in zip((current, other), decided, strict=True):
        tally.add(decisions)
    comparison = Comparison(current, other)
    comparison.note(now.items, then.items, gone, decided[1])
    ends = [
        ([entry for entry in decisions if entry.changes], infeasible(each, decisions))
        for each, decisions in zip((now, then), decided, strict=True)
    ]
    document = comparison.document(*ends)
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    return document


def test_nothing_otherwise_is_no_difference():
    found = compared(read({}, NAMES, ROUTED), *things())
    assert found["current"] == found["what_if"]
    assert found["delta"]["cost_after"] == 0
    assert (found["objects"], found["objects_under_other_rules"], found["objects_moved_otherwise"]) == (6, 0, 0)
    assert found["examples"] == []


def test_components_add_up_to_what_a_month_costs():
    found = compared(read({"reads_times": 100}, NAMES, ROUTED), *things(reads=3))
    for side in (found["current"], found["what_if"]):
        for when in ("before", "after"):
            assert sum(part[when] for part in side["components"].values()) == pytest.approx(side[f"cost_{when}"])
    assert found["delta"]["components"]["storage"] + found["delta"]["components"]["requests"] + found["delta"][
        "components"
    ]["retrieval"] + found["delta"]["components"]["egress"] == pytest.approx(found["delta"]["cost_after"])
    assert sum(row["cost_what_if"] for row in found["by_prefix"]) == pytest.approx(found["what_if"]["cost_after"])


def test_more_reads_keep_hot_what_would_be_demoted():
    found = compared(read({"reads_times": 1000}, NAMES, ROUTED), *things(reads=0.1))
    assert found["current"]["moves"] == 6
    assert found["what_if"]["moves"] < 6 or found["objects_moved_otherwise"] == 6
    assert found["what_if"]["cost_after"] > found["current"]["cost_after"]
    assert found["examples"][0]["current"] != found["examples"][0]["what_if"]


def test_a_lost_site_takes_its_copies_and_names_what_has_none_left():
    alone = things(2)
    both = [replace(entry, held=TWO, rules=ROUTED.rules("x")) for entry in things(4)[2:]]
    found = compared(read({"lost": ["aws-eu"]}, NAMES, ROUTED), *alone, *both)
    assert found["objects_lost"] == 2
    (group,) = [entry for entry in found["what_if"]["infeasible"] if entry["rules"] == ["copies"]]
    assert (group["objects"], group["keys"]) == (2, ["logs/1/1", "logs/0/2"])
    assert sum(row["infeasible"] for row in found["by_prefix"]) == 2
    assert sum(row["touched"] for row in found["by_prefix"]) == 4
    moved = [move for example in found["examples"] for move in example["what_if"]]
    assert not [move for move in moved if "aws-eu" in (move["from_site"], move["to_site"])]


def test_rules_that_cannot_be_kept_are_counted_with_their_relaxation():
    found = compared(read({"rf": 5}, NAMES, ROUTED), *things())
    assert found["objects_under_other_rules"] == 6
    assert found["current"]["infeasible"] == []
    (group,) = found["what_if"]["infeasible"]
    assert group["objects"] == 6
    assert group["relaxations"][0]["change"] == "rf 3"
    assert {row["touched"] for row in found["by_prefix"]} == {6}


def test_residency_policies_and_prices_reach_the_answer():
    away = read({"residency": ["gcp-eu"]}, NAMES, ROUTED)
    decided = decide(price(away.apply(problem(*things()))[0]))
    assert {entry.verdict for entry in decided} == {Verdict.MUST}
    two = read({"policies": {"sla": {"default": {"readers": "routed", "rf": 2}}}}, NAMES, ROUTED)
    assert compared(two, *things())["objects_under_other_rules"] == 6
    document = price_documents.to_json(AWS_BOOK)
    document["classes"][0]["storage"] = [{"usd": "2.3"}]
    dear = compared(read({"prices": {"aws-eu": document}}, NAMES, ROUTED), *things(reads=1000))
    assert dear["what_if"]["cost_before"] > 10 * dear["current"]["cost_before"]


def test_prefixes_are_one_segment_below_the_one_that_was_asked_for():
    found = compared(Scenario(ROUTED), *things(), base="logs/")
    assert {row["prefix"] for row in found["by_prefix"]} == {"logs/0/", "logs/1/"}
    many = Tally()
    many.prefixes |= {str(number): None for number in range(PREFIXES_KEPT)}
    assert many.prefix("new/key") == OTHERS


@pytest.mark.parametrize(
    ("args", "pointer"),
    [
        ({"lost": ["mars"]}, "/lost/0"),
        ({"residency": ["aws-eu", "mars"]}, "/residency/1"),
        ({"lost": NAMES}, "/lost"),
        ({"prices": {"mars": "aws"}}, "/prices/mars"),
        ({"prices": {"aws-eu": "ibm"}}, "/prices/aws-eu"),
        ({"prices": {"aws-eu": {"name": 1}}}, "/prices/aws-eu/name"),
        ({"policies": {"sla": {"default": {"rf": 0}}}}, "/default/rf"),
    ],
)
def test_a_wrong_scenario_names_its_fields(args, pointer):
    with pytest.raises(Invalid) as caught:
        read(args, NAMES, ROUTED)
    assert pointer in {error.pointer for error in caught.value.errors}


def test_a_policy_that_there_is_not_is_not_found():
    with pytest.raises(NotFound):
        read({"policies": {"laws": {}}}, NAMES, ROUTED)


def test_a_scenario_is_told_in_words():
    args = {"lost": ["aws-eu"], "rf": 2, "sla_ms": 50.0, "residency": ["gcp-eu"], "reads_times": 3, "prices": {"x": 1}}
    assert words(args | {"policies": {"sla": {}}}) == [
        "aws-eu is lost", "2 copies of each object", "a latency SLA of 50 ms", "copies only at gcp-eu", "reads × 3",
        "other prices at x", "another sla policy",
    ]  # fmt: skip


def test_documents_are_compared_field_by_field_and_prefixes_by_their_name():
    old = {"default": {"rf": 1}, "prefixes": [{"prefix": "a/", "rf": 1}, {"prefix": "b", "rf": 2}]}
    new = {"default": {"rf": 2}, "prefixes": [{"prefix": "b", "rf": 3}, {"prefix": "c", "rf": 1}]}
    assert [(found.pointer, found.change, found.old, found.new) for found in differences(old, new)] == [
        ("/default/rf", "changed", 1, 2),
        ("/prefixes/a~1", "removed", {"prefix": "a/", "rf": 1}, None),
        ("/prefixes/b/rf", "changed", 2, 3),
        ("/prefixes/c", "added", None, {"prefix": "c", "rf": 1}),
    ]
    assert differences(old, old) == []
    assert [found.change for found in differences({}, {"a": None})] == ["added"]


@pytest.mark.parametrize(
    ("retention", "days"),
    [({}, inf), ({"old_versions_days": None}, inf), ({"old_versions_days": 0}, 0), ({"old_versions_days": 9}, 9)],
)
def test_another_retention_counts_old_versions_otherwise_where_a_bucket_keeps_them(retention, days):
    scenario = read({"policies": {"retention": retention}}, NAMES, ROUTED)
    changed = scenario.sites((VERSIONED, *SITES[1:]))
    assert [site.old_versions_days for site in changed] == [days, 0, 0]
    assert [site.old_versions_days for site in Scenario(policies=ROUTED).sites((VERSIONED,))] == [inf], "as it is"
