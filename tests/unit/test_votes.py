"""The count of votes: two of three on one pair, else as it lies; what rules demand asks nobody."""

import subprocess
import sys
from dataclasses import replace

import pytest

from app.domain.explanation import explain
from app.domain.placement import solve, totals
from app.domain.placement_costs import price
from app.domain.placement_coupled import solve_coupled
from app.domain.placement_decisions import Verdict, decide
from app.domain.placement_milp import solve_milp
from app.domain.placement_problem import Held
from app.domain.placement_rows import Row, Use
from app.domain.placement_votes import voted
from app.domain.policies import Readers, Rules
from app.domain.prices import GB
from app.domain.states import SiteState
from app.domain.votes import Ballot, Opinion, Speaker, silent
from tests.unit.placement_cases import AWS, GCP, SITES, item, problem

IA, IR, HOT = "STANDARD_IA", "GLACIER_IR", "STANDARD"
VOTE = Speaker("vote of three", True, ("reads", "idle days", "values"), IR)
ALONE = Speaker("warm after 30 idle days", False, ("reads", "idle days", "values"), IR)
OPEN = Rules(readers=Readers.ROUTED, payback=0, confidence=0, min_residency_days=0)

CAREFUL = replace(OPEN, payback=1)


def said(*targets, standing=HOT, target=HOT, gains=(0.5, 0.5, 0.5), rest=None, speaker=VOTE, back=False, expects=0.0):
    return Ballot(speaker, standing, targets, gains, target, expects, rest or standing, back)


def asked(*targets, site="aws-eu", sites=None, reads=0.0, size=100 * GB, rules=OPEN, held=None, moved=None, **more):
    opinion = Opinion(sites or {site: said(*targets, **more)}, "placement 1")
    return replace(item(reads, size, rules, held, moved=moved), opinion=opinion)


def decided(thing, sites=(AWS,)):
    (decision,) = decide(price(problem(thing, sites=sites)))
    return decision


def to(decision):
    return [(move.kind.value, move.to_site, move.to_class) for move in decision.moves]


@pytest.mark.parametrize(
    ("targets", "expected"),
    [((IA, IA, IR), IA), ((IR, IA, IR), IR), ((HOT, IA, IA), IA), ((HOT, IA, IR), None), ((HOT, HOT, IR), None)],
)
def test_two_of_three_move_and_fewer_do_not(targets, expected):
    decision = decided(asked(*targets))
    assert to(decision) == ([] if expected is None else [("class", "aws-eu", expected)])
    assert decision.verdict is (Verdict.MOVE if expected else Verdict.STAY)


def test_without_the_vote_the_same_object_goes_where_it_is_expected_to_cost_least():
    thing = asked(HOT, HOT, HOT)
    assert to(decided(thing)) == []
    assert to(decided(replace(thing, opinion=None))) == [("class", "aws-eu", IR)]
    quiet = decided(replace(thing, opinion=silent("no vote, since 30 days of accesses are known")))
    assert to(quiet) == [("class", "aws-eu", IR)]
    assert quiet.reason.endswith("no vote, since 30 days of accesses are known")


def test_who_voted_what_stands_in_the_reason_and_in_the_explanation():
    thing = asked(IA, IA, IR, gains=(0.25, 0.5, 2.0))
    assert decided(thing).reason.endswith(
        "vote of three: rate STANDARD_IA ($0.25), timeouts STANDARD_IA ($0.5), values GLACIER_IR ($2.00)"
    )
    shown = explain(problem(thing, sites=(AWS,)))["vote"]
    assert shown["model"] == "placement 1"
    votes = shown["sites"]["aws-eu"]["votes"]
    assert [(vote["voter"], vote["target"]) for vote in votes] == [("rate", IA), ("timeouts", IA), ("values", IR)]
    assert votes[0]["goes_by"] == "reads"


