"""What a second look at the engine found: each of these once lost a copy, a budget or a job's end."""

import time
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from sqlalchemy import select, update

from app.db import jobs, migration_limits, migrations
from app.db.session import session_scope
from app.db.tables import Budget, Migration
from app.domain.limits import Limits
from app.domain.states import MoveKind
from app.domain.tasks import TaskName
from app.s3 import multipart
from tests import jobs as jobrun
from tests.damage import rot
from workers.verification import verify

AWS, GCP = "aws-eu", "gcp-eu"


@pytest.fixture
def world(make_world):
    return make_world(settings={"worker_slots": 1})


def mark(ids, state, **values):
    """As if the moves had been claimed and had ended so."""
    with session_scope() as session:
        ended = {"state": state, "fence": 1, "finished_at": datetime.now(UTC), **values}
        session.execute(update(Migration).where(Migration.id.in_(ids)).values(**ended))


def budget():
    with session_scope() as session:
        return {row.unit: (row.reserved, row.spent) for row in session.scalars(select(Budget))}


def test_what_was_given_back_is_not_given_back_again_when_the_next_attempt_is_refused(world):
    """Attempt 1 reserves and fails; attempt 2 gives that back and is refused; a cancel gives it back again."""
    world.policy("budget", {"moves_per_day": 10})
    job_id = world.moves(1, AWS, GCP)

    once = ["begun"]

    def fails(point):
        if point in once:
            once.clear()
            assert budget()["moves"] == (1, 0)
            world.policy("budget", {"moves_per_day": 0})
            raise RuntimeError("anything")

    with pytest.raises(RuntimeError):
        world.work(job_id, at=fails)
    world.due(job_id)
    world.work(job_id)
    assert (world.row(job_id).state, world.row(job_id).reason) == ("waiting", "over_budget")
    assert budget()["moves"] == (0, 0)
    with session_scope() as session:
        jobs.cancel(session, job_id)
    world.due(job_id)
    world.work(job_id)
    assert world.row(job_id).state == "cancelled"
    assert budget()["moves"] == (0, 0), "given back twice: others may now reserve more than the limit"


def first_wave(world, others, **values):
    """A job of 40 moves of whose first 16 four have failed and the others ended as said; returns its id."""
    job_id = world.moves(40, AWS, GCP)
    ids = [row.id for row in world.rows(job_id)]
    with session_scope() as session:
        migrations.start(session, job_id)
    mark(ids[:4], "failed")
    mark(ids[4:16], others, **values)
    return job_id


def test_a_job_whose_first_wave_failed_goes_on_when_it_is_resumed(world):
    job_id = first_wave(world, "done", switched_at=datetime.now(UTC))
    with session_scope() as session:
        assert migration_limits.stop_on_errors(session, job_id, Limits())
    with session_scope() as session:
        migration_limits.resume(session, actor="test", job_id=job_id)
    for _ in range(3):
        world.work(job_id)
        world.due(job_id)
    assert sum(row.state in ("done", "switched") for row in world.rows(job_id)) == 36


def test_a_first_wave_that_ended_badly_pauses_the_job(world):
    job_id = first_wave(world, "skipped")
    world.work(job_id)
    assert world.job(job_id).paused_reason == "4 moves of the first wave failed"


def test_a_corrupt_older_copy_says_nothing_of_a_newer_version(world):
    """A copy is corrupt; the owner writes a new version at the original; verify then takes that for corrupt."""
    world.put(AWS, "a", b"the bytes")
    world.scan(AWS)
    world.finish(world.plan(("a", MoveKind.COPY, AWS, GCP, "STANDARD")))
    rot(world, GCP, "a")
    jobrun.run(verify, TaskName.VERIFY, {"prefix": world.folder})
    assert world.states("a") == {AWS: "serving", GCP: "corrupt"}
    time.sleep(1.1)
    world.put(AWS, "a", b"a newer version")
    world.scan(AWS)
    assert world.states("a") == {AWS: "serving", GCP: "corrupt"}
    jobrun.run(verify, TaskName.VERIFY, {"prefix": world.folder})
    assert world.states("a")[AWS] == "serving", "the only good copy, the owner's newest, is out of service"


