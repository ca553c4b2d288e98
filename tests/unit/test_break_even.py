import json
from dataclasses import replace

import numpy as np
import pytest

from app.domain import pricing
from app.domain.break_even import READ_ONCE, card
from app.domain.placement_costs import price
from app.domain.placement_problem import Held
from app.domain.policies import Rules
from app.domain.price_books import AWS as BOOK
from app.domain.prices import GB, KB
from tests.unit.placement_cases import AWS, DIRECT, SITES, item, problem


def shown(*items, sites=SITES):
    document = card(problem(*items, sites=sites))
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    return document


def way(document, source, target, site="aws-eu"):
    (found,) = [w for w in document["ways"] if (w["site"], w["from"], w["to"]) == (site, source, target)]
    return found


def month(name, size, reads):
    """By hand, for classes whose price does not depend on idle days."""
    entry = BOOK.storage_class(name)
    stored = max(size, entry.min_bytes) / GB * float(entry.storage[0].usd)
    return stored + reads * (float(entry.get_per_1k) / 1000 + size / GB * float(entry.retrieval_per_gb))


def test_of_several_copies_the_one_that_is_read_is_priced_with_the_reads():
    held = (Held("aws-eu", "STANDARD", 99.0, True), Held("gcp-eu", "COLDLINE", 99.0))
    one, two = shown(item(reads=5.0, rules=DIRECT)), shown(item(reads=5.0, held=held, rules=DIRECT))
    read, unread = two["copies"]
    assert (read["objects_read"], unread["objects_read"]) == (1, 0)
    assert read["usd_a_month"] == pytest.approx(one["copies"][0]["usd_a_month"])
    assert unread["usd_a_month"] == pytest.approx(0.004), "a GB in COLDLINE, and nothing for reads"
    assert way(two, "STANDARD", "STANDARD_IA") == way(one, "STANDARD", "STANDARD_IA")
    cheaper = way(two, "COLDLINE", "ARCHIVE", "gcp-eu")
    assert cheaper["saves_a_month"] == pytest.approx(0.004 - 0.0012), "however often the other is read"
    assert cheaper["flips_at_reads_a_month"] is None
    assert (READ_ONCE in one["says"], two["says"][-1]) == (False, READ_ONCE)


def test_the_copy_that_is_read_is_the_one_that_plans_have_read():
    held = (Held("aws-eu", "GLACIER_IR", 99.0, True), Held("gcp-eu", "STANDARD", 99.0))
    routed = shown(item(reads=5.0, held=held, region="europe-west1"))
    direct = shown(item(reads=5.0, held=held, region="europe-west1", rules=DIRECT))
    assert [copy["objects_read"] for copy in routed["copies"]] == [0, 1], "the cheaper to read"
    assert [copy["objects_read"] for copy in direct["copies"]] == [1, 0], "the origin, at the readers' address"


def test_a_prefix_is_priced_by_the_part_of_its_reads_that_a_site_answers():
    held = (Held("aws-eu", "STANDARD", 99.0, True), Held("gcp-eu", "COLDLINE", 99.0))
    here, there = (Held("aws-eu", "STANDARD", 99.0), Held("gcp-eu", "COLDLINE", 99.0, True)), held
    document = shown(item(reads=6.0, held=here, rules=DIRECT), item(reads=2.0, held=there, rules=DIRECT, number=2))
    assert {copy["site"]: copy["objects_read"] for copy in document["copies"]} == {"aws-eu": 1, "gcp-eu": 1}
    saved = way(document, "STANDARD", "STANDARD_IA")["saves_a_month"]
    by_hand = [month(name, GB, 0) + month(name, GB, 2) for name in ("STANDARD", "STANDARD_IA")]
    assert saved == pytest.approx(by_hand[0] - by_hand[1])
    flip = way(document, "STANDARD", "STANDARD_IA")["flips_at_reads_a_month"]
    at = [month(name, GB, 0) + month(name, GB, flip / 2) for name in ("STANDARD", "STANDARD_IA")]
    assert at[0] == pytest.approx(at[1]), "of the mean, 2 in 8 of the reads come here"


def test_the_flip_is_where_both_classes_cost_the_same():
    document = shown(item(reads=0.5, rules=DIRECT))
    for source, target in (("STANDARD", "STANDARD_IA"), ("STANDARD", "GLACIER_IR"), ("STANDARD_IA", "GLACIER_IR")):
        flip = way(document, source, target)["flips_at_reads_a_month"]
        assert month(source, GB, flip) == pytest.approx(month(target, GB, flip), rel=1e-9)
        assert way(document, target, source)["flips_at_reads_a_month"] == pytest.approx(flip)
    assert way(document, "STANDARD", "STANDARD_IA")["flips_at_reads_a_month"] == pytest.approx(1.05, abs=0.01)
    assert "STANDARD → STANDARD_IA at aws-eu saves money now; flips at 1.05 reads a month" in document["says"]


