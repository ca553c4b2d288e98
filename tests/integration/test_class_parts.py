"""A class changed in parts, as S3 demands it of what is too large: nothing is lost, whatever comes in between."""

import os

import pytest

from app.db import migrations
from app.db.session import session_scope
from app.domain.states import MoveKind
from app.domain.tasks import TaskName
from app.s3 import objects
from tests import jobs
from tests.faults.proxy import Proxy
from tests.faults.rules import Fault, on
from tests.integration.test_s3_guards import Guarded, versioned
from tests.reliability.mortal import Mortal
from tests.s3servers import RCLONE, SEAWEEDFS
from tests.world import World
from workers.tidying import tidy

MIB = 2**20
AWS, GCP = "aws-eu", "gcp-eu"
BODY, NEWEST = os.urandom(12 * MIB), os.urandom(12 * MIB)
KEPT = {"ContentType": "text/x-demo", "CacheControl": "no-store", "Metadata": {"k": "v"}, "Tagging": "a=b"}
POINTS = ["pinned", "begun", "upload_begun", "part_sent", "parts_copied", "copied", "verified"]


@pytest.fixture
def small_parts(clean_database, configure):
    configure(growing_age_s=0, retry_base_s=0.01, part_size=5 * MIB, in_place_limit=6 * MIB)


@pytest.fixture
def proxy(sites):
    with Proxy(sites[AWS], seed=3) as running:
        yield running


@pytest.fixture
def world(sites, proxy, small_parts):
    world = World({AWS: proxy.site, GCP: sites[GCP]})
    world.put(AWS, "a", BODY, **KEPT)
    world.scan(AWS)
    return world


def change(world, site=AWS):
    return world.plan(("a", MoveKind.CLASS, site, site, "GLACIER_IR"))


def ended(world, job_id):
    row = world.row(job_id)
    return row.state, row.reason


def is_as_it_was(world, body=BODY):
    """Whether the object has its bytes and, unless its owner wrote it anew, all else that it had; and no upload."""
    found = world.head(AWS, "a")
    same = found.carried.metadata == {"k": "v"} and found.carried.headers["content_type"] == "text/x-demo"
    same = same and found.carried.headers["cache_control"] == "no-store" and found.tag_count == 1
    return world.read(AWS, "a") == body and (same or body == NEWEST) and world.uploads(AWS) == {}


def died_at(world, job_id, point):
    mortal = Mortal(named=point)
    died = mortal.run(lambda: world.work(job_id, at=mortal.at))
    world.due(job_id)
    return died


def swept(world):
    """An upload whose id was never stored goes with the tidying."""
    jobs.run(tidy, TaskName.TIDY, {"prefix": world.folder})


def test_a_large_object_changes_its_class_and_nothing_else(world, proxy):
    version = world.object("a").version
    job_id = change(world)
    world.finish(job_id)
    assert (ended(world, job_id), is_as_it_was(world)) == (("done", None), True)
    assert world.head(AWS, "a").pin.storage_class == world.replicas("a")[AWS].storage_class == "GLACIER_IR"
    assert (world.object("a").version, world.states("a")) == (version + 1, {AWS: "serving"})
    assert [len(proxy.asked(asked, world.key("a"))) for asked in ("UploadPartCopy", "CopyObject")] == [3, 0]
    assert len(proxy.asked("GetObject", world.key("a"))) <= 1, "none but this test's own: the site copies the bytes"


@pytest.mark.parametrize("point", POINTS)
def test_a_successor_goes_on_where_a_worker_died(world, proxy, point):
    version = world.object("a").version
    job_id = change(world)
    assert died_at(world, job_id, point)
    world.finish(job_id)
    assert (ended(world, job_id), world.object("a").version) == (("done", None), version + 1)
    assert len(proxy.asked("UploadPartCopy", world.key("a"))) <= 4, "one part at most is copied again"
    assert len(proxy.asked("CompleteMultipartUpload", world.key("a"))) == 1
    swept(world)
    assert is_as_it_was(world)


