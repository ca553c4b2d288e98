"""One behaviour suite for every S3 server: what each is found to do, and what moves to and from it then do."""

import hashlib
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from app.devstack.ports import HOST, Ports
from app.devstack.processes import Child, Command
from app.devstack.seaweed import RunningSite
from app.domain.sites import Capabilities, SiteAddress, parse_networks
from app.domain.states import MoveKind
from app.errors import (
    AccessDenied,
    BucketMissing,
    ConditionFailed,
    ObjectMissing,
    PolicyForbids,
    SiteUnavailable,
    SourceChanged,
)
from app.s3 import multipart, objects, probe
from app.s3.client import connect
from app.s3.objects import Carried, Target
from tests.world import World

LOOPBACK = parse_networks("127.0.0.0/8")
CLASSES = ("STANDARD", "STANDARD_IA", "GLACIER_IR")
RCLONE = "rclone"
SEAWEED = "aws-eu"


@pytest.fixture(scope="session")
def rclone(tmp_path_factory):
    """A server that accepts conditions, checksums, classes and tags, and ignores them."""
    folder = tmp_path_factory.mktemp("rclone")
    (folder / "data" / "bucket").mkdir(parents=True)
    port = Ports().choose()
    program = shutil.which("rclone", path=str(Path(sys.executable).parent))
    argv = (program, "serve", "s3", "--addr", f"{HOST}:{port}", "--auth-key", "access,secret", str(folder / "data"))
    child = Child(Command("rclone", argv, folder, folder / "log", dict(os.environ)))
    site = RunningSite(RCLONE, "other", "us-east-1", f"http://{HOST}:{port}", "bucket", "access", "secret")

    def answers():
        try:
            probe.ping(connect(address_of(site)))
        except SiteUnavailable:
            return False
        return True

    child.await_ready(answers)
    yield site
    child.stop()


def address_of(site):
    return SiteAddress(
        site.name, site.endpoint_url, site.region, site.bucket, site.access_key, site.secret_key, LOOPBACK
    )


@pytest.fixture(params=[SEAWEED, RCLONE])
def server(request, sites, rclone):
    return rclone if request.param == RCLONE else sites[request.param]


@pytest.fixture
def bucket(server):
    return connect(address_of(server))


@pytest.fixture(scope="session")
def found(sites, rclone):
    """What the probe finds at each server."""
    known = {SEAWEED: sites[SEAWEED], RCLONE: rclone}
    return {name: probe.probe(connect(address_of(site)), CLASSES) for name, site in known.items()}


def put(bucket, key, body, **changes):
    target = replace(Target(key, "STANDARD", "test.1", conditional=False), **changes)
    objects.put(bucket, target, body, hashlib.sha256(body).hexdigest(), Carried({"content_type": "text/x"}, {"k": "v"}))
    return objects.head(bucket, key)


def test_the_probe_finds_what_each_server_really_does(found):
    weed, other = found[SEAWEED], found[RCLONE]
    conditions = [f"conditional_{request}" for request in ("put", "complete", "delete", "get", "copy")]
    assert all(getattr(weed, name) for name in (*conditions, "checksum_sha256", "metadata", "tags"))
    assert weed.classes == CLASSES
    assert not any(getattr(other, name) for name in (*conditions, "checksum_sha256", "tags"))
    assert other.classes == ("STANDARD",)
    for capabilities in found.values():
        assert not capabilities.encrypted
        assert not capabilities.versioning
        assert abs(capabilities.clock_offset_s) < 5
        assert capabilities.latency_ms > 0
        assert Capabilities.from_json(capabilities.as_json()) == capabilities


def test_the_probe_leaves_nothing_behind(bucket, found):
    assert [line for page in objects.pages(bucket, probe.PREFIX) for line in page] == []


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"bucket": "no-such-bucket"}, BucketMissing),
        ({"secret_key": "wrong"}, AccessDenied),
        ({"endpoint_url": f"http://{HOST}:1"}, SiteUnavailable),
        ({"networks": ()}, PolicyForbids),
        ({"endpoint_url": "http://localhost:1", "networks": ()}, PolicyForbids),
    ],
)
def test_a_site_that_cannot_be_used_says_why(server, change, error):
    with pytest.raises(error):
        probe.probe(connect(replace(address_of(server), **change)), CLASSES)


