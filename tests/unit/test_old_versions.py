"""When a version that a move has left may go, and when its removal has uncovered an older one."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from app.domain.old_versions import VersionAction, VersionFacts, left_behind, may_remove, older_is_read
from app.domain.pins import Pin

NOW = datetime(2026, 5, 1, tzinfo=UTC)
PIN = Pin("e", 1, NOW, "v2")
OLDER, NEWER = Pin("d", 1, NOW - timedelta(days=1), "v1"), Pin("f", 1, NOW + timedelta(days=1), "v3")
FACTS = VersionFacts("v2", PIN, PIN, None, locked=False, copies=1, rf=1)


@pytest.mark.parametrize(
    ("pin", "versioning", "version_id"),
    [
        (PIN, True, "v2"),
        (PIN, False, "v2"),  # the bucket's versioning is suspended: the version stays behind a marker all the same
        (replace(PIN, version_id=None), True, "null"),
        (replace(PIN, version_id=None), False, None),
    ],
)
def test_what_a_move_leaves(pin, versioning, version_id):
    assert left_behind(pin, versioning=versioning) == version_id


@pytest.mark.parametrize(
    ("change", "action", "reason"),
    [
        ({}, VersionAction.REMOVE, "all_conditions_hold"),
        ({"current": NEWER}, VersionAction.REMOVE, "all_conditions_hold"),
        ({"there": None}, VersionAction.GONE, "version_gone"),
        ({"version_id": "null", "there": replace(NEWER, version_id=None)}, VersionAction.GONE, "version_gone"),
        ({"current": PIN}, VersionAction.KEEP, "current_again"),
        ({"version_id": "null", "current": replace(PIN, version_id=None)}, VersionAction.KEEP, "current_again"),
        ({"locked": True}, VersionAction.WAIT, "object_lock"),
        ({"copies": 0}, VersionAction.WAIT, "too_few_replicas"),
        ({"rf": 2}, VersionAction.WAIT, "too_few_replicas"),
        ({"copies": None}, VersionAction.REMOVE, "all_conditions_hold"),
    ],
)
def test_what_may_go(change, action, reason):
    assert may_remove(replace(FACTS, **change)) == (action, reason)


def test_an_older_version_that_is_read_since_is_noticed():
    assert not older_is_read(FACTS, None)
    assert older_is_read(FACTS, OLDER)
    assert not older_is_read(FACTS, NEWER)
    assert not older_is_read(replace(FACTS, current=OLDER), OLDER), "its owner had brought that back before"