def test_an_error_in_one_of_a_group_leaves_what_has_switched(world):
    """A group of two: one switches; the other turned out large and meets an error nobody classed."""
    world.put(AWS, "m0", b"x" * 3)
    world.put(AWS, "m1", b"x" * 3)
    world.scan(AWS)
    job_id = world.plan(*[(name, MoveKind.MOVE, AWS, GCP, "STANDARD") for name in ("m0", "m1")])
    time.sleep(1.1)
    world.put(AWS, "m1", b"y" * (6 * 2**20))
    with session_scope() as session:  # four attempts were counted already
        session.execute(update(Migration).where(Migration.job_id == job_id).values(attempts=4))

    def at(point):
        if point == "upload_begun":
            raise RuntimeError("a defect that only large objects meet")

    with suppress(RuntimeError):
        world.work(job_id, at=at)
    assert world.states("m0")[GCP] == "serving"
    assert world.read(GCP, "m0") == b"xxx", "the copy that serves was deleted"


def test_an_upload_that_is_aborted_in_between_is_begun_anew(world):
    world.put(AWS, "a", b"0123456789abcdef" * 2**20)
    world.scan(AWS)
    job_id = world.move("a", AWS, GCP)
    hits = []

    def at(point):
        if point == "part_sent":
            hits.append(1)
            if len(hits) == 2:
                for upload in world.uploads(GCP):
                    multipart.abort(world.buckets[GCP], world.key("a"), upload)

    world.work(job_id, at=at)
    assert world.row(job_id).state in ("waiting", "switched")


def test_nothing_at_all_can_be_copied_in_parts(world):
    world.put(AWS, "a", b"")
    world.scan(AWS)
    job_id = world.move("a", AWS, GCP)

    once = ["verified"]

    def fail(point):
        if point in once:
            once.clear()
            world.put(AWS, "a", b"", Metadata={"x": "y"})
            raise RuntimeError

    time.sleep(1.1)  # times at the sites have whole seconds
    with pytest.raises(RuntimeError):
        world.work(job_id, at=fail)
    world.finish(job_id)
    assert world.row(job_id).state == "done"
    assert world.read(GCP, "a") == b""


def test_a_worker_frozen_before_its_delete_deletes_nothing_that_came_back(world):
    """Intent saved, worker frozen past its lease; a successor deletes; the object is moved back; the worker wakes."""
    world.put(AWS, "a", b"bytes")
    world.scan(AWS)
    job_id = world.move("a", AWS, GCP)
    world.work(job_id)
    world.due(job_id)
    clock = [time.monotonic()]
    once = []

    def at(point):
        if point == "delete_intended" and not once:
            once.append(1)
            clock[0] += 1000  # frozen here for long
            with session_scope() as session:
                session.execute(
                    update(Migration)
                    .where(Migration.job_id == job_id)
                    .values(lease_until=datetime(2020, 1, 1, tzinfo=UTC))
                )
            world.finish(job_id)
            assert world.states("a") == {AWS: "deleted", GCP: "serving"}
            back = world.move("a", GCP, AWS)
            world.finish(back)
            assert world.states("a") == {AWS: "serving", GCP: "deleted"}

    world.work(job_id, at=at, now=lambda: clock[0])
    assert world.read(AWS, "a") == b"bytes", "the last copy is gone"


def test_a_source_that_is_rewritten_again_and_again_is_given_up(world):
    world.put(AWS, "a", b"0123456789abcdef" * 2**19)
    world.scan(AWS)
    job_id = world.move("a", AWS, GCP)
    count = [0]

    def at(point):
        if point in ("copied", "part_sent"):
            count[0] += 1
            world.put(AWS, "a", b"%016d" % count[0] * 2**19)

    for _ in range(9):
        world.work(job_id, at=at)
        world.due(job_id)
    row = world.row(job_id)
    assert row.state == "dead"


def test_moves_that_are_blocked_raise_one_alert_a_reason_that_counts_them(world):
    job_id = world.moves(3, AWS, GCP)
    for number in range(3):
        world.put(GCP, f"m{number}", b"theirs")
    world.finish(job_id)
    assert {(row.state, row.reason) for row in world.rows(job_id)} == {("blocked", "destination_exists")}
    (alert,) = world.alerts("migrations_blocked")
    assert (alert.subject, alert.count) == ("destination_exists", 3)
