"""The protocol's decisions: when a move may start, what a failure means, and every condition of a delete."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.db.tables_work import MIGRATION_KEPT
from app.domain.jobs import RetryPolicy
from app.domain.migrations import (
    MAX_PARTS,
    MIN_PART,
    SITE_WAIT_S,
    MoveFacts,
    Owner,
    ReplicaFacts,
    SiteFacts,
    Tally,
    admit,
    after_failure,
    drains_source,
    is_growing,
    owner,
    part_size,
)
from app.domain.objects import Finding, Known, delete_is_news, judge, write_is_news
from app.domain.pins import Pin
from app.domain.policies import Readers, Rules
from app.domain.sites import Capabilities
from app.domain.source_deletes import KEPT_FOR_NOW, DeleteAction, DeleteFacts, look_again_s, may_delete
from app.domain.states import JobState, MigrationState, MoveKind, ObjectState, ReplicaState, SiteState
from app.errors import (
    AccessDenied,
    Blocked,
    Cancelled,
    ChecksumMismatch,
    OverBudget,
    SiteFaulty,
    SiteUnavailable,
    Skipped,
    Throttled,
)

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
PIN = Pin("etag", 10, NOW - timedelta(days=1))
OTHER = replace(PIN, etag="other", last_modified=NOW)
ABLE = Capabilities(conditional_put=True, conditional_delete=True, conditional_copy=True, classes=("STANDARD", "COLD"))
SITE = SiteFacts("a", SiteState.READY, ABLE, encrypted=False)
SERVING = ReplicaFacts(ReplicaState.SERVING, "STANDARD", current=True, ours=False, pin=PIN)
ROUTED = Rules(readers=Readers.ROUTED)
MOVE = MoveFacts(
    MoveKind.MOVE, "key", ObjectState.PRESENT, "COLD", ROUTED, SITE, SERVING,
    destination=replace(SITE, name="b"), elsewhere=0,
)  # fmt: skip
POLICY = RetryPolicy()


def refusal(move):
    with pytest.raises((Skipped, Blocked, SiteUnavailable)) as caught:
        admit(move)
    return caught.value.reason


def test_a_move_that_nothing_forbids_may_start():
    admit(MOVE)
    admit(replace(MOVE, destination_replica=replace(SERVING, state=ReplicaState.STALE, current=False)))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"object_state": ObjectState.GONE}, "object_gone"),
        ({"source_replica": None}, "source_not_serving"),
        ({"source_replica": replace(SERVING, current=False)}, "source_not_serving"),
        ({"source_replica": replace(SERVING, state=ReplicaState.DRAINING)}, "source_not_serving"),
        ({"rules": replace(ROUTED, pinned=True)}, "pinned"),
        ({"rules": replace(ROUTED, encrypted_only=True)}, "destination_not_encrypted"),
        ({"rules": replace(ROUTED, sites=frozenset({"a"}))}, "residency"),
        ({"source": replace(SITE, state=SiteState.UNREACHABLE)}, "site_unavailable"),
        ({"destination": replace(SITE, state=SiteState.UNREACHABLE)}, "site_unavailable"),
        ({"destination": replace(SITE, state=SiteState.DRAINING)}, "destination_not_ready"),
        ({"destination_replica": SERVING}, "already_there"),
        ({"destination_replica": replace(SERVING, state=ReplicaState.DRAINING)}, "destination_draining"),
        ({"to_class": "ICE"}, "class_not_kept"),
        ({"key": "a//b"}, "key_not_kept"),
        ({"kind": MoveKind.CLASS, "to_class": "STANDARD"}, "already_there"),
        ({"kind": MoveKind.CLASS, "source": replace(SITE, capabilities=Capabilities(classes=("COLD",)))},
         "no_conditional_copy"),
        ({"kind": MoveKind.REMOVE, "rules": Rules()}, "readers_direct"),
        ({"kind": MoveKind.REMOVE}, "too_few_replicas"),
    ],
)  # fmt: skip
def test_a_move_that_something_forbids_says_what(change, reason):
    assert refusal(replace(MOVE, **change)) == reason


def test_only_a_routed_prefix_drains_its_source():
    assert drains_source(MoveKind.MOVE, ROUTED)
    assert not drains_source(MoveKind.MOVE, Rules())
    assert not drains_source(MoveKind.COPY, ROUTED)
    assert not drains_source(MoveKind.CLASS, ROUTED)


@pytest.mark.parametrize(("age_s", "growing"), [(-3600, True), (0, True), (4.9, True), (5, False), (3600, False)])
def test_growing_is_judged_by_the_servers_own_clock(age_s, growing):
    server = datetime(2001, 1, 1, tzinfo=UTC)  # an hour or decades off: only the difference counts
    assert is_growing(server - timedelta(seconds=age_s), server, 5.0) is growing
    assert not is_growing(NOW, None, 5.0)


@settings(deadline=None)  # how busy the machine is shows nothing
@given(st.integers(0, 5 * 2**40), st.integers(1, 64 * 2**20))
def test_parts_are_neither_too_many_nor_too_small(size, least):
    chosen = part_size(size, least)
    assert chosen >= MIN_PART
    assert chosen >= least
    assert -(-size // chosen) <= MAX_PARTS


# -- failures ---------------------------------------------------------------------------------------------------------


def failure(error, attempts=0, retries=0, mismatches=0, jitter=0.5):
    return after_failure(error, attempts, retries, mismatches, POLICY, jitter)


def test_retries_back_off_and_honour_retry_after():
    assert [failure(SiteFaulty(), n, jitter=0.999).delay_s for n in range(4)] == pytest.approx(
        [0.999, 1.998, 3.996, 7.992]
    )
    assert failure(Throttled(retry_after_s=17)).delay_s == 17
    assert failure(Throttled(retry_after_s=0.1), attempts=3, jitter=0.5).delay_s == 4


def test_the_fifth_counted_attempt_is_the_last():
    assert failure(Throttled(), attempts=3).state is MigrationState.WAITING
    assert failure(Throttled(), attempts=4).state is MigrationState.DEAD
    assert failure(RuntimeError(), attempts=4).state is MigrationState.DEAD


def test_a_silent_site_uses_no_attempts_up():
    found = failure(SiteUnavailable(), attempts=4, retries=1000)
    assert (found.state, found.counts) == (MigrationState.WAITING, False)
    assert found.delay_s <= SITE_WAIT_S


def test_what_is_permanent_is_not_tried_again():
    assert failure(AccessDenied()).state is MigrationState.FAILED
    assert failure(Blocked(reason="x")) == replace(failure(Blocked(reason="x")), state=MigrationState.BLOCKED)
    assert failure(Skipped()).state is MigrationState.SKIPPED
    assert failure(Cancelled()).state is MigrationState.CANCELLED
    assert failure(ChecksumMismatch()).state is MigrationState.WAITING
    assert failure(ChecksumMismatch(), mismatches=1).state is MigrationState.FAILED


def test_a_used_up_budget_waits_for_the_next_day():
    found = failure(OverBudget(retry_after_s=4000), attempts=4)
    assert (found.state, found.delay_s, found.counts) == (MigrationState.WAITING, 4000, False)


@pytest.mark.parametrize(
    ("mark", "expected"),
    [
        ("id.3", Owner.OURS), ("id.2", Owner.OURS), ("id.4", Owner.SUCCESSOR), ("other.3", Owner.OTHER),
        (None, Owner.OTHER), ("id", Owner.OTHER), ("id.x", Owner.OTHER),
    ],
)  # fmt: skip
def test_what_stands_at_a_destination_is_known_by_its_mark(mark, expected):
    assert owner("id", 3, mark) is expected


# -- deletes ----------------------------------------------------------------------------------------------------------

DELETE = DeleteFacts(
    rules=ROUTED,
    now=NOW,
    grace_until=NOW,
    pinned=PIN,
    source_now=PIN,
    source_draining=True,
    destination_pinned=OTHER,
    destination_now=OTHER,
    verified_elsewhere=1,
    serving_elsewhere=1,
    locked=False,
    site=SITE,
)


def test_a_source_is_deleted_when_every_condition_holds():
    verdict = may_delete(DELETE)
    assert verdict.action is DeleteAction.DELETE
    assert all(verdict.conditions.values())


@pytest.mark.parametrize(
    ("change", "action", "reason"),
    [
        ({"grace_until": NOW + timedelta(seconds=1)}, DeleteAction.WAIT, "grace"),
        ({"source_now": None}, DeleteAction.GONE, "source_gone"),
        ({"source_now": OTHER}, DeleteAction.REVERSE, "source_changed_after_switch"),
        ({"source_rewritten": True}, DeleteAction.REVERSE, "source_changed_after_switch"),
        ({"source_rewritten": True, "destination_rewritten": True}, DeleteAction.KEEP, "both_changed"),
        ({"destination_now": None}, DeleteAction.REVERSE, "destination_lost"),
        ({"source_now": OTHER, "destination_now": PIN}, DeleteAction.KEEP, "both_changed"),
        ({"rules": Rules()}, DeleteAction.KEEP, "readers_direct"),
        ({"source_draining": False}, DeleteAction.KEEP, "source_not_draining"),
        ({"destination_now": PIN}, DeleteAction.KEEP, "destination_changed"),
        ({"rules": replace(ROUTED, pinned=True)}, DeleteAction.KEEP, "pinned"),
        ({"locked": True}, DeleteAction.KEEP, "object_lock"),
        ({"site": replace(SITE, capabilities=Capabilities())}, DeleteAction.KEEP, "no_guarded_delete"),
        ({"verified_elsewhere": 0}, DeleteAction.KEEP, "too_few_replicas"),
        ({"verified_elsewhere": 0, "serving_elsewhere": 0}, DeleteAction.REVERSE, "last_copy"),
        ({"rules": replace(ROUTED, rf=2)}, DeleteAction.KEEP, "too_few_replicas"),
        ({"source_now": None, "version_hidden": True}, DeleteAction.KEEP, "version_hidden"),
    ],
)
def test_a_delete_is_refused_when_one_condition_does_not_hold(change, action, reason):
    verdict = may_delete(replace(DELETE, **change))
    assert (verdict.action, verdict.reason) == (action, reason)


def test_a_source_that_is_kept_for_now_is_looked_at_ever_more_seldom():
    assert [look_again_s(since) for since in (0, 3600, 7200, 10**6)] == [3600, 3600, 7200, 86_400]
    assert all(f"'source_kept_{reason}'" in MIGRATION_KEPT for reason in KEPT_FOR_NOW)
    assert MIGRATION_KEPT.count("source_kept_") == len(KEPT_FOR_NOW)


def test_an_operator_may_allow_unguarded_deletes():
    bare = replace(SITE, capabilities=Capabilities(), allow_unguarded_delete=True)
    assert may_delete(replace(DELETE, site=bare)).action is DeleteAction.DELETE


# -- the world --------------------------------------------------------------------------------------------------------


def test_a_pin_is_the_same_write_whatever_its_class():
    assert PIN.same_object(replace(PIN, storage_class="COLD", version_id="v1"))
    for change in ({"etag": "x"}, {"size": 11}, {"last_modified": NOW}):
        assert not PIN.same_object(replace(PIN, **change))
    assert not replace(PIN, version_id="v1").same_object(replace(PIN, version_id="v2"))
    assert Pin.from_json(PIN.as_json()) == PIN


@pytest.mark.parametrize(
    ("listed", "known", "finding"),
    [
        (PIN, None, Finding.NEW),
        (PIN, Known(ReplicaState.SERVING, PIN, moving=False), Finding.SAME),
        (PIN, Known(ReplicaState.SERVING, None, moving=False), Finding.SAME),
        (OTHER, Known(ReplicaState.SERVING, PIN, moving=False), Finding.CHANGED),
        (OTHER, Known(ReplicaState.SERVING, PIN, moving=True), Finding.NOTHING),
        (PIN, Known(ReplicaState.SERVING, OTHER, moving=False), Finding.NOTHING),
        (PIN, Known(ReplicaState.DELETED, PIN, moving=False), Finding.NOTHING),
        (OTHER, Known(ReplicaState.DELETED, PIN, moving=False), Finding.CHANGED),
        (PIN, Known(ReplicaState.STALE, None, moving=False), Finding.NEW),
        (PIN, Known(ReplicaState.STALE, None, moving=False, was_deleted=True), Finding.CHANGED),
        (PIN, Known(ReplicaState.COPYING, None, moving=False, marked=True), Finding.NOTHING),
    ],
)
def test_a_listing_is_believed_only_when_it_is_news(listed, known, finding):
    assert judge(listed, known) is finding


def test_reported_writes_and_deletes_that_are_foretides_own_say_nothing():
    assert write_is_news(NOW, ReplicaState.SERVING, PIN)
    assert not write_is_news(PIN.last_modified, ReplicaState.SERVING, PIN)
    assert delete_is_news(NOW, ReplicaState.SERVING, PIN)
    assert not delete_is_news(NOW, ReplicaState.DELETED, PIN)
    assert not delete_is_news(NOW, ReplicaState.DRAINING, PIN)
    assert not write_is_news(NOW, ReplicaState.COPYING, PIN), "an older copy of Foretide's is being replaced"
    assert not delete_is_news(NOW, ReplicaState.STALE, PIN), "a copy that was not read any more"


@pytest.mark.parametrize(
    ("counts", "outcome"),
    [
        ({"open": 1}, None),
        ({"verified": 3, "skipped": 1, "blocked": 1}, JobState.SUCCEEDED),
        ({"verified": 3, "failed": 1}, JobState.FAILED),
        ({"cancelled": 2}, JobState.CANCELLED),
        ({}, JobState.SUCCEEDED),
    ],
)
def test_a_jobs_end_follows_from_its_migrations(counts, outcome):
    none = dict.fromkeys(("planned", "verified", "skipped", "blocked", "failed", "cancelled", "open", "retried"), 0)
    assert Tally(**none | counts, reasons={}).outcome is outcome
