from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from app.domain.pins import Pin
from app.domain.policies import Readers, Rules
from app.domain.scrub import Mark
from app.domain.tidying import Cause, Claimant, RemovalFacts, is_orphan, may_remove

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
PIN, OTHER = Pin("e", 3, NOW - HOUR), Pin("x", 3, NOW - HOUR)
ALL_HOLD = RemovalFacts(
    cause=Cause.LEFTOVER,
    rules=Rules(readers=Readers.ROUTED),
    now=NOW,
    not_before=NOW,
    pinned=PIN,
    proven=True,
    found=PIN,
    mark=Mark.OURS,
    witnesses=1,
    locked=False,
    guarded=True,
)


@pytest.mark.parametrize(
    ("changed", "verdict"),
    [
        ({}, "delete all_conditions_hold"),
        ({"not_before": NOW + HOUR}, "wait grace"),
        ({"found": None}, "absent absent"),
        ({"found": OTHER, "mark": Mark.NONE}, "keep changed"),
        ({"found": OTHER, "mark": Mark.FOREIGN}, "keep changed"),
        ({"found": OTHER}, "delete all_conditions_hold"),
        ({"pinned": None, "proven": False}, "delete all_conditions_hold"),
        ({"pinned": None, "proven": False, "mark": Mark.UNRECORDED}, "delete all_conditions_hold"),
        ({"pinned": None, "proven": False, "mark": Mark.FOREIGN}, "keep not_ours"),
        ({"pinned": None, "proven": False, "mark": Mark.NONE}, "keep not_ours"),
        ({"proven": False, "mark": Mark.NONE}, "keep not_ours"),
        ({"rules": Rules(readers=Readers.ROUTED, pinned=True)}, "keep pinned"),
        ({"rules": Rules(readers=Readers.DIRECT)}, "keep readers_direct"),
        ({"rules": Rules(readers=Readers.DIRECT), "proven": False}, "delete all_conditions_hold"),
        ({"locked": True}, "keep object_lock"),
        ({"guarded": False}, "keep no_guarded_delete"),
        ({"witnesses": 0}, "keep no_good_copy"),
        ({"cause": Cause.GONE, "witnesses": 0, "mark": Mark.NONE, "proven": False}, "delete all_conditions_hold"),
        ({"cause": Cause.GONE, "found": OTHER}, "keep changed"),
        ({"cause": Cause.GONE, "rules": Rules(readers=Readers.DIRECT)}, "keep readers_direct"),
        ({"cause": Cause.OPERATOR, "rules": Rules(readers=Readers.DIRECT)}, "delete all_conditions_hold"),
        ({"cause": Cause.OPERATOR, "rules": Rules(pinned=True)}, "keep pinned"),
    ],
)
def test_a_copy_goes_only_when_every_condition_holds(changed, verdict):
    found = may_remove(replace(ALL_HOLD, **changed))
    assert f"{found.action} {found.reason}" == verdict


def claimant(upload_id=None, *, active=False, held=False):
    return Claimant(upload_id, active, held, began=NOW - HOUR, lapsed=NOW)


@pytest.mark.parametrize(
    ("claimants", "initiated", "has_parts", "orphan"),
    [
        ([], NOW, False, False),
        ([claimant("u")], NOW, True, True),
        ([claimant("u", active=True)], NOW, True, False),
        ([claimant("u"), claimant("u", active=True)], NOW, True, False),
        ([claimant()], NOW - HOUR / 2, False, True),
        ([claimant()], NOW - HOUR / 2, True, False),
        ([claimant()], NOW - 2 * HOUR, False, False),
        ([claimant()], NOW + HOUR, False, False),
        ([claimant("v", active=True)], NOW - HOUR / 2, False, True),
        ([claimant("v", active=True, held=True)], NOW - HOUR / 2, False, False),
        ([claimant(), claimant(active=True, held=True)], NOW - HOUR / 2, False, False),
    ],
)
def test_an_upload_is_an_orphan_only_when_a_migration_surely_began_it(claimants, initiated, has_parts, orphan):
    assert is_orphan("u", initiated, claimants, has_parts=has_parts) is orphan
