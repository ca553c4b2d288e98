"""What keeps moves back: pauses with a reason, the first wave, too many errors, rates, budgets, the worker's end."""

import time
from datetime import UTC, datetime

import pytest
from sqlalchemy import update

from app.db import jobs, migration_limits, migrations
from app.db.session import session_scope
from app.db.tables import Migration
from app.errors import Conflict, Invalid
from app.queue import TaskName
from workers import shutdown
from workers.flow import FLOW

AWS, GCP = "aws-eu", "gcp-eu"


@pytest.fixture
def world(make_world):
    return make_world(settings={"worker_slots": 1})


def states(world, job_id):
    rows = world.rows(job_id)
    return {(str(row.state), row.reason) for row in rows}


def next_tick(job_id):
    """The task has looked anew at what is to stop: each of its looks notes that the job's bell was heard."""
    with session_scope() as session:
        jobs.get(session, job_id).rung_at = datetime.now(UTC)
    until = time.monotonic() + 30
    while time.monotonic() < until:
        with session_scope() as session:
            if jobs.get(session, job_id).rung_at is None:
                return
        time.sleep(0.02)
    pytest.fail("the task did not look again")


def pause(job_id=None, reason="somebody looks into it"):
    with session_scope() as session:
        return migration_limits.pause(session, reason, actor="test", job_id=job_id)


def resume(job_id=None):
    with session_scope() as session:
        return migration_limits.resume(session, actor="test", job_id=job_id)


@pytest.mark.parametrize("one_job", [True, False])
def test_what_is_paused_waits_with_its_reason_and_goes_on_when_resumed(world, one_job):
    job_id = world.moves(3, AWS, GCP)
    assert pause(job_id if one_job else None) == 3
    world.work(job_id)
    assert states(world, job_id) == {("queued", "paused")}
    assert world.job(job_id).reason == "paused: somebody looks into it"
    with session_scope() as session:
        assert migrations.to_ring(session, 8, first_s=15, cap_s=300) == []
    assert [bell.job_id for bell in resume(job_id if one_job else None)] == [job_id]
    assert world.job(job_id).reason is None
    world.finish(job_id)
    assert states(world, job_id) == {("done", None)}


def test_a_paused_job_can_be_cancelled(world):
    job_id = world.moves(2, AWS, GCP)
    with session_scope() as session:
        migrations.start(session, job_id)
    pause(job_id)
    with session_scope() as session:
        jobs.cancel(session, job_id)
        assert [bell.job_id for bell in migrations.to_ring(session, 8, first_s=0, cap_s=0)] == [job_id]
    world.work(job_id)
    assert states(world, job_id) == {("cancelled", "cancelled")}
    assert world.job(job_id).state == "cancelled"


def test_a_pause_stops_a_copy_before_its_next_part_and_keeps_what_was_sent(world):
    body = b"0123456789abcdef" * (2**20)  # four parts, the last of them shorter
    world.put(AWS, "large", body)
    world.scan(AWS)
    job_id = world.move("large", AWS, GCP)
    sent = []

    def at(point):
        if point == "part_sent":
            sent.append(point)
            if len(sent) == 2:
                pause()
                next_tick(job_id)

    world.work(job_id, at=at)
    assert states(world, job_id) == {("waiting", "paused")}
    assert world.row(job_id).attempts == 0, "a pause is no failed attempt"
    first = len(sent)
    assert first < 4
    resume()
    world.work(job_id, at=at)
    assert world.row(job_id).state == "switched"
    assert len(sent) == 4, "no part was sent twice"
    assert world.read(GCP, "large") == body


def test_a_pause_needs_a_reason_and_something_to_pause(world):
    job_id = world.moves(1, AWS, GCP)
    with pytest.raises(Invalid):
        pause(job_id, " ")
    with pytest.raises(Conflict):
        resume(job_id)
    with pytest.raises(Conflict):
        resume()
    world.finish(job_id)
    with pytest.raises(Conflict):
        pause(job_id)


def test_the_first_wave_goes_alone(world):
    world.policy("limits", {"canary_moves": 5})
    job_id = world.moves(40, AWS, GCP)
    waves = []

    def at(point):
        if point == "begun":
            waves.append(sum(row.fence > 0 for row in world.rows(job_id)))

    world.work(job_id, at=at)
    assert waves[0] == 5
    assert waves[-1] == 40
    assert states(world, job_id) == {("switched", None)}


def test_a_job_is_paused_when_too_many_of_its_moves_fail(world, configure):
    configure(claim_batch=8)
    world.policy("limits", {"canary_moves": 0, "abort_error_rate": 0.25})
    job_id = world.moves(40, AWS, GCP)
    world.set_site(GCP, secret_key="not the secret any more")
    world.work(job_id)
    failed = sum(row.state == "failed" for row in world.rows(job_id))
    assert 10 <= failed < 40
    assert world.job(job_id).reason.startswith("paused: ")
    assert world.job(job_id).state == "running"
    (alert,) = world.alerts("migrations_paused")
    assert f"foretide migrate resume --job {job_id}" in alert.message


def test_requests_keep_to_the_rate_of_their_site(world):
    world.policy("limits", {"sites": {AWS: {"requests_per_s": 20}}})
    FLOW.install()
    job_id = world.moves(20, AWS, GCP)
    started = time.monotonic()
    world.work(job_id)
    assert states(world, job_id) == {("switched", None)}
    assert time.monotonic() - started > 0.9, "two requests an object, of which 20 may go at once"


def test_a_budget_of_requests_holds_moves_back(world):
    world.policy("budget", {"requests_per_day": 10})
    job_id = world.moves(3, AWS, GCP)
    world.work(job_id)
    assert sorted((str(row.state), row.reason) for row in world.rows(job_id)) == [
        ("switched", None), ("waiting", "over_budget"), ("waiting", "over_budget"),
    ]  # fmt: skip


def test_a_worker_that_is_ending_gives_back_what_it_has(world):
    job_id = world.moves(3, AWS, GCP)
    rung = []

    def at(point):
        if point == "begun" and not rung:
            rung.append(point)
            shutdown._ending[0] = 1
            next_tick(job_id)

    try:
        world.work(job_id, at=at)
    finally:
        shutdown._ending[0] = 0
    assert states(world, job_id) <= {("waiting", "worker_stopping"), ("switched", None)}
    with session_scope() as session:
        assert jobs.get(session, job_id).kind == TaskName.MIGRATE
    assert all(row.lease_until is None for row in world.rows(job_id)), "another worker need not wait for the lease"
    world.finish(job_id)
    assert states(world, job_id) == {("done", None)}


def test_a_retry_beyond_the_budget_of_one_site_uses_nothing_of_the_others_and_waits_ever_longer(world, configure):
    configure(retry_base_s=1)
    job_id = world.moves(12, AWS, GCP)
    with session_scope() as session:
        session.execute(update(Migration).where(Migration.job_id == job_id).values(retries=5))
    FLOW.of(GCP).retries.level = -10_000.0
    FLOW.of(AWS).retries.level = 12.0
    world.work(job_id)
    assert states(world, job_id) == {("waiting", "retry_budget")}
    assert FLOW.of(AWS).retries.level >= 12
    waits = [(row.next_attempt_at - datetime.now(UTC)).total_seconds() for row in world.rows(job_id)]
    assert max(waits) - min(waits) > 1, "they do not all come back at once"
