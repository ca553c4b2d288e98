"""Large objects: copied in parts under one pin, proven by checksum or by reading back, and moved to another class."""

import hashlib
import os
from datetime import UTC, datetime, timedelta

import pytest

from app.domain.faults import FaultKind
from app.domain.sites import SiteAddress, parse_networks
from app.errors import Cancelled, ChecksumMismatch, ConditionFailed, SourceChanged
from app.s3 import multipart, objects, transfer
from app.s3.client import connect
from app.s3.faults import FAULTS, Fault
from app.s3.heads import Carried
from app.s3.objects import Target

MIB = 2**20
PART = 5 * MIB
BODY = os.urandom(12 * MIB)
CARRIED = Carried({"content_type": "a/b", "cache_control": "no-cache"}, {"note": "x"}, {"t": "1 2"})


class Ledger:
    """Keeps what it is told, and stops the work before a part when it is to."""

    def __init__(self, stop_before=None):
        self.upload_id, self.parts, self._stop_before = None, [], stop_before

    def check(self):
        if len(self.parts) + 1 == self._stop_before:
            raise Cancelled

    def started(self, upload_id):
        self.upload_id = upload_id

    def sent(self, part):
        self.parts.append(part)


@pytest.fixture
def ends(sites, configure):
    configure(part_size=PART)
    transfer._buffers.cache_clear()
    networks = parse_networks("127.0.0.0/8")
    yield [
        connect(SiteAddress(s.name, s.endpoint_url, s.region, s.bucket, s.access_key, s.secret_key, networks))
        for s in list(sites.values())[:2]
    ]
    FAULTS.load_from(None)
    transfer._buffers.cache_clear()


@pytest.fixture
def key(request):
    return f"in-place/{request.node.name}"


def put(bucket, key, body=BODY, carried=CARRIED):
    target = Target(key, "STANDARD", "owner.1", conditional=False)
    objects.put(bucket, target, body, hashlib.sha256(body).hexdigest(), carried)
    return objects.head(bucket, key)


def uploads(bucket, key):
    found = bucket.client.list_multipart_uploads(Bucket=bucket.bucket, Prefix=key).get("Uploads", [])
    return [upload["UploadId"] for upload in found]


# -- to another class in place ----------------------------------------------------------------------------------------


def change(bucket, key, found, ledger, upload_id=None, done=(), at=lambda _: None):
    carried = objects.with_tags(bucket, key, found)
    target = Target(key, "STANDARD_IA", "mover.1", replaces=found.pin.etag)
    multipart.copy_in_place(bucket, found, target, carried, PART, upload_id, done, ledger, at)


def test_a_large_object_changes_its_class_in_parts_and_keeps_all_else(ends, key):
    bucket, ledger = ends[0], Ledger()
    found = put(bucket, key)
    change(bucket, key, found, ledger)
    after = objects.head(bucket, key)
    assert (after.pin.storage_class, after.pin.size, after.intent) == ("STANDARD_IA", len(BODY), "mover.1")
    assert objects.with_tags(bucket, key, after) == CARRIED
    assert objects.hashes(bucket, key, after.pin, PART)[0] == hashlib.sha256(BODY).hexdigest()
    assert [part.size for part in ledger.parts] == [PART, PART, 2 * MIB]
    assert uploads(bucket, key) == []


def test_a_successor_copies_only_the_parts_that_are_missing(ends, key):
    bucket, first, second = ends[0], Ledger(stop_before=3), Ledger()
    found = put(bucket, key)
    with pytest.raises(Cancelled):
        change(bucket, key, found, first)
    assert transfer.upload_is_there(bucket, key, first.upload_id, first.parts)
    change(bucket, key, found, second, first.upload_id, first.parts)
    assert [part.number for part in second.parts] == [3]
    after = objects.head(bucket, key)
    assert objects.hashes(bucket, key, after.pin, PART)[0] == hashlib.sha256(BODY).hexdigest()


@pytest.mark.parametrize("moment", ["upload_begun", "part_sent"])
def test_an_owners_write_meanwhile_is_not_undone(ends, key, moment):
    bucket, ledger = ends[0], Ledger()
    found, newer = put(bucket, key), os.urandom(12 * MIB)

    def write_once(name):
        if name == moment and len(ledger.parts) in (0, 2):
            put(bucket, key, newer)

    with pytest.raises((ConditionFailed, SourceChanged)):
        change(bucket, key, found, ledger, at=write_once)
    multipart.abort(bucket, key, ledger.upload_id)
    assert hashlib.sha256(objects.fetch(bucket, key, 2**30)[1]).digest() == hashlib.sha256(newer).digest()


