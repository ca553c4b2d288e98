"""Presigned URLs equal botocore's, byte for byte, for every hostile key and each header of a write."""

import unicodedata
from datetime import UTC, datetime
from urllib.parse import parse_qs, urlsplit

import boto3
import pytest
from botocore.config import Config

from app import presign
from app.domain.sites import SiteAddress

ACCESS, SECRET, REGION = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "eu-central-1"
KEYS = [
    "plain.txt",
    "a/b/c.txt",
    "with space",
    " leading and trailing ",
    "two  spaces",
    "plus+plus",
    "percent%20encoded",
    "100%",
    "%2F",
    "double//slash",
    "triple///slash",
    "/leading/slash",
    "//two/leading",
    "trailing/",
    "dir/sub/",
    "../up",
    "a/../b",
    "a/./b",
    ".",
    "..",
    "./.",
    "query?x=1&y=2",
    "hash#fragment",
    "amp&and=equals",
    "semi;colon:colon",
    "at@sign!$'()*,",
    "tilde~dash-dot.under_score",
    'quote"back\\slash',
    "<script>alert(1)</script>",
    "{curly}[square]|pipe^caret`tick",
    "tab\there",
    "new\nline",
    "🎉/emoji-👩‍👩‍👧‍👦.png",
    unicodedata.normalize("NFC", "é/café"),
    unicodedata.normalize("NFD", "é/café"),
    "\u202eright-to-left\u202c",
    "עברית/العربية",
    "日本語/ファイル.txt",
    "zero\u200bwidth",
    "x" * 1024,
    "é" * 512,
]


ENDPOINTS = ["http://127.0.0.1:8333", "https://s3.example.com", "https://s3.example.com:443"]


@pytest.fixture(scope="module", params=ENDPOINTS)
def endpoint(request):
    client = boto3.client(
        "s3",
        endpoint_url=request.param,
        region_name=REGION,
        aws_access_key_id=ACCESS,
        aws_secret_access_key=SECRET,
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
    )
    return SiteAddress("site", request.param, REGION, "my-bucket", ACCESS, SECRET), client


@pytest.mark.parametrize("key", KEYS)
def test_presigned_url_equals_botocores(key, endpoint):
    address, client = endpoint
    expected = client.generate_presigned_url("get_object", {"Bucket": "my-bucket", "Key": key}, ExpiresIn=30)
    stamp = parse_qs(urlsplit(expected).query)["X-Amz-Date"][0]
    now = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    assert presign.get_url(address, key, expires_s=30, now=now) == expected


HEADERS = {
    "content-type": "text/x-demo; charset=utf-8",
    "cache-control": "max-age=60",
    "if-none-match": "*",
    "x-amz-meta-note": "two  spaces, a+b=c",
    "x-amz-storage-class": "STANDARD_IA",
    "x-amz-checksum-sha256": "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=",
}
PARAMETERS = {
    "ContentType": HEADERS["content-type"],
    "CacheControl": HEADERS["cache-control"],
    "IfNoneMatch": "*",
    "Metadata": {"note": HEADERS["x-amz-meta-note"]},
    "StorageClass": "STANDARD_IA",
    "ChecksumSHA256": HEADERS["x-amz-checksum-sha256"],
}


@pytest.mark.parametrize("key", KEYS[:12])
def test_a_presigned_write_signs_each_of_its_headers_as_botocore_does(key, endpoint):
    address, client = endpoint
    asked = {"Bucket": "my-bucket", "Key": key, **PARAMETERS}
    found = parse_qs(urlsplit(client.generate_presigned_url("put_object", asked, ExpiresIn=30)).query)
    now = datetime.strptime(found["X-Amz-Date"][0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    assert found.keys() >= {"X-Amz-SignedHeaders"}
    mine = parse_qs(urlsplit(presign.put_url(address, key, HEADERS, expires_s=30, now=now)).query)
    assert set(mine["X-Amz-SignedHeaders"][0].split(";")) == {"host", *HEADERS}
    assert mine["X-Amz-Signature"] == found["X-Amz-Signature"]
