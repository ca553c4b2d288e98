"""Workers on copies for peaks are killed, paused, cancelled: nothing is lost, all is done once, lateness is told."""

import hashlib
import random
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest
from sqlalchemy import func, select, update

from app.db import jobs, migration_limits, peaks
from app.db.session import session_scope
from app.db.tables import Job, Migration, Plan
from app.domain.tasks import TaskName
from tests.integration.test_prewarming import AWS, GCP, auto, next_hour, prewarmed, read_weekly
from tests.reliability.forked import Forked
from tests.reliability.mortal import Mortal
from tests.world import World
from workers.prewarming import prewarming

MIB = 2**20
BODIES = {"small": b"small object", "parts": b"0123456789abcdef" * (11 * 2**16)}


@pytest.fixture
def world(sites, clean_database, configure):
    configure(growing_age_s=0, retry_base_s=0.01, multipart_threshold=5 * MIB, part_size=5 * MIB)
    world = World(sites)
    auto()
    return world


def planned(world, name, body="small"):
    """An object with a peak in the next hour and its copy's job, not begun yet."""
    world.put(AWS, name, BODIES[body])
    world.scan(AWS, name)
    read_weekly(world, name, next_hour())
    plan_id = prewarmed(keys=[world.key(name)])["plan_id"]
    with session_scope() as session:
        return session.get_one(Plan, plan_id).apply_job_id


def change(job_id, **values):
    with session_scope() as session:
        session.execute(update(Migration).where(Migration.job_id == job_id).values(**values))


def lapse(job_id):
    change(job_id, lease_until=None, next_attempt_at=datetime.now(UTC) - timedelta(seconds=1))


def peak_is_over(job_id):
    change(job_id, not_before=datetime.now(UTC) - timedelta(seconds=1))


def peak_has_begun(job_id):
    with session_scope() as session:
        now = datetime.now(UTC)
        copy = (Migration.job_id == job_id, Migration.kind == "copy")
        begun = {"not_before": now - timedelta(hours=2), "ready_by": now - timedelta(seconds=1)}
        session.execute(update(Migration).where(*copy).values(begun))


def results():
    with session_scope() as session:
        return peaks.results(session)


def killed(world, job_id, point, hit=1):
    """A worker's turn, which ends by kill -9 when it comes to the point for the hit-th time; whether it came there."""
    worker, left = Forked(world), [hit]

    def die(reached):
        left[0] -= reached == point
        if reached == point and left[0] == 0:
            worker.kill()

    died = worker.work(job_id, at=die)
    lapse(job_id)
    return died


def points(world, job_id):
    """Every point that a turn comes to, with how often it has come there."""
    reached = []
    world.work(job_id, at=reached.append)
    return [(point, reached[: number + 1].count(point)) for number, point in enumerate(reached)]


def kinds(world, job_id):
    return [(row.kind, row.state) for row in world.rows(job_id)]


def switches(world, job_id):
    subjects = [row.subject for row in world.audit("migration.switch")]
    return [subjects.count(f"migration {row.id}") for row in world.rows(job_id)]


@pytest.mark.parametrize("body", BODIES)
def test_whenever_a_worker_is_killed_the_copy_is_made_once_and_goes_once(world, body, rounds, seed, full, figure):
    """Without --full at as many points as the budget allows, in an order of chance."""
    job_id = planned(world, "pattern", body)
    there = points(world, job_id)
    peak_is_over(job_id)
    world.due(job_id)
    back = points(world, job_id)
    world.due(job_id)
    back += [point for point in points(world, job_id) if point not in back]
    every = [(False, *point) for point in there] + [(True, *point) for point in back]
    random.Random(seed).shuffle(every)
    n, unknown = 0, 0
    for n, (goes, point, hit) in zip(rounds(len(every)), every, strict=False):
        name = f"{n}"
        unknown += point == "upload_begun"  # nobody can know its id: the sweep of uploads ends it
        job_id = planned(world, name, body)
        if not goes:
            assert killed(world, job_id, point, hit)
        world.work(job_id)
        assert kinds(world, job_id) == [("copy", "done"), ("remove", "queued")], point
        assert world.states(name) == {AWS: "serving", GCP: "serving"}
        assert world.sha256(GCP, name) == hashlib.sha256(BODIES[body]).hexdigest()
        peak_is_over(job_id)
        if goes:
            while not killed(world, job_id, point, hit):
                world.due(job_id)
        world.finish(job_id)
        assert kinds(world, job_id) == [("copy", "done"), ("remove", "done")], point
        assert switches(world, job_id) == [1, 1], point
        assert (world.states(name), world.read(GCP, name)) == ({AWS: "serving", GCP: "deleted"}, None)
        assert world.sha256(AWS, name) == hashlib.sha256(BODIES[body]).hexdigest()
    n += 1
    assert len(world.uploads(GCP)) == unknown
    figure("I1", f"copies for peaks, {body}: made once, gone once, wherever a worker was killed", n)
    assert n == len(every) or not full


