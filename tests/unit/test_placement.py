import math
from dataclasses import replace

import numpy as np
import pytest

from app.domain import placement_conflicts
from app.domain.demand import Demand, History, Prior, RegionReads, cohort_prior, expect
from app.domain.placement import gamma_cdf, saving_probability, solve, split
from app.domain.placement_costs import price
from app.domain.placement_decisions import Verdict, decide, describe
from app.domain.placement_problem import Held
from app.domain.prices import GB
from app.domain.states import MoveKind, SiteState
from tests.unit.placement_cases import AWS, DIRECT, GCP, ROUTED, SITES, item, problem


def decision_of(thing, sites=SITES):
    return decide(price(problem(thing, sites=sites)))[0]


def chosen_of(thing, sites=SITES):
    costs = price(problem(thing, sites=sites))
    return describe(costs, decide(costs)[0].chosen)


def test_busy_data_stays_where_it_is_read():
    decision = decision_of(item(reads=1000))
    assert decision.verdict is Verdict.STAY
    assert decision.moves == ()


def test_an_unread_object_goes_to_a_colder_class_and_says_why():
    decision = decision_of(item(reads=0.001, rules=DIRECT))
    assert decision.verdict is Verdict.MOVE
    (move,) = decision.moves
    assert (move.kind, move.from_class, move.to_class) == (MoveKind.CLASS, "STANDARD", "GLACIER_IR")
    assert decision.monthly_delta == pytest.approx(0.004 - 0.023, rel=0.02)
    assert move.monthly_delta == pytest.approx(decision.monthly_delta)
    assert move.one_off == pytest.approx(decision.cost.one_off)
    assert decision.payback_days == pytest.approx(move.one_off / -move.monthly_delta * 30)
    assert "GLACIER_IR at aws-eu" in decision.reason
    assert "paid back in" in decision.reason


def test_what_a_move_leaves_in_a_versioned_bucket_is_part_of_its_price():
    thing = item(reads=0.001, rules=DIRECT)
    plain = decision_of(thing)

    def one_off(days):
        (move,) = decision_of(thing, sites=(replace(AWS, old_versions_days=days),)).moves
        return move.one_off - plain.moves[0].one_off

    assert one_off(30.0) == pytest.approx(0.023)
    assert one_off(0.0) == 0
    kept = decision_of(thing, sites=(replace(AWS, old_versions_days=math.inf),))
    assert kept.verdict is Verdict.STAY, "for the whole horizon the old version costs what the new class saves"
    assert "old_version_kept at aws-eu: 30 days" in decision_of(thing, (replace(AWS, old_versions_days=30.0),)).reason
    assert "old_version_kept" not in plain.reason


def test_the_horizon_reaches_the_longest_minimum():
    assert price(problem(item())).horizon_days == 90
    hot_only = replace(AWS, classes=("STANDARD",))
    assert price(problem(item(), sites=(hot_only,))).horizon_days == 30


def test_archives_need_leave():
    frozen = item(reads=0.0001, rules=replace(DIRECT, allow_restore=True))
    assert chosen_of(frozen) == "DEEP_ARCHIVE at aws-eu"
    assert chosen_of(replace(frozen, rules=replace(DIRECT, allow_restore=True, never_archive=True))) == (
        "GLACIER_IR at aws-eu"
    )


def test_a_direct_prefix_never_loses_the_copy_that_readers_use():
    for reads in (0.0, 0.1, 10.0, 1000.0):
        for rf in (1, 2, 3):
            thing = item(reads=reads, rules=replace(DIRECT, rf=rf), region="europe-west1")
            costs = price(problem(thing))
            decision = decide(costs)[0]
            assert "aws-eu" in describe(costs, decision.chosen)
            assert costs.pairs[decision.chosen.primary].site == 0
            assert {move.kind for move in decision.moves} <= {MoveKind.CLASS, MoveKind.COPY}


def test_a_routed_prefix_follows_its_readers():
    decision = decision_of(item(reads=200, region="europe-west1"))
    (move,) = decision.moves
    assert (move.kind, move.from_site, move.to_site, move.to_class) == (MoveKind.MOVE, "aws-eu", "gcp-eu", "STANDARD")


def test_copies_are_added_for_the_replication_factor_one_a_provider():
    decision = decision_of(item(reads=1000, rules=replace(ROUTED, rf=3)))
    assert decision.verdict is Verdict.MUST
    assert decision.breaches == ("rf",)
    assert {move.kind for move in decision.moves} == {MoveKind.COPY}
    assert {move.to_site for move in decision.moves} == {"azure-we", "gcp-eu"}
    assert "more copies are asked for" in decision.reason