def test_what_was_put_is_what_is_found(bucket):
    head = put(bucket, "behaviour/put", b"body")
    assert (head.pin.size, head.pin.storage_class, head.intent) == (4, "STANDARD", "test.1")
    assert (head.carried.headers, head.carried.metadata) == ({"content_type": "text/x"}, {"k": "v"})
    assert head.server_date is not None
    whole, parts = objects.hashes(bucket, "behaviour/put", head.pin, 3)
    assert whole == hashlib.sha256(b"body").hexdigest()
    assert parts == [hashlib.sha256(piece).hexdigest() for piece in (b"bod", b"y")]
    (line,) = [line for page in objects.pages(bucket, "behaviour/put") for line in page]
    assert line.pin.same_object(head.pin)


def test_a_missing_object_and_a_missing_bucket_differ(bucket):
    with pytest.raises(ObjectMissing):
        objects.head(bucket, "behaviour/nothing")
    assert objects.find(bucket, "behaviour/nothing") is None
    with pytest.raises(BucketMissing):
        objects.find(replace(bucket, bucket="no-such-bucket"), "behaviour/nothing")


def test_reading_another_version_than_the_pinned_is_noticed(bucket):
    old = put(bucket, "behaviour/read", b"old").pin
    put(bucket, "behaviour/read", b"newer")
    with pytest.raises(SourceChanged), objects.reading(bucket, "behaviour/read", old):
        pass
    with pytest.raises(SourceChanged), objects.reading(bucket, "behaviour/gone", old):
        pass


def test_conditions_are_honoured_where_the_probe_says_so(bucket, server, found):
    can = found[server.name]
    old = put(bucket, "behaviour/condition", b"one").pin

    def act():
        put(bucket, "behaviour/condition", b"two", conditional=True)

    if can.conditional_put:
        with pytest.raises(ConditionFailed):
            act()
        put(bucket, "behaviour/condition", b"two", conditional=True, replaces=old.etag)
    if can.conditional_delete:
        with pytest.raises(ConditionFailed):
            objects.delete(bucket, "behaviour/condition", old, conditional=True)
        assert objects.find(bucket, "behaviour/condition")
    objects.delete(bucket, "behaviour/condition", objects.head(bucket, "behaviour/condition").pin, conditional=False)
    assert objects.find(bucket, "behaviour/condition") is None


def test_an_upload_is_completed_of_its_parts_or_leaves_nothing(bucket):
    target = Target("behaviour/parts", "STANDARD", "test.1", conditional=False)
    upload = multipart.begin(bucket, target, Carried())
    etags = [multipart.send_part(bucket, target.key, upload, n, body) for n, body in ((1, b"x" * 5 * 2**20), (2, b"y"))]
    assert multipart.sent_parts(bucket, target.key, upload) == dict(enumerate(etags, start=1))
    multipart.complete(bucket, target, upload, etags)
    assert objects.head(bucket, target.key).pin.size == 5 * 2**20 + 1
    assert multipart.sent_parts(bucket, target.key, upload) is None

    given_up = multipart.begin(bucket, replace(target, key="behaviour/given-up"), Carried())
    multipart.abort(bucket, "behaviour/given-up", given_up)
    multipart.abort(bucket, "behaviour/given-up", given_up)
    assert objects.find(bucket, "behaviour/given-up") is None


# -- moves to and from a server without guards ------------------------------------------------------------------------


@pytest.fixture
def world(sites, rclone, clean_database, configure):
    configure(growing_age_s=0, retry_base_s=0.01, multipart_threshold=5 * 2**20, part_size=5 * 2**20)
    return World({SEAWEED: sites[SEAWEED], RCLONE: rclone})


@pytest.mark.parametrize("size", [0, 100, 11 * 2**20])
def test_a_move_to_a_server_without_guards_is_proven_by_reading_back(world, size):
    world.put(SEAWEED, "a", b"x" * size, Metadata={"k": "v"})
    world.scan(SEAWEED)
    job_id = world.move("a", SEAWEED, RCLONE)
    world.finish(job_id)
    assert world.row(job_id).state == "done"
    assert world.read(RCLONE, "a") == b"x" * size
    assert world.row(job_id).sha256 == hashlib.sha256(b"x" * size).hexdigest()


