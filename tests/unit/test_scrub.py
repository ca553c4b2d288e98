from datetime import UTC, datetime, timedelta

import pytest

from app.domain.pins import Pin
from app.domain.scrub import (
    Dumped,
    FindingKind,
    Looked,
    Mark,
    Suspicion,
    Why,
    confirm,
    is_corrupt,
    suspect,
)
from app.domain.states import ReplicaState

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
OLD = BEGAN - timedelta(hours=1)


def pin(etag="e", size=3, at=OLD):
    return Pin(etag, size, at)


def dumped(state=ReplicaState.SERVING, held=None, version=1, moving=False):
    return Dumped(state, held if held is not None else pin(), version, moving)


def kind_of(first, listed, second="same"):
    found = suspect(first, listed, first if second == "same" else second, BEGAN)
    return found and (found.kind.value, found.why.value)


@pytest.mark.parametrize(
    ("first", "listed", "found"),
    [
        (None, pin(), ("dark", "unknown")),
        (None, None, None),
        (None, pin(at=BEGAN), None),
        (dumped(), pin(), None),
        (dumped(), None, ("missing", "absent")),
        (dumped(ReplicaState.DRAINING), None, ("missing", "absent")),
        (dumped(ReplicaState.LOST), None, ("missing", "absent")),
        (dumped(ReplicaState.LOST), pin(), None),
        (dumped(ReplicaState.STALE), None, None),
        (dumped(ReplicaState.STALE), pin("x"), None),
        (dumped(ReplicaState.DELETED), pin(), ("dark", "unknown")),
        (dumped(ReplicaState.DELETED), None, None),
        (dumped(), pin("x", at=BEGAN), ("corrupt", "rewritten")),
        (dumped(), pin("x", at=OLD), ("corrupt", "rewritten")),
        (dumped(), pin("x", at=OLD - timedelta(days=1)), ("corrupt", "older")),
        (dumped(), pin(at=BEGAN), None),
        (dumped(ReplicaState.CORRUPT), pin(), ("corrupt", "bytes")),
        (dumped(moving=True), None, None),
        (Dumped(ReplicaState.COPYING, None, 1, False), pin(), ("dark", "unknown")),
        (Dumped(ReplicaState.SERVING, None, 1, False), None, None),
    ],
)
def test_what_dumps_and_listing_say(first, listed, found):
    assert kind_of(first, listed) == found


@pytest.mark.parametrize(
    "second",
    [None, dumped(held=pin("new")), dumped(ReplicaState.DELETED), dumped(version=2), dumped(moving=True)],
)
def test_nothing_is_said_where_the_dumps_differ(second):
    assert kind_of(dumped(), None, second) is None
    assert kind_of(second, None, dumped()) is None


@pytest.mark.parametrize(
    ("suspicion", "found", "left"),
    [
        ("missing absent", None, "missing absent"),
        ("missing absent", (pin(), Mark.NONE), None),
        ("dark unknown", None, None),
        ("dark unknown", (pin("other"), Mark.NONE), None),
        ("dark unknown", (pin(), Mark.NONE), "dark unknown"),
        ("dark unknown", (pin(), Mark.FOREIGN), "dark unknown"),
        ("dark unknown", (pin(), Mark.OURS), "dark leftover"),
        ("dark unknown", (pin(), Mark.UNRECORDED), "dark leftover"),
        ("corrupt rewritten", (pin(), Mark.OURS), "corrupt rewritten"),
        ("corrupt rewritten", (pin(), Mark.NONE), None),
        ("corrupt rewritten", (pin(), Mark.FOREIGN), None),
        ("corrupt older", (pin(), Mark.NONE), "corrupt older"),
        ("corrupt older", (pin("x"), Mark.OURS), None),
    ],
)
def test_a_look_confirms_or_dispels(suspicion, found, left):
    kind, why = suspicion.split()
    looked = Looked(*found) if found else None
    confirmed = confirm(Suspicion(FindingKind(kind), Why(why)), pin(), looked)
    assert (f"{confirmed.kind} {confirmed.why}" if confirmed else None) == left


def test_other_bytes_are_corrupt_unless_they_are_shown_to_be_right():
    rewritten, older = Suspicion(FindingKind.CORRUPT, Why.REWRITTEN), Suspicion(FindingKind.CORRUPT, Why.OLDER)
    assert is_corrupt(rewritten, pin(), pin("x"), bytes_right=False)
    assert not is_corrupt(rewritten, pin(), pin("x"), bytes_right=True)
    assert not is_corrupt(rewritten, pin(), pin("x"), bytes_right=None), "a change of class leaves another ETag"
    assert is_corrupt(rewritten, pin(), pin("x", size=4), bytes_right=None)
    assert is_corrupt(older, pin(), pin("x"), bytes_right=None)
    assert not is_corrupt(older, pin(), pin("x"), bytes_right=True)