# -- to another site --------------------------------------------------------------------------------------------------


def copy(ends, key, found, *, checksum, ledger=None, upload_id=None, done=()):
    source, destination = ends
    ledger = ledger or Ledger()
    target = Target(key, "STANDARD", "mover.1", conditional=False, checksum=checksum)
    copied = transfer.copy_parts(
        source, destination, found, target, CARRIED, PART, upload_id, done, ledger, lambda _: None
    )
    etags = [part.etag for part in (*done, *ledger.parts)]
    multipart.complete(destination, target, upload_id or ledger.upload_id, etags, copied.parts)
    return copied


def corrupt(bucket, probability=1.0):
    soon = datetime.now(UTC) + timedelta(minutes=1)
    FAULTS.load_from(lambda: [Fault(bucket.name, FaultKind.CORRUPT, probability, 0.0, soon)])


@pytest.mark.parametrize("checksum", [True, False])
def test_a_copy_in_parts_is_proven_by_checksum_or_by_reading_back(ends, key, checksum):
    copied = copy(ends, key, put(ends[0], key), checksum=checksum)
    pin = objects.head(ends[0], key).pin
    found, sha256 = transfer.prove(ends[1], key, copied, pin, CARRIED, by_checksum=checksum)
    assert sha256 == hashlib.sha256(BODY).hexdigest()
    assert bool(found.sha256_of_parts) is checksum
    corrupt(ends[1])
    if checksum:  # the site's own word is enough: nothing is read
        assert transfer.prove(ends[1], key, copied, pin, CARRIED, by_checksum=True)[1] == sha256
    else:
        with pytest.raises(ChecksumMismatch):
            transfer.prove(ends[1], key, copied, pin, CARRIED, by_checksum=False)


def test_a_copy_of_other_bytes_is_not_proven_by_its_checksum(ends, key):
    copied = copy(ends, key, put(ends[0], key), checksum=True)
    other = copy(ends, key, put(ends[0], key, BODY[::-1]), checksum=True)
    pin = objects.head(ends[0], key).pin
    transfer.prove(ends[1], key, other, pin, CARRIED, by_checksum=True)
    with pytest.raises(ChecksumMismatch):
        transfer.prove(ends[1], key, copied, pin, CARRIED, by_checksum=True)


@pytest.mark.parametrize("checksum", [True, False])
def test_a_source_that_was_misread_is_found_out(ends, key, checksum):
    found = put(ends[0], key)
    corrupt(ends[0])
    with pytest.raises(ChecksumMismatch) as caught:
        copy(ends, key, found, checksum=checksum)
    assert caught.value.reason == "source_misread"


def test_a_misread_part_is_found_out_by_a_successor_that_did_not_read_it(ends, key):
    found, first = put(ends[0], key), Ledger(stop_before=2)
    corrupt(ends[0])
    with pytest.raises(Cancelled):
        copy(ends, key, found, checksum=True, ledger=first)
    FAULTS.load_from(None)
    with pytest.raises(ChecksumMismatch):
        copy(ends, key, found, checksum=True, upload_id=first.upload_id, done=first.parts)


def test_a_successor_sends_the_parts_that_are_missing_and_no_other(ends, key):
    found, first, second = put(ends[0], key), Ledger(stop_before=3), Ledger()
    with pytest.raises(Cancelled):
        copy(ends, key, found, checksum=True, ledger=first)
    copied = copy(ends, key, found, checksum=True, ledger=second, upload_id=first.upload_id, done=first.parts)
    assert [part.number for part in second.parts] == [3]
    _, sha256 = transfer.prove(ends[1], key, copied, found.pin, CARRIED, by_checksum=True)
    assert sha256 == hashlib.sha256(BODY).hexdigest()


def test_all_memory_comes_back_whatever_happens(ends, key):
    found = put(ends[0], key)
    for stop_before in (1, 2, 3, None):
        ledger = Ledger(stop_before)
        try:
            copy(ends, key, found, checksum=False, ledger=ledger)
        except Cancelled:
            multipart.abort(ends[1], key, ledger.upload_id)
    put(ends[0], key, BODY[::-1])
    with pytest.raises(SourceChanged):
        copy(ends, key, found, checksum=False)
    buffers = transfer._buffers()
    assert buffers.take_now(transfer.PARTS_IN_MEMORY * PART) is not None
