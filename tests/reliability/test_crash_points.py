"""A worker is killed with SIGKILL at each named point of each kind of move: nothing is lost, a successor ends it."""

import hashlib
import os
import signal

import pytest

from app.db import session as database
from app.domain.states import MoveKind
from app.s3.client import connect
from tests.world import World

AWS, GCP = "aws-eu", "gcp-eu"
SMALL, LARGE = b"small object", b"0123456789abcdef" * (11 * 2**16)
ENDS = ["switched", "delete_intended", "deleted"]
WHOLE = ["pinned", "begun", "copied", "proven", "verified"]
PARTS = ["upload_begun", "part_sent", "part_sent:2", "part_sent:3", "copied", "verified"]
CLASS = ["pinned", "begun", "copied", "verified", "switched"]


@pytest.fixture
def world(sites, clean_database, configure):
    configure(growing_age_s=0, retry_base_s=0.01, multipart_threshold=5 * 2**20, part_size=5 * 2**20)
    return World(sites)


def killed_at(world, job_id, point):
    """Works on the job in a child process that is killed at the point; returns whether it got there."""
    name, _, hit = point.partition(":")
    left = [int(hit or 1)]

    def at(reached):
        if reached == name:
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if not child:
        database.dispose()
        connect.cache_clear()
        try:
            world.work(job_id, at=at)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def readable(world):
    """SHA-256 of what a reader of each serving replica gets."""
    return {world.sha256(site, "a") for site, state in world.states("a").items() if state == "serving"}


def survives(world, job_id, point, body):
    """Kills a worker at the point, then lets a successor finish; the object is readable all along."""
    wanted = hashlib.sha256(body).hexdigest()
    for _ in range(4):  # what comes after the grace needs turns of its own
        if killed_at(world, job_id, point):
            break
        world.due(job_id)
    else:
        pytest.fail(f"no worker came to {point}")
    assert wanted in readable(world)
    world.due(job_id)  # the lease has lapsed
    world.finish(job_id)
    assert readable(world) == {wanted}
    assert world.row(job_id).state == "done"
    assert world.job(job_id).state == "succeeded"
    assert sum(world.uploads(GCP).values()) == 0, "no part is left behind"


@pytest.mark.parametrize("point", WHOLE + ENDS)
def test_a_small_move(world, point):
    world.put(AWS, "a", SMALL, Metadata={"k": "v"})
    world.scan(AWS)
    survives(world, world.move("a", AWS, GCP), point, SMALL)
    assert world.states("a") == {AWS: "deleted", GCP: "serving"}
    assert world.read(AWS, "a") is None
    assert world.head(GCP, "a").carried.metadata == {"k": "v"}


@pytest.mark.parametrize("point", PARTS)
def test_a_move_in_parts(world, point):
    world.put(AWS, "a", LARGE)
    world.scan(AWS)
    survives(world, world.move("a", AWS, GCP), point, LARGE)
    assert world.states("a") == {AWS: "deleted", GCP: "serving"}


@pytest.mark.parametrize("point", CLASS)
def test_a_change_of_class(world, point):
    world.put(AWS, "a", SMALL)
    world.scan(AWS)
    version = world.object("a").version
    survives(world, world.plan(("a", MoveKind.CLASS, AWS, AWS, "STANDARD_IA")), point, SMALL)
    assert world.head(AWS, "a").pin.storage_class == "STANDARD_IA"
    assert world.object("a").version == version + 1, "its own copy in place is no owner's write"


def test_a_move_that_kills_its_workers_is_dead_after_five(world):
    world.put(AWS, "a", SMALL)
    world.scan(AWS)
    job_id = world.move("a", AWS, GCP)
    for _ in range(5):
        assert killed_at(world, job_id, "begun")
        world.due(job_id)
    world.work(job_id)
    assert (world.row(job_id).state, world.row(job_id).reason) == ("dead", "worker_lost")
    assert world.job(job_id).state == "failed"
    assert world.read(AWS, "a") == SMALL
    assert world.states("a")[AWS] == "serving"


def test_a_worker_that_wakes_after_its_lease_changes_nothing(world):
    """It froze before its switch; meanwhile the owner wrote anew and a second worker moved that."""
    world.put(AWS, "a", b"old")
    world.scan(AWS)
    job_id = world.move("a", AWS, GCP)
    froze = []

    def freeze(at):
        if at == "verified" and not froze:
            froze.append(at)
            world.put(AWS, "a", b"newest")
            world.due(job_id)
            world.work(job_id)

    world.work(job_id, at=freeze)
    assert froze
    assert world.row(job_id).state == "switched"
    assert world.read(GCP, "a") == b"newest"
    world.finish(job_id)
    assert world.read(GCP, "a") == b"newest"
    assert world.states("a") == {AWS: "deleted", GCP: "serving"}