def test_each_part_is_kept_for_a_successor(world, proxy):
    job_id = change(world)
    passed = []

    def at(point):
        passed.append(point)
        if passed.count("part_sent") == 3:
            mortal.at("third")

    mortal = Mortal(named="third")
    assert mortal.run(lambda: world.work(job_id, at=at))
    world.due(job_id)
    world.finish(job_id)
    assert (ended(world, job_id), is_as_it_was(world)) == (("done", None), True)
    asked = proxy.asked("UploadPartCopy", world.key("a"))
    assert [one.part for one in asked] == [1, 2, 3, 3], "of what a worker has sent before it died the last alone"


@pytest.mark.parametrize(
    "moment", [*POINTS, *(f"{fault} {what}" for what in ("UploadPartCopy", "CompleteMultipartUpload") for fault in
               (Fault.BEFORE, Fault.AFTER))],
)  # fmt: skip
@pytest.mark.parametrize("dies", [False, True])
def test_an_owners_write_at_any_moment_stands_afterwards(world, proxy, moment, dies):
    once, mortal = [moment], Mortal(named=moment if dies else None)

    def write(point):
        if point in once:
            once.clear()
            with mortal.spared():
                world.put(AWS, "a", NEWEST)

    def at(point):
        write(point)
        mortal.at(point)

    fault, _, operation = moment.partition(" ")
    if operation:
        proxy.harm(on(operation, Fault(fault), times=1, act=lambda: write(moment)))
    job_id = change(world)
    mortal.run(lambda: world.work(job_id, at=at))
    world.due(job_id)
    world.finish(job_id)
    assert once == []
    swept(world)
    assert (ended(world, job_id), is_as_it_was(world, NEWEST)) == (("done", None), True)


def tag(world, **tags):
    where = {"Bucket": world.buckets[AWS].bucket, "Key": world.key("a")}
    told = [{"Key": name, "Value": value} for name, value in tags.items()]
    world.buckets[AWS].client.put_object_tagging(**where, Tagging={"TagSet": told})


@pytest.mark.parametrize("point", ["begun", "upload_begun", "part_sent", "parts_copied"])
@pytest.mark.parametrize("dies", [False, True])
def test_tags_that_are_put_while_parts_are_copied_stay(world, point, dies):
    """They change no ETag, so that no condition notices them; an upload carries those that it was begun with."""
    once, mortal = [point], Mortal(named=point if dies else None)

    def at(passed):
        if passed in once:
            once.clear()
            tag(world, a="new", more="too")
        mortal.at(passed)

    job_id = change(world)
    assert mortal.run(lambda: world.work(job_id, at=at)) is dies
    world.due(job_id)
    world.finish(job_id)
    swept(world)
    assert (once, ended(world, job_id), world.uploads(AWS)) == ([], ("done", None), {})
    assert objects.tags(world.buckets[AWS], world.key("a")) == {"a": "new", "more": "too"}
    assert world.head(AWS, "a").pin.storage_class == "GLACIER_IR"


@pytest.mark.parametrize(("operation", "retries"), [("UploadPartCopy", 1), ("CompleteMultipartUpload", 0)])
def test_a_lost_answer_is_found_out(world, proxy, operation, retries):
    proxy.harm(on(operation, Fault.DROPPED, skip=retries, times=1))
    job_id = change(world)
    world.finish(job_id)
    assert (ended(world, job_id), is_as_it_was(world)) == (("done", None), True)
    assert world.row(job_id).retries == retries
    assert len(proxy.asked("CreateMultipartUpload", world.key("a"))) == 1


