"""Cancelling takes effect within two seconds or one part, whatever the work waits for just then."""

import os
import threading
import time

import pytest

from app.db import migrations
from app.db.session import session_scope
from app.s3 import transfer
from tests.faults.proxy import Proxy
from tests.faults.rules import Fault, on
from tests.world import World
from workers.flow import FLOW
from workers.migration_groups import ROOM

MIB = 2**20
FROM, TO = "aws-eu", "gcp-eu"
AT_ONCE_S = 2.0
SLACK_S = 1.0
"""For a machine that does something else as well."""
LARGE, SMALL = os.urandom(11 * MIB), os.urandom(2 * MIB)


@pytest.fixture
def ends(sites):
    with Proxy(sites[FROM], seed=1) as source, Proxy(sites[TO], seed=2) as destination:
        yield source, destination


@pytest.fixture
def world(ends, clean_database, configure):
    configure(growing_age_s=0, retry_base_s=0.01, multipart_threshold=5 * MIB, part_size=5 * MIB)
    transfer._buffers.cache_clear()
    made = World({FROM: ends[0].site, TO: ends[1].site})
    made.set_site(TO, capabilities=made.capabilities(TO) | {"checksum_sha256": False, "checksum_parts": False})
    FLOW.install()
    yield made
    FLOW.forget()
    transfer._buffers.cache_clear()


def until(true):
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end, "it has not come so far"
        time.sleep(0.01)


def cancelled_s(world, job_id, ready, *, then=lambda: None):
    """Seconds from the user's wish to the end of the move, asked for as soon as the worker is `ready`.

    then: lets the worker end which only tidies up.
    """
    worker = threading.Thread(target=world.work, args=(job_id,))
    worker.start()
    try:
        until(ready)
        with session_scope() as session:
            migrations.cancel(session, world.row(job_id).id, "test")
        asked_at = time.monotonic()
        until(lambda: world.row(job_id).finished_at)
        taken_s = time.monotonic() - asked_at
    finally:
        then()
        worker.join()
    assert (world.row(job_id).state, world.states("a")[FROM]) == ("cancelled", "serving")
    return taken_s


def moved(world, body):
    world.put(FROM, "a", body)
    world.scan(FROM)
    return world.move("a", FROM, TO)


WAITS = {
    "a large source that is read slowly": (LARGE, 0, on("GetObject", Fault.BANDWIDTH, value=MIB)),
    "a small source that is read slowly": (SMALL, 0, on("GetObject", Fault.BANDWIDTH, value=MIB / 8)),
    "a large copy that is hashed slowly": (LARGE, 1, on("GetObject", Fault.BANDWIDTH, value=MIB)),
    "a small copy that is hashed slowly": (SMALL, 1, on("GetObject", Fault.BANDWIDTH, value=MIB / 8)),
    "a source that does not answer": (SMALL, 0, on("GetObject", Fault.HALF_OPEN)),
    "a copy whose look is not answered": (LARGE, 1, on("HeadObject", Fault.HALF_OPEN)),
}


@pytest.mark.parametrize("what", WAITS)
def test_whatever_a_site_makes_it_wait_for(world, ends, figure, what):
    body, end, rule = WAITS[what]
    job_id = moved(world, body)
    ends[end].harm(rule)
    (operation,) = rule.operations
    before = len(ends[end].asked(operation, world.key("a")))
    taken_s = cancelled_s(
        world, job_id, lambda: len(ends[end].asked(operation, world.key("a"))) > before, then=ends[end].harm
    )
    figure("cancel", f"{what}: {taken_s:.1f} s", 1)
    assert taken_s < AT_ONCE_S + SLACK_S
    assert world.uploads(TO) == {}


def test_the_gates_rate(world, figure):
    job_id = moved(world, LARGE)
    world.policy("limits", {"sites": {FROM: {"requests_per_s": 0.2}}})
    taken_s = cancelled_s(world, job_id, lambda: world.row(job_id).fence)
    figure("cancel", f"the gate's rate: {taken_s:.1f} s", 1)
    assert taken_s < AT_ONCE_S + SLACK_S


def test_the_gates_bandwidth(world, ends, figure):
    job_id = moved(world, LARGE)
    world.policy("limits", {"sites": {FROM: {"bytes_per_s": MIB}}})
    taken_s = cancelled_s(world, job_id, lambda: ends[0].asked("GetObject", world.key("a")))
    figure("cancel", f"the gate's bandwidth: {taken_s:.1f} s", 1)
    assert taken_s < AT_ONCE_S + SLACK_S


def test_memory_for_a_part(world, figure):
    job_id = moved(world, LARGE)
    held = transfer._buffers().take(transfer.PARTS_IN_MEMORY * 5 * MIB)
    taken_s = cancelled_s(world, job_id, lambda: world.row(job_id).upload_id)
    transfer._buffers().give(held)
    figure("cancel", f"memory for a part: {taken_s:.1f} s", 1)
    assert taken_s < AT_ONCE_S + SLACK_S


def test_memory_for_small_objects(world, figure):
    job_id = moved(world, SMALL)
    with ROOM.held(100 * MIB, 0, lambda: False):
        taken_s = cancelled_s(world, job_id, lambda: world.row(job_id).fence)
    figure("cancel", f"memory for small objects: {taken_s:.1f} s", 1)
    assert taken_s < AT_ONCE_S + SLACK_S


def test_a_site_that_asks_for_patience(world, ends, figure):
    job_id = moved(world, SMALL)
    ends[0].harm(on("GetObject", Fault.SLOW_DOWN, value=60))
    world.work(job_id)
    assert (world.row(job_id).state, world.row(job_id).reason) == ("waiting", "throttled")
    with session_scope() as session:
        migrations.cancel(session, world.row(job_id).id, "test")
    asked_at = time.monotonic()
    world.work(job_id)
    taken_s = time.monotonic() - asked_at
    figure("cancel", f"Retry-After: {taken_s:.1f} s", 1)
    assert world.row(job_id).state == "cancelled"
    assert taken_s < AT_ONCE_S + SLACK_S


def test_a_part_on_its_way_is_the_last(world, ends, figure):
    job_id = moved(world, LARGE)
    ends[1].harm(on("UploadPart", Fault.LATENCY, value=3))
    taken_s = cancelled_s(world, job_id, lambda: ends[1].asked("UploadPart", world.key("a")))
    figure("cancel", f"a part that takes 3 s: {taken_s:.1f} s", 1)
    assert taken_s < 3 + AT_ONCE_S + SLACK_S
    assert len(ends[1].asked("UploadPart", world.key("a"))) == 1
    assert world.uploads(TO) == {}