def test_an_uncertain_object_goes_to_the_managed_class_where_there_is_one():
    managed = "INTELLIGENT_TIERING"
    decision = decided(asked(managed, IA, IR, rest=managed))
    assert to(decision) == [("class", "aws-eu", managed)]


def test_what_decides_alone_needs_no_second_voice():
    decision = decided(asked(HOT, HOT, HOT, speaker=ALONE, target=IA, expects=1.0))
    assert to(decision) == [("class", "aws-eu", IA)]


def test_the_gate_stands_on_top_and_asks_what_the_voters_expect():
    strict = replace(OPEN, payback=1.5, confidence=0.99)
    poor, rich = (decided(asked(IA, IA, HOT, gains=gains, rules=strict)) for gains in ((1e-9, 1e-9, 0), (1, 3, 0)))
    assert poor.verdict is Verdict.HELD
    assert "1.0 times its cost, not 1.5" in poor.gate[0]
    assert rich.verdict is Verdict.MOVE, "their agreement stands for being sure"


def test_a_change_that_expected_reads_would_not_pay_is_priced_with_those_that_its_voters_believe_in():
    decision = decided(asked(HOT, IR, IR, gains=(0, 1.0, 3.0), reads=200))
    assert to(decision) == [("class", "aws-eu", IR)]
    assert decision.today_cost.total - decision.cost.total == pytest.approx(2.0)
    assert decision.item.demand.reads < 200 / 30
    assert sum(move.monthly_delta for move in decision.moves) == pytest.approx(decision.monthly_delta)
    assert decision.monthly_delta < 0
    usual = decided(asked(HOT, IR, IR, gains=(0, 1.0, 3.0), reads=0.1))
    assert usual.item.demand.reads == pytest.approx(0.1 / 30), "expected reads pay it already"


def test_nothing_that_costs_more_within_the_horizon_is_done_because_voters_see_further():
    """Early deletion is owed now; what they expect lies past the plan's days, whatever is read."""
    held = (Held("aws-eu", IA, 0.0, True),)
    poor = asked("ONEZONE_IA", "ONEZONE_IA", IA, standing=IA, gains=(1, 1, 0), held=held, rules=CAREFUL, reads=1)
    decision = decided(poor)
    assert (decision.verdict, decision.moves) == (Verdict.HELD, ())
    assert "times its cost, not 1" in decision.gate[0]
    assert decision.cost.total == decision.today_cost.total


def test_what_reads_have_made_too_dear_comes_back_whatever_it_is_expected_to_save():
    strict = replace(OPEN, payback=1.5)
    held = (Held("aws-eu", IR, 200.0, True),)
    decision = decided(asked(HOT, HOT, HOT, standing=IR, gains=(-9, -9, -9), back=True, held=held, rules=strict))
    assert to(decision) == [("class", "aws-eu", HOT)]
    assert "cost enough to bring it back" in decision.reason


def test_the_way_back_is_never_to_a_colder_class():
    """The vote may still go there, but only by what it expects to save."""
    strict, held = replace(OPEN, payback=1.5), (Held("aws-eu", IA, 200.0, True),)
    colder = {"standing": IA, "back": True, "held": held, "reads": 500.0}
    decision = decided(asked(IR, IR, IR, gains=(-9, -9, -9), rules=strict, **colder))
    assert (decision.verdict, decision.moves) == (Verdict.HELD, ())
    assert "times its cost" in decision.gate[0]
    assert "cost enough to bring it back" not in decision.reason
    assert "values GLACIER_IR" in decision.reason
    warmer = decided(asked(HOT, HOT, HOT, gains=(-9, -9, -9), rules=strict, **colder))
    assert to(warmer) == [("class", "aws-eu", HOT)]


def test_an_oscillating_object_moves_at_most_once_a_period():
    """The voters change their minds every day; a year has 53 weeks at most."""
    at, moved, moves = HOT, None, 0
    for day in range(365):
        wanted = IA if day % 2 else HOT
        rules, held = replace(OPEN, min_residency_days=7), (Held("aws-eu", at, float(moved or 0) + 40, True),)
        decision = decided(asked(*[wanted] * 3, standing=at, held=held, moved=moved, rules=rules, reads=1))
        moved = None if moved is None else moved + 1
        if decision.moves:
            at, moved, moves = wanted, 0.0, moves + 1
    assert 40 <= moves <= 53


