"""One behaviour suite for every S3 server: what each is found to do, and that the object layer keeps to it."""

import hashlib
from dataclasses import replace

import pytest

from app.devstack.ports import HOST
from app.domain.keys import PROBES
from app.domain.sites import Capabilities, SiteAddress, parse_networks
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
from tests import s3servers
from tests.faults.proxy import Proxy
from tests.faults.rules import Fault, on
from tests.plain import Plain
from tests.s3servers import MOTO, RCLONE, SEAWEEDFS

LOOPBACK = parse_networks("127.0.0.0/8")
CLASSES = ("STANDARD", "STANDARD_IA", "GLACIER_IR")
CONDITIONS = ("put", "complete", "delete", "get", "copy", "copy_over")
HONOURED = {SEAWEEDFS: set(CONDITIONS), RCLONE: set(), MOTO: set(CONDITIONS) - {"copy", "copy_over"}}
CHECKED = {SEAWEEDFS: True, RCLONE: False, MOTO: False}
TAGGED = {SEAWEEDFS: True, RCLONE: False, MOTO: True}
KEPT_CLASSES = {SEAWEEDFS: CLASSES, RCLONE: ("STANDARD",), MOTO: CLASSES}


def address_of(site):
    return SiteAddress(
        site.name, site.endpoint_url, site.region, site.bucket, site.access_key, site.secret_key, LOOPBACK
    )


@pytest.fixture(params=s3servers.ALL)
def server(request):
    return request.param


@pytest.fixture
def site(server, site_of):
    return site_of(server)


@pytest.fixture
def bucket(site):
    return connect(address_of(site))


@pytest.fixture(scope="module")
def found(site_of):
    """What the probe finds at each server."""
    return {name: probe.probe(connect(address_of(site_of(name))), CLASSES) for name in s3servers.ALL}


def put(bucket, key, body, **changes):
    target = replace(Target(key, "STANDARD", "test.1", conditional=False), **changes)
    objects.put(bucket, target, body, hashlib.sha256(body).hexdigest(), Carried({"content_type": "text/x"}, {"k": "v"}))
    return objects.head(bucket, key)


# -- What the probe finds ---------------------------------------------------------------------------------------------


def test_the_probe_finds_what_the_server_really_does(server, found):
    can = found[server]
    assert {name for name in CONDITIONS if getattr(can, f"conditional_{name}")} == HONOURED[server]
    assert (can.checksum_sha256, can.tags) == (CHECKED[server], TAGGED[server])
    assert (can.classes, can.metadata) == (KEPT_CLASSES[server], True)
    assert (can.encrypted, can.versioning, can.object_lock, can.warnings) == (False, False, False, ())
    assert abs(can.clock_offset_s) < 5
    assert can.latency_ms > 0
    assert Capabilities.from_json(can.as_json()) == can


def test_the_probe_leaves_nothing_behind(site, found):
    assert Plain(site).keys(PROBES) == set()
    assert Plain(site).uploads(PROBES) == {}


@pytest.mark.parametrize("server", [SEAWEEDFS, MOTO], indirect=True)
def test_versions_lock_and_encryption_are_found(server, site):
    plain, name = Plain(site), f"{site.bucket}-guarded"
    plain.client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
    plain.client.put_bucket_encryption(Bucket=name, ServerSideEncryptionConfiguration={"Rules": [rule]})
    can = probe.probe(connect(address_of(replace(site, bucket=name))), CLASSES)
    assert (can.versioning, can.object_lock, can.encrypted) == (True, True, True)
    left = plain.client.list_object_versions(Bucket=name)
    assert left.get("Versions", []) + left.get("DeleteMarkers", []) == []


