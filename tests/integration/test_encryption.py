"""What is encrypted at its source: by the server, by a key of KMS, by its owner's own key."""

import os
from dataclasses import replace

import pytest

from app.domain.states import MoveKind
from tests.plain import Plain
from tests.s3servers import MOTO, SEAWEEDFS
from tests.world import World

MIB = 2**20
KEY, OTHER = "arn:aws:kms:us-east-1:123456789012:key/one", "arn:aws:kms:eu-west-1:123456789012:key/two"
BODIES = {"small": b"secret", "parts": b"0123456789abcdef" * (6 * MIB // 16)}


class Keys(World):
    """Two buckets at one server that takes any key for one of its own."""

    def __init__(self, site):
        ends = {name: replace(site, name=name, bucket=f"{site.bucket}-{name}") for name in ("from", "to")}
        client = Plain(site).client
        there = {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}
        for end in ends.values():
            if end.bucket not in there:
                client.create_bucket(Bucket=end.bucket)
        super().__init__(ends)

    def encrypted(self, body=b"secret", **parameters):
        self.put("from", "a", body, ServerSideEncryption="aws:kms", SSEKMSKeyId=KEY, **parameters)
        self.scan("from")

    def moved(self):
        job_id = self.move("a", "from", "to")
        self.finish(job_id)
        return self.row(job_id)


@pytest.fixture
def keys(site_of, clean_database, configure):
    configure(growing_age_s=0, retry_base_s=0.01, multipart_threshold=5 * MIB, part_size=5 * MIB)
    return lambda server=MOTO: Keys(site_of(server))


def ended(row):
    return row.state, row.reason


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
@pytest.mark.parametrize("mapped", [{KEY: OTHER}, {"*": OTHER}, {KEY: OTHER, "*": "default"}], ids=len)
def test_a_copy_is_encrypted_with_the_key_that_stands_for_its_sources(keys, body, mapped):
    world = keys()
    world.encrypted(body, Metadata={"k": "v"})
    world.set_site("to", kms_keys=mapped)
    assert ended(world.moved()) == ("done", None)
    found = world.head("to", "a")
    assert (found.encryption, found.kms_key, found.carried.metadata) == ("aws:kms", OTHER, {"k": "v"})
    assert (world.read("to", "a"), world.read("from", "a")) == (body, None)


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_without_a_key_for_it_nothing_is_written(keys, body):
    world = keys()
    world.encrypted(body)
    world.set_site("to", kms_keys={OTHER: KEY})
    row = world.moved()
    assert ended(row) == ("blocked", "kms_key_not_mapped")
    assert f"foretide sites change to 'kms_keys.{KEY}=KEY'" in row.error["detail"]
    assert (world.head("to", "a"), world.read("from", "a")) == (None, body)
    assert world.uploads("to") == {}


def test_the_operator_may_leave_it_to_the_bucket(keys):
    world = keys()
    world.encrypted()
    world.set_site("to", kms_keys={"*": "default"})
    assert ended(world.moved()) == ("done", None)
    assert (world.head("to", "a").encryption, world.read("to", "a")) == (None, b"secret")


def test_a_change_of_class_keeps_the_key(keys):
    world = keys()
    world.set_site("from", capabilities=world.capabilities("from") | {"conditional_copy": True})
    world.encrypted(Metadata={"k": "v"})
    job_id = world.plan(("a", MoveKind.CLASS, "from", "from", "STANDARD_IA"))
    world.finish(job_id)
    assert ended(world.row(job_id)) == ("done", None)
    found = world.head("from", "a")
    assert (found.pin.storage_class, found.encryption, found.kms_key) == ("STANDARD_IA", "aws:kms", KEY)


def test_a_server_that_does_not_use_the_key_has_kept_nothing(keys, sites):
    world = keys()
    world.encrypted()
    world.set_site("to", kms_keys={"*": OTHER})
    world.add_site(sites["gcp-eu"])
    world.set_site("gcp-eu", kms_keys={"*": "no-such-key"})
    job_id = world.move("a", "from", "gcp-eu")
    world.finish(job_id)
    assert world.row(job_id).state in ("failed", "dead"), world.row(job_id).error
    assert (world.head("gcp-eu", "a"), world.read("from", "a")) == (None, b"secret")


@pytest.mark.parametrize("size", [10, 6 * MIB])
def test_what_only_its_owner_can_read_is_blocked(keys, size):
    world = keys(SEAWEEDFS)
    world.put("from", "a", b"x" * size, SSECustomerAlgorithm="AES256", SSECustomerKey=os.urandom(32))
    world.scan("from")
    row = world.moved()
    assert ended(row) == ("blocked", "customer_key"), row.error
    assert world.head("to", "a") is None
