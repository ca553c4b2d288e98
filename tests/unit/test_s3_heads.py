"""What headers and documents say, and what is made of those that say nonsense."""

import base64
import hashlib
import threading
import zlib
from datetime import UTC, datetime

import pytest

from app.domain.headers import INTENT
from app.errors import SiteFaulty
from app.s3 import documents
from app.s3.buffers import Buffers
from app.s3.evidence import Evidence
from app.s3.heads import Carried, head_of
from app.s3.wire import Garbled

BODY = b"0123456789"
SHA256, MD5 = hashlib.sha256(BODY), hashlib.md5(BODY).hexdigest()
PLAIN = {"etag": '"abc"', "last-modified": "Fri, 01 May 2026 12:00:00 GMT", "content-length": "10"}


def base64_of(digest):
    return base64.b64encode(digest).decode()


def head(**headers):
    return head_of("site", PLAIN | {name.replace("_", "-"): value for name, value in headers.items()}, str)


def test_a_plain_head_says_what_is_there_and_nothing_else():
    found = head()
    assert (found.pin.etag, found.pin.size, found.pin.version_id) == ("abc", 10, None)
    assert found.pin.last_modified == datetime(2026, 5, 1, 12, tzinfo=UTC)
    assert found.carried == Carried()
    assert (found.intent, found.tag_count, found.sha256, found.crc32, found.encryption) == (None, 0, None, None, None)
    assert not found.customer_key
    assert not found.is_locked(datetime.now(UTC))


def test_all_that_a_head_may_say_is_understood():
    found = head(
        content_type="a/b", cache_control="no-cache", expires="Thu, 01 May 2031 12:00:00 GMT",
        x_amz_meta_note="Ã©", x_amz_version_id="v", x_amz_tagging_count="3",
        x_amz_checksum_sha256=base64_of(SHA256.digest()),
        x_amz_checksum_crc32=base64_of(zlib.crc32(BODY).to_bytes(4)), x_amz_server_side_encryption="aws:kms",
        x_amz_server_side_encryption_aws_kms_key_id="k", date="Fri, 01 May 2026 13:00:00 GMT",
        x_amz_object_lock_retain_until_date="2027-01-01T00:00:00.000Z", **{f"x_amz_meta_{INTENT}": "7.1"},
    )  # fmt: skip
    headers = {"content_type": "a/b", "cache_control": "no-cache", "expires": "Thu, 01 May 2031 12:00:00 GMT"}
    assert found.carried == Carried(headers, {"note": "Ã©"})
    assert found.carried.sent("7.1")["expires"] == headers["expires"]
    assert (found.intent, found.tag_count, found.pin.version_id) == ("7.1", 3, "v")
    assert (found.sha256, found.crc32, found.sha256_of_parts) == (SHA256.hexdigest(), zlib.crc32(BODY), None)
    assert found.encrypting == {
        "x-amz-server-side-encryption": "aws:kms",
        "x-amz-server-side-encryption-aws-kms-key-id": "k",
    }
    assert found.server_date == datetime(2026, 5, 1, 13, tzinfo=UTC)
    assert found.is_locked(datetime(2026, 12, 31, tzinfo=UTC))
    assert not found.is_locked(datetime(2027, 1, 2, tzinfo=UTC))
    assert head(x_amz_object_lock_legal_hold="ON").is_locked(datetime(2030, 1, 1, tzinfo=UTC))


def test_a_checksum_of_parts_is_not_taken_for_the_objects():
    together = base64_of(SHA256.digest())
    for found in (
        head(x_amz_checksum_sha256=f"{together}-2"),
        head(x_amz_checksum_sha256=f"{together}-2", x_amz_checksum_type="COMPOSITE"),
    ):
        assert (found.sha256, found.sha256_of_parts) == (None, f"{SHA256.hexdigest()}-2")
    assert head(x_amz_checksum_sha256="no base64!").sha256 is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("last_modified", "yesterday"),
        ("last_modified", ""),
        ("content_length", "ten"),
        ("content_length", "²"),
        ("x_amz_object_lock_retain_until_date", "some day"),
    ],
)
def test_nonsense_is_a_fault_of_the_site(name, value):
    with pytest.raises(SiteFaulty):
        head(**{name: value})