def test_a_managed_class_flips_where_its_own_price_meets():
    document = shown(item(reads=0.5, rules=DIRECT))
    flip = way(document, "STANDARD", "INTELLIGENT_TIERING")["flips_at_reads_a_month"]
    classes = [BOOK.storage_class(name) for name in ("STANDARD", "INTELLIGENT_TIERING")]
    sizes, rate, idle = np.array([float(GB)]), np.array([flip / 30]), np.array([0.0])
    cost = [pricing.object_month(entry, classes[0], sizes, rate, idle, 90.0)[0] for entry in classes]
    assert cost[0] == pytest.approx(cost[1], rel=1e-9)


def test_days_of_payback_count_the_transition_and_what_is_owed_today():
    fresh = item(rules=DIRECT, held=(Held("aws-eu", "GLACIER_IR", 30.0, True),))
    document = shown(fresh)
    (copy,) = document["copies"]
    assert (copy["days_left"], copy["early_deletion_usd"]) == (60, pytest.approx(0.004 * 60 / 30))
    back = way(document, "GLACIER_IR", "STANDARD")
    assert back["held"]
    assert back["one_off"] == pytest.approx(0.004 * 60 / 30 + 0.03 + (0.005 + 0.01 + 0.0004) / 1000)
    assert back["early_deletion_usd"] == pytest.approx(copy["early_deletion_usd"])
    assert back["payback_days"] is None
    out = way(shown(item(rules=DIRECT)), "STANDARD", "GLACIER_IR")
    assert out["payback_days"] == pytest.approx(
        out["one_off"] / (month("STANDARD", GB, 0) - month("GLACIER_IR", GB, 0)) * 30
    )


def test_the_smallest_size_worth_moving_is_computed():
    document = shown(item(rules=Rules(payback=1.5)))
    smallest = way(document, "STANDARD", "STANDARD_IA")["smallest_bytes"]

    def earns(size):
        saved = (month("STANDARD", size, 0) - month("STANDARD_IA", size, 0)) * 3
        return saved - 1.5 * float(
            pricing.transition_usd(*(BOOK.storage_class(n) for n in ("STANDARD", "STANDARD_IA")), size)
        )

    assert 128 * KB * 0.5 < smallest < 10 * 2**20
    assert earns(smallest * 0.99) < 0 <= earns(smallest * 1.01)
    assert way(document, "STANDARD_IA", "STANDARD")["smallest_bytes"] is None
    tiny = shown(item(size=KB, rules=DIRECT))
    assert way(tiny, "STANDARD", "STANDARD_IA")["saves_a_month"] < 0


def test_what_rules_a_way_out_is_named():
    document = shown(item(rules=DIRECT), item(rules=replace(DIRECT, allow_restore=True), number=2))
    assert way(document, "STANDARD", "DEEP_ARCHIVE")["closed"] == {"restore is not allowed": 1}
    assert way(document, "STANDARD", "STANDARD_IA")["closed"] == {}


def test_a_prefix_adds_its_objects_up():
    one, two = item(reads=2, rules=DIRECT), item(reads=4, size=3 * GB, rules=DIRECT, number=2)
    both, alone = shown(one, two), [shown(each) for each in (one, two)]
    assert (both["objects"], both["bytes"], both["reads_a_month"]) == (2, 4 * GB, pytest.approx(3))
    for name in ("saves_a_month", "one_off"):
        parts = [way(each, "STANDARD", "STANDARD_IA")[name] for each in alone]
        assert way(both, "STANDARD", "STANDARD_IA")[name] == pytest.approx(sum(parts))
    flip = way(both, "STANDARD", "STANDARD_IA")["flips_at_reads_a_month"]
    scale = flip / 3
    totals = [month(name, GB, 2 * scale) + month(name, 3 * GB, 4 * scale) for name in ("STANDARD", "STANDARD_IA")]
    assert totals[0] == pytest.approx(totals[1])


def test_the_card_prices_as_plans_do():
    thing = item(reads=3, rules=DIRECT)
    costs = price(problem(thing))
    (document,) = [shown(thing)]
    names = [pair.name for pair in costs.pairs]
    for target in ("STANDARD_IA", "INTELLIGENT_TIERING", "GLACIER_IR"):
        a, b = names.index("STANDARD"), names.index(target)
        recurring = costs.storage[0] + costs.requests[0] + costs.retrieval[0]
        assert way(document, "STANDARD", target)["saves_a_month"] == pytest.approx((recurring[a] - recurring[b]) / 3)
        assert way(document, "STANDARD", target)["one_off"] == pytest.approx(costs.move[0, b] + costs.leave[0, 0])


def test_one_class_alone_has_no_way():
    assert shown(item(rules=DIRECT), sites=(replace(AWS, classes=("STANDARD",)),))["ways"] == []