def test_a_source_at_a_server_without_guards_is_kept_unless_the_operator_allows_its_delete(world):
    for name in "ab":
        world.put(RCLONE, name)
    world.scan(RCLONE)
    first = world.move("a", RCLONE, SEAWEED)
    world.finish(first)
    assert world.row(first).reason == "source_kept_no_guarded_delete"
    assert world.read(RCLONE, "a") == b"hello"

    world.set_site(RCLONE, allow_unguarded_delete=True)
    second = world.move("b", RCLONE, SEAWEED)
    world.finish(second)
    assert (world.row(second).state, world.row(second).reason) == ("done", None)
    assert world.read(RCLONE, "b") is None


def test_somebody_elses_object_is_left_alone_without_conditions_too(world):
    world.put(SEAWEED, "a", b"ours")
    world.scan(SEAWEED)
    world.put(RCLONE, "a", b"theirs")
    job_id = world.move("a", SEAWEED, RCLONE)
    world.work(job_id)
    assert (world.row(job_id).state, world.row(job_id).reason) == ("blocked", "destination_exists")
    assert world.read(RCLONE, "a") == b"theirs"


def test_what_the_destination_cannot_keep_fails_and_touches_nothing(world):
    world.put(SEAWEED, "tagged", Tagging="a=b")
    world.scan(SEAWEED)
    job_id = world.move("tagged", SEAWEED, RCLONE)
    world.finish(job_id)
    assert (world.row(job_id).state, world.row(job_id).reason) == ("failed", "not_kept_as_sent")
    assert world.states("tagged")[SEAWEED] == "serving"
    assert world.read(SEAWEED, "tagged") == b"hello"
    assert world.job(job_id).state == "failed"


def test_a_class_change_at_a_server_that_keeps_none_is_blocked(world):
    world.put(RCLONE, "a")
    world.scan(RCLONE)
    job_id = world.plan(("a", MoveKind.CLASS, RCLONE, RCLONE, "STANDARD_IA"))
    world.work(job_id)
    assert (world.row(job_id).state, world.row(job_id).reason) == ("blocked", "class_not_kept")


def test_a_versioned_bucket_hides_the_source_behind_a_marker(world, sites):
    site = replace(sites[SEAWEED], name="versioned", bucket=f"{sites[SEAWEED].bucket}-versioned")
    client = world.buckets[SEAWEED].client
    client.create_bucket(Bucket=site.bucket)
    client.put_bucket_versioning(Bucket=site.bucket, VersioningConfiguration={"Status": "Enabled"})
    world.add_site(site)
    world.set_site("versioned", capabilities=probe.probe(connect(address_of(site)), CLASSES).as_json())
    world.put("versioned", "a", b"old")
    world.put("versioned", "a", b"newest")
    world.scan("versioned")
    job_id = world.move("a", "versioned", SEAWEED)
    world.finish(job_id)
    assert world.row(job_id).state == "done"
    assert world.read(SEAWEED, "a") == b"newest"
    assert world.read("versioned", "a") is None
    kept = client.list_object_versions(Bucket=site.bucket, Prefix=world.key("a"))
    assert len(kept["Versions"]) == 2
    assert len(kept["DeleteMarkers"]) == 1


def test_a_delete_marker_over_a_newer_version_is_taken_back(sites):
    site = replace(sites[SEAWEED], name="marked", bucket=f"{sites[SEAWEED].bucket}-marked")
    bucket = connect(address_of(site))
    bucket.client.create_bucket(Bucket=site.bucket)
    bucket.client.put_bucket_versioning(Bucket=site.bucket, VersioningConfiguration={"Status": "Enabled"})
    old = put(bucket, "a", b"old").pin
    newest = put(bucket, "a", b"newest").pin
    with pytest.raises(ConditionFailed):
        objects.delete(bucket, "a", old, conditional=False)
    assert objects.head(bucket, "a").pin.version_id == newest.version_id