def test_without_diversity_two_sites_of_a_provider_will_do():
    twin = replace(AWS, name="aws-us", region="us-east-1", latency_ms=90)
    thing = item(reads=1000, rules=replace(ROUTED, rf=2, diversity=False))
    assert "aws-us" in chosen_of(thing, (AWS, twin, GCP))
    assert "gcp-eu" in chosen_of(replace(thing, rules=replace(ROUTED, rf=2)), (AWS, twin, GCP))


def test_the_sla_is_kept_by_one_copy_at_least():
    at_gcp = item(reads=1000, held=(Held("gcp-eu", "STANDARD", 100.0),), region="europe-west1")
    assert decision_of(at_gcp).verdict is Verdict.STAY
    decision = decision_of(replace(at_gcp, rules=replace(ROUTED, sla_ms=50)))
    assert decision.breaches == ("sla",)
    assert decision.moves[0].to_site in ("aws-eu", "azure-we")


def test_residency_drain_and_pins():
    away = decision_of(item(rules=replace(ROUTED, sites=frozenset({"gcp-eu"}))))
    assert away.breaches == ("residency",)
    assert away.moves[0].to_site == "gcp-eu"
    drained = decision_of(item(reads=1000), (replace(AWS, state=SiteState.DRAINING), *SITES[1:]))
    assert drained.breaches == ("site is draining",)
    assert drained.moves[0].kind is MoveKind.MOVE
    assert decision_of(item(rules=replace(ROUTED, pinned=True))).moves == ()


def test_nothing_new_goes_to_sites_that_are_plain_or_down():
    plain = (AWS, replace(SITES[1], encrypted=False), GCP)
    rules = replace(ROUTED, rf=2, encrypted_only=True)
    assert "gcp-eu" in chosen_of(item(reads=1000, rules=rules), plain)
    down = (AWS, SITES[1], replace(GCP, state=SiteState.UNREACHABLE))
    assert "azure-we" in chosen_of(item(reads=1000, rules=replace(ROUTED, rf=2)), down)


def test_a_copy_at_a_site_that_is_down_is_left_alone():
    down = (replace(AWS, state=SiteState.UNREACHABLE), *SITES[1:])
    assert decision_of(item(reads=0.001), down).moves == ()


def test_early_deletion_is_counted():
    young = item(reads=0.001, rules=DIRECT, held=(Held("aws-eu", "STANDARD_IA", 1.0, True),))
    costs = price(problem(young))
    decision = decide(costs)[0]
    fee = 0.0125 * 29 / 30
    assert costs.leave[0, 0] == pytest.approx(fee)
    assert decision.verdict is Verdict.HELD
    assert "times its cost" in decision.reason


@pytest.mark.parametrize(
    ("rules", "moved", "word"),
    [
        (replace(DIRECT, payback=1e6), None, "times its cost"),
        (DIRECT, 1.0, "was moved 1.0 days ago"),
    ],
)
def test_the_gate_holds_back_and_says_why(rules, moved, word):
    decision = decision_of(item(reads=0.001, rules=rules, moved=moved))
    assert decision.verdict is Verdict.HELD
    assert decision.moves == ()
    assert word in decision.reason


def test_an_unsure_demand_holds_back():
    sure = item(reads=0.9, size=GB, rules=replace(DIRECT, confidence=0.95), shape=1e6)
    decision = decision_of(sure)
    unsure = decision_of(replace(sure, demand=replace(sure.demand, shape=0.05)))
    assert unsure.probability != decision.probability
    assert 0 < unsure.probability < 1


def test_mending_does_not_smuggle_in_an_unsure_change():
    thing = item(reads=0.001, rules=replace(ROUTED, rf=2, payback=1e6))
    decision = decision_of(thing)
    assert decision.verdict is Verdict.MUST
    assert [move.kind for move in decision.moves] == [MoveKind.COPY]


def test_surplus_copies_are_removed_last():
    held = (Held("aws-eu", "STANDARD", 100.0, True), Held("gcp-eu", "STANDARD", 100.0))
    decision = decision_of(item(reads=1, held=held))
    assert [move.kind for move in decision.moves][-1] is MoveKind.REMOVE


def test_moves_share_the_whole_of_the_money():
    held = (Held("aws-eu", "STANDARD", 3.0, True), Held("gcp-eu", "NEARLINE", 3.0))
    for reads in (0.0, 1.0, 500.0):
        for rf in (1, 2, 3):
            decision = decision_of(item(reads=reads, held=held, rules=replace(ROUTED, rf=rf, payback=0, confidence=0)))
            assert sum(move.one_off for move in decision.moves) == pytest.approx(
                decision.cost.one_off if decision.moves else 0
            )
            if decision.moves:
                total = sum(move.monthly_delta for move in decision.moves)
                assert total == pytest.approx(decision.monthly_delta, abs=1e-12)