def test_the_pair_is_voted_on_and_the_other_copies_lie_where_holding_is_cheapest():
    rules = replace(OPEN, rf=2)
    held = (Held("aws-eu", HOT, 200.0, True), Held("gcp-eu", "STANDARD", 200.0))
    sites = {"aws-eu": said(IA, IA, HOT), "gcp-eu": said("STANDARD", "STANDARD", "STANDARD", standing="STANDARD")}
    decision = decided(asked(sites=sites, rules=rules, held=held, reads=1), SITES)
    classes = {move.to_site: move.to_class for move in decision.moves}
    assert classes["gcp-eu"] == "COLDLINE", "nobody reads it, so nobody is asked"
    assert classes["aws-eu"] == IA


def test_egress_decides_which_site_a_voter_prefers():
    """The same class at both sites; its readers are in Google's region."""
    sites = {"aws-eu": said(HOT, HOT, HOT), "gcp-eu": said("STANDARD", "STANDARD", "STANDARD", standing="STANDARD")}
    thing = asked(sites=sites, reads=300, size=GB)
    near = replace(thing, demand=item(300, GB, region="europe-west1").demand)
    assert to(decided(near, (AWS, GCP))) == [("move", "gcp-eu", "STANDARD")]
    assert to(decided(thing, (AWS, GCP))) == []


def test_what_rules_demand_asks_nobody():
    lost = replace(AWS, state=SiteState.DRAINING)
    sites = {"aws-eu": said(HOT, HOT, HOT)}
    decision = decided(asked(sites=sites, reads=1), (lost, GCP))
    assert decision.verdict is Verdict.MUST
    assert decision.moves[0].to_site == "gcp-eu"
    more = decided(asked(HOT, HOT, HOT, rules=replace(OPEN, rf=2)), SITES)
    assert more.verdict is Verdict.MUST
    assert [move.kind.value for move in more.moves] == ["copy"]


def test_beyond_the_coldest_class_that_voters_know_archives_are_open_where_they_are_allowed():
    thing = asked(IR, IR, IR, rules=replace(OPEN, allow_restore=True))
    assert to(decided(thing)) == [("class", "aws-eu", "DEEP_ARCHIVE")]
    warm = asked(IA, IA, IA, rules=replace(OPEN, allow_restore=True))
    assert to(decided(warm)) == [("class", "aws-eu", IA)]


def test_a_ballot_on_another_class_than_it_lies_in_is_not_counted():
    thing = asked(IR, IR, IR, standing=IA)
    assert decided(thing).ballot is None


def test_the_program_and_the_closed_form_agree_on_what_the_vote_leaves():
    some = [asked(*targets, reads=reads, size=size * GB)
            for targets in ((IA, IA, HOT), (HOT, IA, IR), (IR, IR, IR))
            for reads in (0, 3, 90) for size in (1, 500)]  # fmt: skip
    costs = voted(price(problem(*some)))
    assert totals(costs, solve(costs)) == pytest.approx(totals(costs, solve_milp(costs).chosen))
    for chosen in solve(costs):
        assert chosen is not None


def test_a_budget_holds_back_what_was_voted_for():
    some = [asked(IR, IR, IR, size=size * GB) for size in (1, 50, 900)]
    costs = voted(price(problem(*some, sites=(AWS,))), or_stay=True)
    left = decide(costs, solve_coupled(costs, [Row(Use.MOVES, 1)]).chosen)
    assert [entry.verdict for entry in left] == [Verdict.STAY, Verdict.STAY, Verdict.MOVE]


def test_workers_load_the_compiler_only_when_voters_are_asked():
    code = "import sys, workers.placement, workers.models, workers.what_if; print('numba' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