def test_a_head_without_an_etag_is_a_fault_of_the_site():
    with pytest.raises(SiteFaulty):
        head_of("site", {name: value for name, value in PLAIN.items() if name != "etag"}, str)


def test_what_is_carried_is_sent_and_marked_where_the_mark_fits():
    carried = Carried({"content_type": "a/b", "website_redirect": "/x"}, {"k": "v"}, {"a b": "ü&="})
    assert carried.sent("7.1") == {
        "content-type": "a/b",
        "x-amz-website-redirect-location": "/x",
        "x-amz-meta-k": "v",
        f"x-amz-meta-{INTENT}": "7.1",
    }
    assert carried.tagging() == {"x-amz-tagging": "a+b=%C3%BC%26%3D"}
    assert Carried().tagging() == {}
    full = Carried({}, {"k": "v" * 2040})
    assert full.sent("7.1") == {"x-amz-meta-k": "v" * 2040}


# -- documents --------------------------------------------------------------------------------------------------------


def test_an_error_document_is_found_whatever_its_namespace():
    for body in (
        b"<Error><Code>NoSuchKey</Code><Message>m &amp; n</Message></Error>",
        b'  <?xml version="1.0"?>\n<Error xmlns="http://x/"><Code>NoSuchKey</Code><Message>m &amp; n</Message></Error>',
    ):
        assert documents.error_of(body) == ("NoSuchKey", "m & n")
    for body in (b"", b"<html>503</html>", b"<Error>", b"\xff", b"<CopyObjectResult/>", b"Error"):
        assert documents.error_of(body) is None


def test_a_document_with_definitions_is_none():
    with pytest.raises(Garbled):
        documents.parsed(b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>')


def test_a_completion_lists_all_parts_in_order():
    root = documents.parsed(documents.completion(['"a<&"', '"b"'], [SHA256.hexdigest()] * 2))
    found = [(documents.text(part, "PartNumber"), documents.text(part, "ETag")) for part in root.iter("Part")]
    assert found == [("1", '"a<&"'), ("2", '"b"')]
    assert documents.text(next(root.iter("Part")), "ChecksumSHA256") == base64_of(SHA256.digest())


# -- evidence ---------------------------------------------------------------------------------------------------------


def agrees(found, body):
    evidence = Evidence(found)
    for byte in body:
        evidence.add(bytes([byte]))
    return evidence.agrees(hashlib.sha256(body).hexdigest())


def test_a_checksum_of_the_source_shows_what_was_read():
    misread = b"1123456789"
    for found in (
        head(x_amz_checksum_sha256=base64_of(SHA256.digest())),
        head(x_amz_checksum_crc32=base64_of(zlib.crc32(BODY).to_bytes(4))),
    ):
        assert agrees(found, BODY) is True
        assert agrees(found, misread) is False


def test_an_etag_shows_that_it_is_the_md5_and_else_nothing():
    found = head(etag=f'"{MD5}"')
    assert agrees(found, BODY) is True
    assert agrees(found, b"1123456789") is None
    assert agrees(head(etag=f'"{MD5}-2"'), BODY) is None


# -- memory -----------------------------------------------------------------------------------------------------------


def test_buffers_are_bounded_and_used_again():
    buffers = Buffers(20)
    first, second = buffers.take(10), buffers.take(10)
    assert buffers.take_now(10) is None
    buffers.give(first)
    assert buffers.take_now(10) is first
    waiting = threading.Thread(target=lambda: buffers.give(buffers.take(10)))
    waiting.start()
    waiting.join(0.05)
    assert waiting.is_alive()
    buffers.give(second)
    waiting.join(5)
    assert not waiting.is_alive()


def test_a_buffer_larger_than_all_is_handed_out_alone():
    buffers = Buffers(20)
    large = buffers.take(100)
    assert buffers.take_now(1) is None
    buffers.give(large)
    assert len(buffers.take_now(1)) == 1