def test_tiny_objects_stay():
    assert decision_of(item(reads=0.001, size=2000, rules=DIRECT)).moves == ()


def test_rf_above_the_providers_is_explained_with_the_cheapest_relaxation():
    thing = item(rules=replace(ROUTED, rf=5))
    whole = problem(thing)
    assert solve(price(whole)) == [None]
    conflict = placement_conflicts.explain(whole, thing)
    assert conflict.rules == ("rf 5",)
    assert conflict.relaxations[0].words == "rf 3"
    assert "3 sites of 3 providers" in conflict.detail


def test_several_rules_in_conflict_are_all_named():
    twin = replace(AWS, name="aws-us", latency_ms=90)
    thing = item(rules=replace(ROUTED, rf=2, sla_ms=20))
    conflict = placement_conflicts.explain(problem(thing, sites=(AWS, twin)), thing)
    assert {word.split()[0] for word in conflict.rules} == {"rf", "diversity", "sla_ms"}
    costs = [entry.usd_a_month for entry in conflict.relaxations]
    assert costs == sorted(costs)


def test_direct_readers_outside_residency_are_a_conflict():
    thing = item(rules=replace(DIRECT, sites=frozenset({"gcp-eu"})))
    conflict = placement_conflicts.explain(problem(thing), thing)
    assert set(conflict.rules) == {"residency", "readers direct"}


def test_the_split_adds_up_to_the_objective():
    costs = price(problem(item(reads=3, rules=replace(ROUTED, rf=2))))
    chosen = solve(costs)[0]
    rows = costs.hold[0, list(chosen.columns)].sum() + costs.serve[0, chosen.primary] + costs.base[0]
    assert split(costs, 0, chosen).total == pytest.approx(rows, rel=1e-12)


@pytest.mark.parametrize("shape", [0.3, 1.0, 5.0, 60.0, 300.0, 5000.0])
def test_the_gamma_distribution_agrees_with_scipy(shape):
    from scipy.special import gammainc

    for x in (shape / 10, shape / 2, shape, shape * 1.3, shape * 4):
        assert gamma_cdf(shape, x) == pytest.approx(float(gammainc(shape, x)), abs=2e-4)


def test_the_probability_of_saving_is_one_tail_of_the_demand():
    thing = item(reads=30, shape=2.0)
    up = saving_probability(thing, -1.0, 1.0, 30)
    down = saving_probability(thing, 1.0, -1.0, 30)
    assert up + down == pytest.approx(1)
    assert saving_probability(item(reads=0), 1.0, 0.0, 30) == 1.0
    assert saving_probability(item(reads=0), -1.0, 0.0, 30) == 0.0


def test_demand_leans_on_the_prior_until_history_outweighs_it():
    prior = Prior(reads=1.0, bytes=100.0)
    fresh = expect(History((), 0.0, 0.0), prior)
    assert fresh.reads == pytest.approx(1.0)
    assert fresh.bytes == pytest.approx(100.0)
    watched = History((RegionReads("eu", 60.0, 600.0), RegionReads("us", 20.0, 0.0)), 40.0, 2.0)
    seen = expect(watched, prior, p_hot=0.3)
    days = 60 / math.log(2) * (1 - 0.5 ** (40 / 60))
    assert seen.reads == pytest.approx((80 + 20) / (days + 20))
    assert seen.bytes == pytest.approx((600 + 2000) / (days + 20))
    assert seen.shape == pytest.approx(100)
    assert (seen.idle_days, seen.p_hot) == (2.0, 0.3)


def test_silence_in_a_short_log_is_not_certainty():
    assert cohort_prior([]).reads == pytest.approx(0.025)
    silent = History((), 90.0, 90.0)
    assert cohort_prior([(silent, GB)] * 100).reads < 1e-4


def test_half_the_objects_of_a_problem_may_be_infeasible():
    hopeless = item(rules=replace(ROUTED, rf=5), number=2)
    verdicts = [entry.verdict for entry in decide(price(problem(item(reads=1000), hopeless)))]
    assert verdicts == [Verdict.STAY, Verdict.INFEASIBLE]


def test_an_object_without_demand_has_no_nan():
    costs = price(problem(item()))
    assert np.isfinite(costs.serve).all()
    assert Demand().reads == 0
