"""A write whose answer is lost: what has become of it is found out by a look, never assumed, and written once."""

from contextlib import ExitStack
from datetime import timedelta

import pytest

from app.db import migrations
from app.db.session import session_scope
from app.errors import SourceChanged, UnknownOutcome
from app.s3 import multipart
from app.s3.heads import Carried
from app.s3.objects import Target
from tests import s3servers
from tests.faults.proxy import Proxy
from tests.faults.rules import Fault, on
from tests.world import World

MIB = 2**20
AWS = "aws-eu"
LARGE = b"0123456789abcdef" * (12 * MIB // 16)


@pytest.fixture(params=["gcp-eu", s3servers.RCLONE])
def ends(request, sites, site_of):
    """A source and two kinds of destination, behind proxies: with conditions and without."""
    with ExitStack() as stack:
        destination = sites.get(request.param) or site_of(request.param)
        yield [stack.enter_context(Proxy(site)) for site in (sites[AWS], destination)]


@pytest.fixture
def world(ends, clean_database, configure):
    """Whose retries wait until the test lets them."""
    configure(growing_age_s=0, retry_base_s=3600, retry_cap_s=3600, multipart_threshold=5 * MIB, part_size=5 * MIB)
    return World({proxy.behind.name: proxy.site for proxy in ends})


def moved(world, ends, body=b"bytes", **parameters):
    """Puts the object and lets a worker move it as far as it goes in one turn."""
    world.put(AWS, "a", body, **parameters)
    world.scan(AWS)
    job_id = world.move("a", AWS, ends[1].behind.name)
    world.work(job_id)
    return job_id


def finished(world, ends, job_id, body=b"bytes"):
    world.finish(job_id)
    assert world.row(job_id).state == "done"
    assert world.read(ends[1].behind.name, "a") == body
    assert world.read(AWS, "a") is None


def test_a_put(world, ends):
    ends[1].harm(on("PutObject", Fault.DROPPED))
    job_id = moved(world, ends)
    assert (world.row(job_id).state, world.row(job_id).retries) == ("switched", 0)
    assert len(ends[1].asked("PutObject", world.key("a"))) == 1
    finished(world, ends, job_id)


@pytest.mark.parametrize("ends", ["gcp-eu"], indirect=True)  # rclone takes no 2,000 bytes of metadata
def test_a_put_without_room_for_a_mark(world, ends):
    ends[0].clock_offset = timedelta(hours=-1)  # both are written within a second: only their times tell them apart
    ends[1].harm(on("PutObject", Fault.DROPPED))
    job_id = moved(world, ends, Metadata={"k": "x" * 1995})
    assert (world.row(job_id).state, world.row(job_id).retries) == ("switched", 0)
    assert world.head(ends[1].behind.name, "a").intent is None
    finished(world, ends, job_id)


def test_a_put_that_never_happened(world, ends):
    ends[1].harm(on("PutObject", Fault.RESET, times=1))
    job_id = moved(world, ends)
    assert (world.row(job_id).state, world.row(job_id).reason) == ("waiting", "unknown_outcome")
    finished(world, ends, job_id)


def test_a_completed_upload(world, ends):
    ends[1].harm(on("CompleteMultipartUpload", Fault.DROPPED))
    job_id = moved(world, ends, LARGE)
    assert (world.row(job_id).state, world.row(job_id).retries) == ("switched", 0)
    assert len(ends[1].asked("CompleteMultipartUpload")) == 1 + _completed_by_probe(ends[1], world)
    finished(world, ends, job_id, LARGE)
    assert not any(world.uploads(ends[1].behind.name).values())


def _completed_by_probe(proxy, world):
    return len([one for one in proxy.asked("CompleteMultipartUpload") if world.folder not in one.key])


def test_parts_that_were_sent_count_for_those_that_come_after(world, ends):
    """An attempt that gets further is none that failed: as many lost answers as there are parts do no harm."""
    ends[1].harm(*(on("UploadPart", Fault.DROPPED, skip=2 * number, times=1) for number in range(3)))
    job_id = moved(world, ends, LARGE)
    assert world.row(job_id).attempts == 1
    with session_scope() as session:
        migrations.get(session, world.row(job_id).id).attempts = 4
    for _ in range(2):
        world.due(job_id)
        world.work(job_id)
        assert (world.row(job_id).state, world.row(job_id).attempts) == ("waiting", 1)
    finished(world, ends, job_id, LARGE)
    assert [one.part for one in ends[1].asked("UploadPart", world.key("a"))] == [1, 1, 2, 2, 3, 3]


def test_a_delete(world, ends):
    job_id = moved(world, ends)
    ends[0].harm(on("DeleteObject", Fault.DROPPED))
    world.due(job_id)
    world.work(job_id)
    assert (world.row(job_id).state, world.row(job_id).retries) == ("done", 0)
    assert len(ends[0].asked("DeleteObject", world.key("a"))) == 1
    assert [row.data["reason"] for row in world.audit("replica.deleted")] == ["all_conditions_hold"]
    assert world.states("a")[AWS] == "deleted"


def test_a_delete_that_never_happened(world, ends):
    job_id = moved(world, ends)
    ends[0].harm(on("DeleteObject", Fault.RESET, times=1))
    world.due(job_id)
    world.work(job_id)
    assert (world.row(job_id).state, world.row(job_id).reason) == ("draining", "unknown_outcome")
    assert world.read(AWS, "a") == b"bytes"
    finished(world, ends, job_id)
    assert len(world.audit("replica.delete")) == 2
    assert len(world.audit("replica.deleted")) == 1


def test_an_upload_that_is_given_up_is_aborted_or_its_id_is_kept(world, ends):
    destination = ends[1].behind.name
    ends[1].harm(on("AbortMultipartUpload", Fault.DROPPED))
    assert _given_up(world, ends, "dropped").upload_id is None
    assert world.uploads(destination) == {}

    ends[1].harm(on("AbortMultipartUpload", Fault.BROKEN))
    row = _given_up(world, ends, "broken")
    ends[1].harm()
    assert list(world.uploads(destination)) == [row.upload_id]
    multipart.abort(world.buckets[destination], world.key("broken"), row.upload_id)


def _given_up(world, ends, name):
    """A move in parts whose source is gone before its last attempt ends."""
    world.put(AWS, name, LARGE)
    world.scan(AWS)
    job_id = world.move(name, AWS, ends[1].behind.name)

    def vanish(at):
        if at == "part_sent":
            raise SourceChanged

    with session_scope() as session:
        migrations.get(session, world.row(job_id).id).attempts = 4
    world.work(job_id, at=vanish)
    assert world.row(job_id).state == "dead"
    return world.row(job_id)


def test_an_abort_that_never_happened_says_so(world, ends):
    bucket, target = world.buckets[ends[1].behind.name], Target(world.key("x"), "STANDARD", "i.1", conditional=False)
    upload_id = multipart.begin(bucket, target, Carried())
    ends[1].harm(on("AbortMultipartUpload", Fault.RESET))
    with pytest.raises(UnknownOutcome):
        multipart.abort(bucket, target.key, upload_id)
    ends[1].harm()
    multipart.abort(bucket, target.key, upload_id)