@pytest.mark.parametrize(("point", "body"), [("part_sent", "parts"), ("verified", "small")])
def test_a_copy_that_a_kill_has_made_late_is_told_as_late(world, point, body):
    """Also one that was verified in time and went into service only when the peak had begun."""
    job_id = planned(world, "a", body)
    assert killed(world, job_id, point)
    assert results() == {"ready": 0, "late": 0}, "its time has not come"
    peak_has_begun(job_id)
    assert results() == {"ready": 0, "late": 1}, "it is not there"
    world.work(job_id)
    assert kinds(world, job_id)[0] == ("copy", "done")
    assert results() == {"ready": 0, "late": 1}
    (alert,) = world.alerts("prewarm_late")
    assert alert.data == {"objects": 1, "first": [world.key("a")]}


def test_a_copy_in_time_stays_in_time_when_its_plan_is_undone_later(world):
    job_id = planned(world, "a")
    world.work(job_id)
    with session_scope() as session:
        copy = session.scalars(select(Migration).where(Migration.kind == "copy")).one()
        copy.ready_by, copy.state = datetime.now(UTC), "rolled_back"
    assert results() == {"ready": 1, "late": 0}


def paused(reason):
    with session_scope() as session:
        if reason:
            migration_limits.pause(session, reason, actor="test")
        else:
            migration_limits.resume(session, actor="test")


def test_a_pause_in_the_middle_of_a_copy_keeps_its_parts_and_lets_it_go_on(world):
    job_id = planned(world, "a", "parts")
    assert killed(world, job_id, "part_sent", 2)
    before = world.uploads(GCP)
    assert list(before.values()) == [2]
    paused("wait")
    world.work(job_id)
    assert world.uploads(GCP) == before, "nothing goes on, nothing is lost"
    peak_has_begun(job_id)
    assert results() == {"ready": 0, "late": 1}
    paused(None)
    lapse(job_id)
    sent = []
    world.work(job_id, at=sent.append)
    assert sent.count("part_sent") == 2, "the third, and the second, which was not written down yet"
    assert kinds(world, job_id) == [("copy", "done"), ("remove", "queued")]
    assert results() == {"ready": 0, "late": 1}, "it came too late all the same"


def test_what_was_paused_until_its_peak_was_over_is_not_made(world):
    job_id = planned(world, "a", "parts")
    assert killed(world, job_id, "part_sent")
    paused("wait")
    world.work(job_id)
    peak_has_begun(job_id)
    change(job_id, useful_until=datetime.now(UTC) - timedelta(seconds=1))
    paused(None)
    lapse(job_id)
    world.work(job_id)
    assert [(row.state, row.reason) for row in world.rows(job_id)] == [
        ("skipped", "peak_over"), ("skipped", "earlier_move_skipped"),
    ]  # fmt: skip
    assert (world.uploads(GCP), world.read(GCP, "a"), results()) == ({}, None, {"ready": 0, "late": 1})


def test_a_copy_that_is_cancelled_in_its_middle_leaves_nothing_and_is_not_planned_again(world):
    job_id = planned(world, "a", "parts")
    assert killed(world, job_id, "part_sent")
    with session_scope() as session:
        jobs.cancel(session, job_id)
    world.work(job_id)
    world.work(job_id)
    assert {state for _, state in kinds(world, job_id)} <= {"cancelled", "skipped"}
    assert kinds(world, job_id)[0] == ("copy", "cancelled")
    assert (world.uploads(GCP), world.read(GCP, "a")) == ({}, None)
    assert world.sha256(AWS, "a") == hashlib.sha256(BODIES["parts"]).hexdigest()
    peak_has_begun(job_id)
    assert results() == {"ready": 0, "late": 0}, "somebody wished it so"
    assert prewarmed()["plan_id"] is None


def test_a_planner_of_peaks_that_dies_again_and_again_plans_and_applies_once(world):
    """It dies before each of its statements and commits, one after the other."""
    world.put(AWS, "a")
    world.scan(AWS)
    read_weekly(world, "a", next_hour())
    with session_scope() as session:
        job_id = jobs.submit(session, TaskName.PREWARM, {}, actor="test").id
    deaths = 0
    for statements in count(1):
        died = Mortal(statements=statements).run(lambda: prewarming(job_id))
        with session_scope() as session:
            job = jobs.get(session, job_id)
            plans = session.scalar(select(func.count()).select_from(Plan))
            applied = session.scalar(select(func.count()).select_from(Job).where(Job.kind == TaskName.MIGRATE))
            moves = session.scalar(select(func.count()).select_from(Migration))
            if job.state == "succeeded":
                break
            assert (died, plans, applied, moves) == (True, 0, 0, 0)
            job.state, job.attempts, job.lease_until = "queued", 0, None
        deaths += 1
    assert deaths > 10
    assert (plans, applied, moves) == (1, 1, 2)
    assert prewarmed()["plan_id"] is None
