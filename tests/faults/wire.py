"""HTTP/1.1 on the wire, as much of it as a proxy needs: heads, how long a body is, which S3 operation it is."""

from __future__ import annotations

from asyncio import IncompleteReadError, StreamReader
from collections.abc import AsyncIterator
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote

PIECE = 1 << 18
HEAD_LIMIT = 1 << 17
SUBRESOURCES = {
    "tagging": "Tagging",
    "versioning": "BucketVersioning",
    "encryption": "BucketEncryption",
    "lifecycle": "BucketLifecycleConfiguration",
    "replication": "BucketReplication",
    "object-lock": "ObjectLockConfiguration",
    "retention": "ObjectRetention",
    "legal-hold": "ObjectLegalHold",
}
VERBS = {"GET": "Get", "PUT": "Put", "DELETE": "Delete", "HEAD": "Head", "POST": "Post"}


class BrokenOff(ConnectionError):
    """The other side ended the connection in the middle of a message."""


@dataclass(frozen=True)
class Head:
    """The first line of a request or an answer, and its fields; names are compared in lower case."""

    line: str
    fields: tuple[tuple[str, str], ...]

    def get(self, name: str) -> str | None:
        return next((value for key, value in self.fields if key.lower() == name), None)

    def with_field(self, name: str, value: str) -> Head:
        """The same head with the field's value replaced, wherever it stands."""
        return Head(self.line, tuple((key, value if key.lower() == name else old) for key, old in self.fields))

    def as_bytes(self) -> bytes:
        lines = [self.line, *(f"{key}: {value}" for key, value in self.fields)]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    @property
    def status(self) -> int:
        """Of an answer."""
        return int(self.line.split(" ", 2)[1])

    @property
    def length(self) -> int | None:
        """Bytes of the body by Content-Length; None when that is not told."""
        told = self.get("content-length")
        return int(told) if told is not None and not self.is_chunked else None

    @property
    def is_chunked(self) -> bool:
        return "chunked" in (self.get("transfer-encoding") or "").lower()


async def read_head(reader: StreamReader) -> Head:
    """The next head. Raises BrokenOff when the connection ends before or in it."""
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except IncompleteReadError as error:
        raise BrokenOff from error
    line, *rest = raw.decode("latin-1").split("\r\n")[:-2]
    return Head(line, tuple((key, value.strip(" \t")) for key, _, value in (field.partition(":") for field in rest)))


async def body(reader: StreamReader, head: Head, *, is_answer: bool) -> AsyncIterator[bytes]:
    """The body that follows a head, in pieces exactly as they are on the wire. Raises BrokenOff."""
    if head.is_chunked:
        async for piece in _chunks(reader):
            yield piece
        return
    left = head.length
    if left is None and not is_answer:
        return
    while left is None or left:
        piece = await reader.read(PIECE if left is None else min(PIECE, left))
        if not piece and left:
            raise BrokenOff
        if not piece:
            return
        left = None if left is None else left - len(piece)
        yield piece


async def _chunks(reader: StreamReader) -> AsyncIterator[bytes]:
    try:
        while True:
            line = await reader.readuntil(b"\r\n")
            yield line
            size = int(line.partition(b";")[0], 16)
            if not size:
                break
            yield await reader.readexactly(size + 2)
        while line := await reader.readuntil(b"\r\n"):  # trailers, and the empty line after them
            yield line
            if line == b"\r\n":
                return
    except IncompleteReadError as error:
        raise BrokenOff from error


def has_body(method: str, answer: Head) -> bool:
    """Whether an answer to this method has a body."""
    return method != "HEAD" and answer.status >= 200 and answer.status not in (204, 304)


@dataclass(frozen=True)
class Asked:
    """A request, as rules choose by it: `operation` by its name in S3's API, `key` decoded, "" for the bucket."""

    method: str
    operation: str
    bucket: str
    key: str
    part: int | None
    range: str
    head: Head

    @property
    def awaits_continue(self) -> bool:
        """Whether the client sends the body only after 100 Continue."""
        return (self.head.get("expect") or "").lower() == "100-continue"

    @property
    def name(self) -> str:
        """The key without its first folder, which differs from run to run."""
        return self.key.partition("/")[2] or self.key


def asked(head: Head) -> Asked:
    """What a request's head asks for; path-style addresses only."""
    method, target, _ = head.line.split(" ", 2)
    path, _, query = target.partition("?")
    bucket, _, key = path.lstrip("/").partition("/")
    given = dict(parse_qsl(query, keep_blank_values=True))
    part = int(given["partNumber"]) if given.get("partNumber", "").isdigit() else None
    operation = _operation(method, key, given, head)
    return Asked(method, operation, unquote(bucket), unquote(key), part, head.get("range") or "", head)


def _operation(method: str, key: str, given: dict[str, str], head: Head) -> str:
    for name, meaning in SUBRESOURCES.items():
        if name in given:
            return VERBS.get(method, method) + ("Object" + meaning if name == "tagging" else meaning)
    if not key:
        return _of_bucket(method, given)
    copies = head.get("x-amz-copy-source") is not None
    if "uploadId" in given:
        upload = {"GET": "ListParts", "POST": "CompleteMultipartUpload", "DELETE": "AbortMultipartUpload"}
        return upload.get(method, "UploadPartCopy" if copies else "UploadPart")
    if method == "POST" and "restore" in given:
        return "RestoreObject"
    if method == "POST" and "uploads" in given:
        return "CreateMultipartUpload"
    if method == "PUT" and copies:
        return "CopyObject"
    return VERBS.get(method, method) + "Object"


def _of_bucket(method: str, given: dict[str, str]) -> str:
    listings = {"uploads": "ListMultipartUploads", "versions": "ListObjectVersions", "list-type": "ListObjectsV2"}
    if method == "GET":
        return next((meaning for name, meaning in listings.items() if name in given), "ListObjects")
    if method == "POST" and "delete" in given:
        return "DeleteObjects"
    return VERBS.get(method, method) + "Bucket"
