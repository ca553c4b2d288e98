"""What buckets guard themselves: versions, delete markers, object lock, encryption, at the servers that have them."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from app.domain.states import MoveKind
from tests.plain import Plain
from tests.s3servers import MOTO, SEAWEEDFS
from tests.world import World

MIB = 2**20
ENABLED = {"Status": "Enabled"}


class Guarded(World):
    """A world of an ordinary site and one at the same server whose bucket is made by `make(client, bucket)`."""

    def __init__(self, site, make):
        guarded = replace(site, name="guarded", bucket=f"{site.bucket}-{make.__name__}")
        self.client = Plain(site).client
        if not any(bucket["Name"] == guarded.bucket for bucket in self.client.list_buckets()["Buckets"]):
            make(self.client, guarded.bucket)
        super().__init__({"plain": replace(site, name="plain"), "guarded": guarded})
        self.plain, self.guarded = Plain(site), Plain(guarded)

    def put(self, name, body, **parameters):  # the source's, behind its guard
        return self.guarded.put(self.key(name), body, **parameters)

    def versions(self, name):
        """Versions and delete markers of a key."""
        found = self.client.list_object_versions(Bucket=self.guarded.bucket, Prefix=self.key(name))
        return found.get("Versions", []), found.get("DeleteMarkers", [])


def versioned(client, bucket):
    client.create_bucket(Bucket=bucket)
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration=ENABLED)


def locked(client, bucket):
    client.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)


def encrypted(client, bucket):
    client.create_bucket(Bucket=bucket)
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
    client.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration={"Rules": [rule]})


@pytest.fixture(params=[SEAWEEDFS, MOTO])
def guarded(request, site_of, clean_database, configure):
    configure(growing_age_s=0, retry_base_s=0.01, multipart_threshold=5 * MIB, part_size=5 * MIB)
    return lambda make: Guarded(site_of(request.param), make)


# -- Versions ---------------------------------------------------------------------------------------------------------


def test_a_versioned_bucket_hides_the_source_behind_a_marker_and_brings_no_older_version_back(guarded):
    world = guarded(versioned)
    world.put("a", b"old")
    world.put("a", b"newest")
    world.scan("guarded")
    job_id = world.move("a", "guarded", "plain")
    world.finish(job_id)
    assert (world.row(job_id).state, world.row(job_id).reason) == ("done", "old_version_kept")
    assert (world.guarded.get(world.key("a")), world.plain.get(world.key("a"))) == (None, b"newest")
    kept, markers = world.versions("a")
    assert (len(kept), len(markers)) == (2, 1)


def test_a_version_written_during_the_grace_is_the_newest_and_serves(guarded):
    world = guarded(versioned)
    world.put("a", b"old")
    world.scan("guarded")
    job_id = world.move("a", "guarded", "plain")
    world.work(job_id)
    world.put("a", b"newest")
    world.finish(job_id)
    assert (world.row(job_id).state, world.row(job_id).reason) == ("rolled_back", "source_changed_after_switch")
    assert world.states("a") == {"guarded": "serving", "plain": "stale"}
    assert world.guarded.get(world.key("a")) == b"newest"


def test_a_version_written_just_before_the_delete_is_not_hidden(guarded):
    world = guarded(versioned)
    world.put("a", b"old")
    world.scan("guarded")
    job_id = world.move("a", "guarded", "plain")
    world.work(job_id)
    world.due(job_id)
    world.work(job_id, at=lambda point: world.put("a", b"newest") if point == "delete_intended" else None)
    assert world.guarded.get(world.key("a")) == b"newest"
    world.finish(job_id)
    assert (world.row(job_id).state, world.states("a")["guarded"]) == ("rolled_back", "serving")


def test_what_stands_behind_a_delete_marker_is_not_there(guarded):
    world = guarded(versioned)
    world.put("a", b"old")
    world.scan("guarded")
    world.guarded.delete(world.key("a"))
    job_id = world.move("a", "guarded", "plain")
    world.finish(job_id)
    assert (world.row(job_id).state, world.row(job_id).reason) == ("skipped", "source_missing")
    assert world.plain.get(world.key("a")) is None
    for _ in range(2):
        world.scan("guarded")
    assert world.object("a").state == "gone"


def test_a_move_into_a_versioned_bucket_over_a_delete_marker(guarded):
    world = guarded(versioned)
    world.put("a", b"long gone")
    world.guarded.delete(world.key("a"))
    world.plain.put(world.key("a"), b"newest")
    world.scan("plain")
    job_id = world.move("a", "plain", "guarded")
    world.finish(job_id)
    assert world.row(job_id).state == "done"
    assert (world.guarded.get(world.key("a")), world.plain.get(world.key("a"))) == (b"newest", None)


# -- Object lock ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hold", ["retention", "legal hold"])
def test_a_locked_source_is_kept_and_reported(guarded, hold):
    world = guarded(locked)
    world.put("a", b"locked")
    where = {"Bucket": world.guarded.bucket, "Key": world.key("a")}
    if hold == "retention":
        until = datetime.now(UTC) + timedelta(days=1)
        world.client.put_object_retention(**where, Retention={"Mode": "GOVERNANCE", "RetainUntilDate": until})
    else:
        world.client.put_object_legal_hold(**where, LegalHold={"Status": "ON"})
    world.scan("guarded")
    job_id = world.move("a", "guarded", "plain")
    world.finish(job_id)
    assert (world.row(job_id).state, world.row(job_id).reason) == ("done", "source_kept_object_lock")
    assert world.states("a") == {"guarded": "draining", "plain": "serving"}
    assert world.guarded.get(world.key("a")) == world.plain.get(world.key("a")) == b"locked"
    assert world.versions("a")[1] == [], "not even a marker was written"
    (alert,) = world.alerts("source_kept")
    assert "object_lock" in alert.message


# -- Encryption at rest -----------------------------------------------------------------------------------------------


def test_a_bucket_that_encrypts_by_itself_satisfies_the_policy_and_the_plain_one_does_not(guarded):
    world = guarded(encrypted)
    world.policy("security", {"enforce": True})
    world.plain.put(world.key("a"), b"secret")
    world.scan("plain")
    job_id = world.move("a", "plain", "guarded")
    world.finish(job_id)
    assert (world.row(job_id).state, world.row(job_id).reason) == ("done", None)
    assert world.guarded.head(world.key("a"))["ServerSideEncryption"] == "AES256"
    assert world.guarded.get(world.key("a")) == b"secret"

    back = world.move("a", "guarded", "plain")
    world.finish(back)
    assert (world.row(back).state, world.row(back).reason) == ("blocked", "destination_not_encrypted")
    assert world.guarded.get(world.key("a")) == b"secret"


@pytest.mark.parametrize("body", [b"small", b"0123456789abcdef" * (6 * MIB // 16)], ids=["whole", "parts"])
def test_an_object_that_is_encrypted_by_its_server_is_moved_and_proven(guarded, body):
    world = guarded(encrypted)
    world.put("a", body, Metadata={"k": "v"})
    world.scan("guarded")
    job_id = world.move("a", "guarded", "plain")
    world.finish(job_id)
    assert (world.row(job_id).state, world.row(job_id).reason) == ("done", None)
    assert world.plain.get(world.key("a")) == body
    assert world.guarded.get(world.key("a")) is None


@pytest.mark.parametrize("guarded", [SEAWEEDFS], indirect=True)
def test_an_encrypted_object_stays_encrypted_when_its_class_changes(guarded):
    world = guarded(encrypted)
    world.put("a", b"secret", Metadata={"k": "v"})
    world.scan("guarded")
    job_id = world.plan(("a", MoveKind.CLASS, "guarded", "guarded", "STANDARD_IA"))
    world.finish(job_id)
    assert (world.row(job_id).state, world.row(job_id).reason) == ("done", None)
    head = world.guarded.head(world.key("a"))
    assert (head["StorageClass"], head["ServerSideEncryption"], head["Metadata"]["k"]) == ("STANDARD_IA", "AES256", "v")
    assert world.guarded.get(world.key("a")) == b"secret"
