"""Presigned URLs equal botocore's, byte for byte, for every hostile key."""

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
