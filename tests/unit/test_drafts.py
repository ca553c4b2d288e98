"""What a plan's draft keeps of many blocks does not grow with them."""

from dataclasses import replace

from app.domain.plans import KEYS_SHOWN
from app.domain.policies import Policies
from tests.unit.placement_cases import item, problem
from workers.drafts import SHOWN, Draft, decide_block

NOWHERE = Policies({"sla": {"default": {"readers": "routed", "rf": 5}}}).rules("x")


def test_objects_without_a_placement_are_grouped_over_all_blocks():
    draft = Draft(None, 30.0)
    for block in range(3):
        things = [replace(item(number=4 * block + n, rules=NOWHERE), key=f"{block}/{n}") for n in range(1, 5)]
        decide_block(draft, problem(*things))
    (group,) = draft.infeasible
    assert group["objects"] == 12
    assert group["keys"] == ["0/1", "0/2", "0/3", "0/4", "1/1"][:KEYS_SHOWN]


def test_of_what_is_left_out_the_first_are_kept_and_all_counted():
    draft = Draft(None, 30.0)
    for block in range(3):
        draft.leave_out(tuple((f"{block}/{n}", "no prices") for n in range(15)))
    assert draft.left_out == 45
    assert len(draft.unplanned) == SHOWN
    assert draft.unplanned[15] == ("1/0", "no prices")
