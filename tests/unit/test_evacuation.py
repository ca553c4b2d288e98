from dataclasses import replace

import pytest

from app.domain.evacuation import Held, Rate, eta_s, why_stays
from app.domain.policies import Readers, Rules
from app.domain.states import ObjectState, ReplicaState

GOES = Held(ObjectState.PRESENT, ReplicaState.SERVING, current=True, ours=False, rules=Rules(readers=Readers.ROUTED))


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({}, None),
        ({"object_state": ObjectState.GONE}, "object_gone"),
        ({"moving": True}, "object_is_moving"),
        ({"state": ReplicaState.DRAINING}, "source_kept"),
        ({"state": ReplicaState.STALE, "ours": True}, "being_removed"),
        ({"state": ReplicaState.REMOVING}, "being_removed"),
        ({"state": ReplicaState.STALE}, "stale"),
        ({"state": ReplicaState.CORRUPT}, "corrupt"),
        ({"current": False}, "outdated"),
        ({"rules": Rules(readers=Readers.ROUTED, pinned=True)}, "pinned"),
        ({"rules": Rules(readers=Readers.DIRECT)}, "readers_direct"),
        ({"tried": 1, "last_reason": "file_growing"}, None),
        ({"tried": 2, "last_reason": "destination_exists"}, "destination_exists"),
    ],
)
def test_why_a_copy_stays(changed, why):
    assert why_stays(replace(GOES, **changed)) == why


def test_the_rest_takes_as_long_as_the_slower_of_objects_and_bytes():
    rate = Rate(objects=10, bytes=1000, seconds=5)
    assert eta_s(20, 1000, rate, grace_s=60) == 70
    assert eta_s(2, 4000, rate, grace_s=60) == 80
    assert eta_s(0, 0, rate, grace_s=60) == 0
    assert eta_s(2, 10, Rate(0, 0, 0), grace_s=60) is None
