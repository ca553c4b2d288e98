"""Signed requests equal botocore's, byte for byte, for hostile keys, metadata and queries."""

import random
import time
import unicodedata
from datetime import UTC, datetime
from urllib.parse import quote

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from app.domain import sigv4
from app.domain.sites import SiteAddress
from app.s3.signing import Signer

ACCESS, SECRET, REGION = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "eu-central-1"
ENDPOINTS = ["http://127.0.0.1:8333", "https://s3.example.com", "https://s3.example.com:443", "http://[::1]:9000"]
PIECES = [
    "a", "Z", "0", " ", "  ", "+", "%", "%20", "%2F", "/", "//", "../", "./", "/.", "?", "#", "&", "=", ";", ":", "@",
    "!", "$", "'", "(", ")", "*", ",", "~", "-", "_", ".", '"', "\\", "<script>", "{", "}", "[", "]", "|", "^", "`",
    "\t", "\n", "\r", "\x01", "🎉", "👩‍👩‍👧", unicodedata.normalize("NFC", "é"), unicodedata.normalize("NFD", "é"),
    "\x7f", "\u202e", "\u200f", "\u200b", "\ufeff", "عربي", "日本",
]  # fmt: skip
SEED, KEYS = 20260501, 500


def random_key(chance):
    key = "".join(chance.choices(PIECES, k=chance.randint(1, 30)))
    return key.encode()[: chance.choice((1024, 1024, 20))].decode(errors="ignore") or "k"


def theirs(address, method, path, query, headers, payload, now):
    """The headers that botocore would send at this time."""

    stamp = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")

    class Then(S3SigV4Auth):
        def payload(self, request):
            return payload

        def _modify_request_before_signing(self, request):
            request.context["timestamp"] = stamp
            super()._modify_request_before_signing(request)

    url = address.endpoint_url + path + ("?" + query if query else "")
    request = AWSRequest(method=method, url=url, headers=headers)
    Then(Credentials(ACCESS, SECRET), "s3", REGION).add_auth(request)
    return request.headers


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_signed_request_equals_botocores(endpoint):
    chance = random.Random(SEED)
    address = SiteAddress("site", endpoint, REGION, "my-bucket", ACCESS, SECRET)
    signer = Signer(address)
    for _ in range(KEYS):
        method = chance.choice(("GET", "HEAD", "PUT", "POST", "DELETE"))
        key = chance.choice((None, random_key(chance)))
        names = chance.sample(("uploadId", "partNumber", "versionId", "tagging", "uploads", "part-number-marker"), k=2)
        query = sigv4.query_of((name, random_key(chance)) for name in names[: chance.randint(0, 2)])
        headers = {
            "if-match": '"abc"',
            "x-amz-meta-note": chance.choice(("plain", "two  spaces", " ends ", "a\tb", "", "x=1;y,z")),
            "x-amz-copy-source": quote(f"bucket/{random_key(chance)}", safe="/-._~"),
        }
        path = sigv4.path_of("my-bucket", key)
        payload = chance.choice((sigv4.UNSIGNED, "0" * 64))
        now = time.time()
        ours = signer.signed(method, path, query, headers, payload, now)
        expected = theirs(address, method, path, query, headers, payload, now)
        assert ours["authorization"] == expected["Authorization"], (method, path, query, headers)
        assert (ours["x-amz-date"], ours["x-amz-content-sha256"]) == (expected["X-Amz-Date"], payload)


def test_the_key_of_a_day_is_derived_once_and_anew_on_the_next():
    address = SiteAddress("site", ENDPOINTS[0], REGION, "my-bucket", ACCESS, SECRET)
    signer, now = Signer(address), 1_777_636_800.0
    for moment in (now, now + 86_400, now):
        ours = signer.signed("GET", "/my-bucket", "", {}, sigv4.UNSIGNED, moment)
        expected = theirs(address, "GET", "/my-bucket", "", {}, sigv4.UNSIGNED, moment)
        assert ours["authorization"] == expected["Authorization"]
