"""Which endpoints may be asked, and which sites count as encrypted."""

from dataclasses import replace

import pytest

from app.domain.sites import (
    Capabilities,
    SiteAddress,
    check_addresses,
    check_endpoint,
    is_encrypted,
    parse_networks,
)
from app.errors import Invalid, PolicyForbids

INTERNAL = [
    "127.0.0.1", "10.0.0.1", "172.16.5.4", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
    "255.255.255.255", "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1",
    "::ffff:127.0.0.1", "::ffff:169.254.169.254",
]  # fmt: skip


@pytest.mark.parametrize("address", INTERNAL)
def test_internal_addresses_are_refused(address):
    with pytest.raises(PolicyForbids):
        check_addresses("host", [address], ())


def test_one_internal_address_among_public_ones_is_enough():
    check_addresses("host", ["8.8.8.8", "2001:4860:4860::8888"], ())
    with pytest.raises(PolicyForbids):
        check_addresses("host", ["8.8.8.8", "10.0.0.1"], ())


def test_named_networks_are_allowed():
    allowed = parse_networks("10.0.0.0/8, ::1/128")
    check_addresses("host", ["10.1.2.3", "::1"], allowed)
    with pytest.raises(PolicyForbids):
        check_addresses("host", ["127.0.0.1"], allowed)
    with pytest.raises(Invalid):
        parse_networks("10.0.0.0/8,nonsense")


@pytest.mark.parametrize(
    "url",
    [
        "ftp://s3.example.com", "s3.example.com", "http://", "https://user:pass@s3.example.com", "https://s3/path",
        "https://s3.example.com?x=1", "https://s3.example.com#f", "https://s3.example.com:port", "file:///etc/passwd",
    ],
)  # fmt: skip
def test_what_is_no_endpoint_is_refused(url):
    with pytest.raises(Invalid):
        check_endpoint(url, ())


def test_an_address_in_the_url_is_judged_at_once():
    check_endpoint("https://s3.example.com", ())
    with pytest.raises(PolicyForbids):
        check_endpoint("http://169.254.169.254", ())
    with pytest.raises(PolicyForbids):
        check_endpoint("http://[::1]:8333", ())
    check_endpoint("http://127.0.0.1:8333/", parse_networks("127.0.0.0/8"))


@pytest.mark.parametrize(
    ("url", "seen", "declared", "encrypted"),
    [
        ("https://s3.example.com", True, False, True),
        ("https://s3.example.com", False, True, True),
        ("https://s3.example.com", False, False, False),
        ("http://s3.example.com", True, True, False),
        ("http://127.0.0.1:8333", True, False, True),
        ("http://localhost:8333", False, True, True),
    ],
)
def test_encrypted_means_at_rest_and_on_the_way(url, seen, declared, encrypted):
    assert is_encrypted(url, Capabilities(encrypted=seen), declared=declared) is encrypted


def test_capabilities_are_stored_and_read_again():
    found = Capabilities(conditional_put=True, classes=("A", "B"), class_names={"A": "X"}, warnings=("w",))
    assert Capabilities.from_json(found.as_json()) == found
    assert Capabilities.from_json({"unknown": 1}) == Capabilities()


def test_a_secret_is_not_printed():
    address = SiteAddress("s", "https://h", "r", "b", "access", "very-secret")
    assert "very-secret" not in repr(address)
    assert replace(address, secret_key="other") != address