@pytest.mark.parametrize("server", [SEAWEEDFS, MOTO], indirect=True)
def test_rules_that_would_fight_the_planner_are_told(server, site):
    plain, name = Plain(site), f"{site.bucket}-ruled"
    plain.client.create_bucket(Bucket=name)
    rule = {"ID": "old", "Status": "Enabled", "Filter": {"Prefix": "tmp/"}, "Expiration": {"Days": 30}}
    plain.client.put_bucket_lifecycle_configuration(Bucket=name, LifecycleConfiguration={"Rules": [rule]})
    (warning,) = probe.probe(connect(address_of(replace(site, bucket=name))), CLASSES).warnings
    assert "lifecycle" in warning


def test_a_server_that_cannot_end_an_upload_is_used_all_the_same(site_of):
    with Proxy(site_of(SEAWEEDFS)) as proxy:
        proxy.harm(on("AbortMultipartUpload", Fault.UNKNOWN))
        can = probe.probe(connect(address_of(proxy.site)), CLASSES)
        assert (can.conditional_complete, can.checksum_parts) == (True, True)
        bucket = connect(address_of(proxy.site))
        upload_id = multipart.begin(bucket, Target("behaviour/stays", "STANDARD", "test.1"), Carried())
        assert not multipart.abort(bucket, "behaviour/stays", upload_id)
    plain = Plain(proxy.behind)
    for upload, key in plain.uploads().items():
        assert multipart.abort(connect(address_of(proxy.behind)), key, upload)
    assert plain.uploads() == {}


UNUSABLE = [
    ({"bucket": "no-such-bucket"}, BucketMissing),
    ({"secret_key": "wrong"}, AccessDenied),
    ({"endpoint_url": f"http://{HOST}:1"}, SiteUnavailable),
    ({"networks": ()}, PolicyForbids),
    ({"endpoint_url": "http://localhost:1", "networks": ()}, PolicyForbids),
]
LETS_ANYBODY_IN = (MOTO, AccessDenied)


@pytest.mark.parametrize(
    ("server", "change", "error"),
    [
        (server, change, error)
        for server in s3servers.ALL
        for change, error in UNUSABLE
        if (server, error) != LETS_ANYBODY_IN
    ],
    indirect=["server"],
)
def test_a_site_that_cannot_be_used_says_why(server, site, change, error):
    with pytest.raises(error):
        probe.probe(connect(replace(address_of(site), **change)), CLASSES)


# -- Objects ----------------------------------------------------------------------------------------------------------


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
    can = found[server]
    old = put(bucket, "behaviour/condition", b"one").pin

    def act():
        put(bucket, "behaviour/condition", b"two", conditional=True)

    if can.conditional_put:
        with pytest.raises(ConditionFailed):
            act()
        put(bucket, "behaviour/condition", b"two", conditional=True, replaces=old.etag)
    if can.conditional_delete:
        with pytest.raises(ConditionFailed):
            objects.delete(bucket, "behaviour/condition", replace(old, etag="0" * 32), conditional=True)
        assert objects.find(bucket, "behaviour/condition")
    if can.conditional_copy_over:
        now = objects.head(bucket, "behaviour/condition")
        with pytest.raises(ConditionFailed):
            objects.change_class(bucket, "behaviour/condition", now, now.carried, "STANDARD_IA", "test.1", "0" * 32)
        assert objects.head(bucket, "behaviour/condition").pin == now.pin
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


# -- A versioned bucket -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("server", [SEAWEEDFS, MOTO], indirect=True)
def test_a_delete_marker_over_a_newer_version_is_taken_back(server, site):
    versioned = replace(site, bucket=f"{site.bucket}-marked")
    bucket = connect(address_of(versioned))
    client = Plain(versioned).client
    client.create_bucket(Bucket=versioned.bucket)
    client.put_bucket_versioning(Bucket=versioned.bucket, VersioningConfiguration={"Status": "Enabled"})
    old = put(bucket, "a", b"old").pin
    newest = put(bucket, "a", b"newest").pin
    with pytest.raises(ConditionFailed):
        objects.delete(bucket, "a", old, conditional=False)
    assert objects.head(bucket, "a").pin.version_id == newest.version_id
