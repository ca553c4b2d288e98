"""What two fingerprints of an object tell: what is lost, and whether the bytes are shown to be the same."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from app.domain.fingerprints import Fingerprint, hash_of
from app.domain.pins import Pin

BEFORE = Fingerprint(
    10, etag="e", sha256="s", crc32=1, encryption="AES256", headers={"content_type": hash_of("a/b")},
    metadata=hash_of({"k": "v"}), tags=hash_of({}),
)  # fmt: skip


@pytest.mark.parametrize(
    ("change", "lost"),
    [
        ({}, []),
        ({"size": 11}, ["size"]),
        ({"sha256": "t"}, ["sha256"]),
        ({"crc32": 2}, ["crc32"]),
        ({"etag": "f"}, []),
        ({"etag": "f", "sha256": None}, []),
        ({"etag": "f", "sha256": None, "crc32": None}, ["etag"]),
        ({"encryption": "aws:kms key"}, ["encryption"]),
        ({"headers": {}}, ["content_type"]),
        ({"headers": {**BEFORE.headers, "cache_control": "x"}}, []),
        ({"metadata": hash_of({})}, ["metadata"]),
        ({"tags": hash_of({"a": "b"})}, ["tags"]),
        ({"metadata": None, "tags": None}, []),
    ],
)
def test_what_differs_is_named(change, lost):
    assert BEFORE.differences(replace(BEFORE, **change)) == lost


def test_equality_is_proven_by_a_checksum_alone():
    bare = replace(BEFORE, sha256=None, crc32=None)
    assert BEFORE.proves_equal(BEFORE)
    assert bare.proves_equal(bare)
    assert not replace(bare, etag=None).proves_equal(bare)
    assert not BEFORE.proves_equal(replace(BEFORE, tags=hash_of({"a": "b"})))


def test_a_pin_tells_less():
    pin = Pin("e", 10, datetime(2026, 5, 1, tzinfo=UTC))
    assert not Fingerprint.of_pin(pin).proves_equal(BEFORE)
    assert Fingerprint.of_pin(pin).differences(replace(BEFORE, size=9)) == ["size"]
    assert Fingerprint.of_pin(replace(pin, etag="e-2")).etag is None


def test_it_is_kept_as_json():
    assert Fingerprint.from_json(BEFORE.as_json()) == BEFORE
    assert Fingerprint.from_json(None) is None