def test_a_change_is_cancelled_between_two_parts_and_leaves_nothing(world, proxy):
    proxy.harm(on("UploadPartCopy", Fault.LATENCY, value=2.5))  # a worker looks once a second
    job_id = change(world)

    def cancel(point):
        if point == "upload_begun":
            with session_scope() as session:
                migrations.cancel(session, world.row(job_id).id, "test")

    world.work(job_id, at=cancel)
    assert (ended(world, job_id), is_as_it_was(world)) == (("cancelled", "cancelled"), True)
    assert world.head(AWS, "a").pin.storage_class == "STANDARD"
    assert len(proxy.asked("UploadPartCopy", world.key("a"))) == 1


@pytest.mark.parametrize("fault", [Fault.UNKNOWN, Fault.FORBIDDEN])
def test_a_site_that_copies_no_parts_is_told_and_keeps_no_upload(world, proxy, fault):
    proxy.harm(on("UploadPartCopy", fault))
    job_id = change(world)
    world.finish(job_id)
    expected = ("blocked", "no_part_copy") if fault is Fault.UNKNOWN else ("failed", "access_denied")
    assert (ended(world, job_id), is_as_it_was(world)) == (expected, True)


def test_without_room_for_a_mark_nothing_is_copied_in_parts(world, proxy):
    world.put(AWS, "a", BODY, Metadata={"k": "x" * 2040})
    world.scan(AWS)
    job_id = change(world)
    world.finish(job_id)
    assert ended(world, job_id) == ("blocked", "no_room_for_mark")
    assert proxy.asked("CreateMultipartUpload", world.key("a")) == []


def test_parts_replace_nothing_where_a_write_could_be_lost(world, proxy):
    world.set_site(AWS, capabilities={**world.capabilities(AWS), "conditional_complete": False, "versioning": False})
    job_id = change(world)
    world.finish(job_id)
    assert ended(world, job_id) == ("blocked", "no_conditional_complete")
    assert (proxy.asked("CreateMultipartUpload", world.key("a")), is_as_it_was(world)) == ([], True)


def test_in_a_versioned_bucket_a_write_that_parts_replaced_stands_again(site_of, small_parts):
    """No condition keeps the parts from replacing what an owner wrote after the last look: its version is beneath."""
    with Proxy(site_of(SEAWEEDFS)) as proxy:
        world = Guarded(proxy.site, versioned)
        world.set_site("guarded", capabilities={**world.capabilities("guarded"), "conditional_complete": False})
        world.put("a", BODY, Metadata={"k": "v"})
        world.scan("guarded")
        proxy.harm(on("CompleteMultipartUpload", Fault.BEFORE, times=1, act=lambda: world.put("a", NEWEST)))
        job_id = change(world, "guarded")
        world.finish(job_id)
        assert (ended(world, job_id)[0], world.guarded.get(world.key("a")) == NEWEST) == ("done", True)
        assert world.head("guarded", "a").pin.storage_class == "GLACIER_IR"
        assert world.uploads("guarded") == {}


def test_rclone_copies_no_parts_and_that_is_told(site_of, small_parts):
    """Its probe keeps any change of class from it; what the probe found is overruled here."""
    with Proxy(site_of(RCLONE)) as proxy:
        world = World({RCLONE: proxy.site})
        known = world.capabilities(RCLONE)
        world.put(RCLONE, "a", BODY)
        world.scan(RCLONE)
        refused = change(world, RCLONE)
        world.finish(refused)
        assert ended(world, refused)[0] == "blocked"
        classes = {"classes": ["STANDARD", "GLACIER_IR"], "conditional_copy": True, "conditional_complete": True}
        world.set_site(RCLONE, capabilities=known | classes | {"conditional_put": True})
        job_id = change(world, RCLONE)
        world.finish(job_id)
        assert ended(world, job_id) == ("blocked", "no_part_copy")
        assert world.row(job_id).error["detail"] == "rclone does not copy what a part is to be a copy of"
        assert (world.read(RCLONE, "a") == BODY, len(proxy.asked("UploadPartCopy"))) == (True, 1)
        assert proxy.asked("CompleteMultipartUpload", world.folder) == []
