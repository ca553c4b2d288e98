"""The small XML documents of S3: read from answers, written for requests."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import NamedTuple
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from app.s3.wire import Garbled

LIMIT = 1 << 22
"""Bytes of a document; a listing of 1,000 parts has a tenth."""
NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"


class Refusal(NamedTuple):
    """What an <Error> says."""

    code: str
    message: str


def error_of(body: bytes) -> Refusal | None:
    """The <Error> in an answer's body, whatever its status; None when it is no such document."""
    try:
        root = parsed(body)
    except Garbled:
        return None
    return Refusal(text(root, "Code"), text(root, "Message")) if root.tag == "Error" else None


def parsed(body: bytes) -> ElementTree.Element:
    """A document without its namespaces. Raises Garbled when it is none, or brings definitions of its own."""
    if b"<!" in body:
        raise Garbled("a document with definitions")  # they could unfold to any size
    try:
        root = ElementTree.fromstring(body.strip())  # noqa: S314  # definitions were refused
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise Garbled(f"no document: {error}") from error
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return root


def text(element: ElementTree.Element, name: str) -> str:
    """The text of a child; empty when it is not there."""
    return element.findtext(name) or ""


def restore_request(days: int | None) -> bytes:
    """The body of RestoreObject. days: how long the copy is to stand; None: for good, where the class has its tiers."""
    stands = "" if days is None else f"<Days>{days}</Days>"
    tier = "<GlacierJobParameters><Tier>Standard</Tier></GlacierJobParameters>"
    return f'<RestoreRequest xmlns="{NAMESPACE}">{stands}{tier}</RestoreRequest>'.encode()


def completion(etags: Sequence[str], sha256s: Sequence[str] = ()) -> bytes:
    """The body of CompleteMultipartUpload: all parts in their order.

    sha256s: theirs in hexadecimal, where the upload was begun with them.
    """
    sums = [f"<ChecksumSHA256>{base64_of(sha256)}</ChecksumSHA256>" for sha256 in sha256s] or [""] * len(etags)
    parts = (
        f"<Part><PartNumber>{number}</PartNumber><ETag>{escape(etag)}</ETag>{checksum}</Part>"
        for number, (etag, checksum) in enumerate(zip(etags, sums, strict=True), start=1)
    )
    return f'<CompleteMultipartUpload xmlns="{NAMESPACE}">{"".join(parts)}</CompleteMultipartUpload>'.encode()


def base64_of(digest: str) -> str:
    """A digest in hexadecimal as S3 writes it."""
    return base64.b64encode(bytes.fromhex(digest)).decode()
