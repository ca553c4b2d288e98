"""An S3 server in memory, with a clock that is set and faults that are told: what simulations run against.

It keeps what Foretide counts on: conditions on PUT, GET, DELETE, copies and completions, multipart uploads, ranges,
classes, metadata and tags. Nobody's signature is checked.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import format_datetime
from urllib.parse import parse_qsl, quote, unquote, urlsplit
from xml.etree import ElementTree
from xml.sax.saxutils import escape

CARRIED = (
    "content-type", "content-encoding", "cache-control", "content-disposition", "content-language",
    "x-amz-storage-class",
)  # fmt: skip


@dataclass(frozen=True)
class Stored:
    """An object as it stands."""

    body: bytes
    etag: str
    headers: Mapping[str, str]
    tags: str
    modified: datetime


@dataclass
class Upload:
    """A multipart upload that is not completed."""

    key: str
    headers: Mapping[str, str]
    tags: str
    parts: dict[int, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Asked:
    """A request as it came."""

    method: str
    key: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Reply:
    """An answer; names of headers in lower case."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


class Refused(Exception):
    """The answer is an error of S3's."""

    def __init__(self, status: int, code: str, **headers: str) -> None:
        self.reply = Reply(status, f"<Error><Code>{code}</Code><Message>told</Message></Error>".encode(), headers)


class Store:
    """One bucket. now: its clock; it counts whole seconds, as S3 does."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self.objects: dict[str, Stored] = {}
        self.uploads: dict[str, Upload] = {}
        self._count = 0

    # -- the owner's side ---------------------------------------------------------------------------------------------

    def put(self, key: str, body: bytes, **headers: str) -> None:
        """The owner writes an object."""
        self._store(key, body, {name.replace("_", "-"): value for name, value in headers.items()}, "")

    def _store(self, key: str, body: bytes, headers: Mapping[str, str], tags: str, parts: int = 0) -> Stored:
        etag = hashlib.md5(body).hexdigest() + (f"-{parts}" if parts else "")
        found = Stored(body, etag, dict(headers), tags, self._now().replace(microsecond=0))
        self.objects[key] = found
        return found

    # -- the server's side --------------------------------------------------------------------------------------------

    def answer(self, asked: Asked) -> Reply:
        """What the server does and says."""
        try:
            return self._acts(asked)(asked)
        except Refused as refused:
            return refused.reply

    def _acts(self, asked: Asked) -> Callable[[Asked], Reply]:
        query, method = asked.query, asked.method
        if not asked.key:
            return self._list_uploads if "uploads" in query else self._list if "list-type" in query else self._unknown
        if "uploadId" in query:
            return {"PUT": self._part, "POST": self._complete, "GET": self._parts, "DELETE": self._abort}[method]
        if method == "POST" and "uploads" in query:
            return self._begin
        if "tagging" in query:
            return self._tagging
        acts = {"GET": self._get, "HEAD": self._get, "PUT": self._put, "DELETE": self._delete}
        return acts.get(method, self._unknown)

    def _unknown(self, asked: Asked) -> Reply:
        raise Refused(501, "NotImplemented")

    def _found(self, key: str) -> Stored:
        if key not in self.objects:
            raise Refused(404, "NoSuchKey")
        return self.objects[key]

    def _get(self, asked: Asked) -> Reply:
        found = self._found(asked.key)
        if (wanted := asked.headers.get("if-match")) and wanted.strip('"') != found.etag:
            raise Refused(412, "PreconditionFailed")
        headers = {**found.headers, "etag": f'"{found.etag}"', "last-modified": http(found.modified)}
        if found.tags:
            headers["x-amz-tagging-count"] = str(len(parse_qsl(found.tags)))
        if span := asked.headers.get("range"):
            first, _, last = span.removeprefix("bytes=").partition("-")
            return Reply(206, found.body[int(first) : int(last) + 1 if last else None], headers)
        return Reply(200, found.body, headers)

    def _tagging(self, asked: Asked) -> Reply:
        pairs = parse_qsl(self._found(asked.key).tags, keep_blank_values=True)
        inner = "".join(f"<Tag><Key>{escape(k)}</Key><Value>{escape(v)}</Value></Tag>" for k, v in pairs)
        return document("Tagging", f"<TagSet>{inner}</TagSet>")

    def _may_write(self, asked: Asked) -> None:
        found = self.objects.get(asked.key)
        if asked.headers.get("if-none-match") == "*" and found:
            raise Refused(412, "PreconditionFailed")
        if wanted := asked.headers.get("if-match"):
            if found is None:
                raise Refused(404, "NoSuchKey")
            if wanted.strip('"') != found.etag:
                raise Refused(412, "PreconditionFailed")

    def _put(self, asked: Asked) -> Reply:
        self._may_write(asked)
        if source := asked.headers.get("x-amz-copy-source"):
            return self._copy(asked, unquote(source).partition("/")[2])
        checked(asked)
        stored = self._store(asked.key, asked.body, kept(asked), asked.headers.get("x-amz-tagging", ""))
        return Reply(200, b"", {"etag": f'"{stored.etag}"'})

    def _copy(self, asked: Asked, source: str) -> Reply:
        found = self._found(source)
        if asked.headers.get("x-amz-copy-source-if-match", "").strip('"') not in ("", found.etag):
            raise Refused(412, "PreconditionFailed")
        storage_class = {"x-amz-storage-class": asked.headers.get("x-amz-storage-class", "STANDARD")}
        replaced = asked.headers.get("x-amz-metadata-directive") == "REPLACE"
        headers = kept(asked) if replaced else {**found.headers, **storage_class}
        modified = self._now().replace(microsecond=0)
        self.objects[asked.key] = replace(found, headers=headers, modified=modified)
        return document("CopyObjectResult", f'<ETag>"{found.etag}"</ETag>')

    def _delete(self, asked: Asked) -> Reply:
        found, wanted = self.objects.get(asked.key), asked.headers.get("if-match")
        if found and wanted and wanted.strip('"') != found.etag:
            raise Refused(412, "PreconditionFailed")
        self.objects.pop(asked.key, None)
        return Reply(204)

    # -- multipart ----------------------------------------------------------------------------------------------------

    def _begin(self, asked: Asked) -> Reply:
        self._count += 1
        upload_id = f"upload-{self._count}"
        self.uploads[upload_id] = Upload(asked.key, kept(asked), asked.headers.get("x-amz-tagging", ""))
        return document("InitiateMultipartUploadResult", f"<UploadId>{upload_id}</UploadId>")

    def _upload(self, asked: Asked) -> Upload:
        found = self.uploads.get(asked.query["uploadId"])
        if found is None or found.key != asked.key:
            raise Refused(404, "NoSuchUpload")
        return found

    def _part(self, asked: Asked) -> Reply:
        checked(asked)
        upload, etag = self._upload(asked), hashlib.md5(asked.body).hexdigest()
        upload.parts[int(asked.query["partNumber"])] = asked.body
        return Reply(200, b"", {"etag": f'"{etag}"'})

    def _parts(self, asked: Asked) -> Reply:
        upload = self._upload(asked)
        inner = "".join(
            f'<Part><PartNumber>{number}</PartNumber><ETag>"{hashlib.md5(body).hexdigest()}"</ETag></Part>'
            for number, body in sorted(upload.parts.items())
        )
        return document("ListPartsResult", inner + "<IsTruncated>false</IsTruncated>")

    def _complete(self, asked: Asked) -> Reply:
        upload = self._upload(asked)
        self._may_write(asked)
        listed = ElementTree.fromstring(asked.body).iter()
        numbers = [int(part.text or 0) for part in listed if tag(part) == "PartNumber"]
        if any(number not in upload.parts for number in numbers):
            raise Refused(400, "InvalidPart")
        body = b"".join(upload.parts[number] for number in numbers)
        stored = self._store(asked.key, body, upload.headers, upload.tags, len(numbers))
        del self.uploads[asked.query["uploadId"]]
        return document("CompleteMultipartUploadResult", f'<ETag>"{stored.etag}"</ETag>')

    def _abort(self, asked: Asked) -> Reply:
        self._upload(asked)
        del self.uploads[asked.query["uploadId"]]
        return Reply(204)

    # -- listings -----------------------------------------------------------------------------------------------------

    def _list(self, asked: Asked) -> Reply:
        prefix = asked.query.get("prefix", "")
        lines = "".join(
            f"<Contents><Key>{quote(key, safe='/')}</Key><Size>{len(found.body)}</Size>"
            f"<LastModified>{found.modified:%Y-%m-%dT%H:%M:%S.000Z}</LastModified>"
            f'<ETag>"{found.etag}"</ETag>'
            f"<StorageClass>{found.headers.get('x-amz-storage-class', 'STANDARD')}</StorageClass></Contents>"
            for key, found in sorted(self.objects.items())
            if key.startswith(prefix)
        )
        return document("ListBucketResult", f"<EncodingType>url</EncodingType><IsTruncated>false</IsTruncated>{lines}")

    def _list_uploads(self, asked: Asked) -> Reply:
        prefix = asked.query.get("prefix", "")
        lines = "".join(
            f"<Upload><Key>{quote(upload.key, safe='/')}</Key><UploadId>{upload_id}</UploadId></Upload>"
            for upload_id, upload in sorted(self.uploads.items())
            if upload.key.startswith(prefix)
        )
        encoding = "<EncodingType>url</EncodingType>"
        return document("ListMultipartUploadsResult", f"{encoding}<IsTruncated>false</IsTruncated>{lines}")


def asked(method: str, target: str, headers: Mapping[str, str], body: bytes) -> Asked:
    """A request by its line, headers and body."""
    parts = urlsplit(target)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    return Asked(method, unquote(parts.path.removeprefix("/").partition("/")[2]), query, headers, body)


def kept(asked: Asked) -> dict[str, str]:
    """The headers that are stored with an object."""
    return {n: v for n, v in asked.headers.items() if n in CARRIED or n.startswith("x-amz-meta-")}


def checked(asked: Asked) -> None:
    """Refuses a body that is not what its sender says."""
    told = asked.headers.get("x-amz-checksum-sha256")
    if told and base64.b64decode(told) != hashlib.sha256(asked.body).digest():
        raise Refused(400, "BadDigest")


def document(name: str, inner: str) -> Reply:
    """An answer in XML."""
    xml = f'<{name} xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{inner}</{name}>'
    return Reply(200, xml.encode(), {"content-type": "application/xml"})


def http(moment: datetime) -> str:
    """A time as HTTP writes it."""
    return format_datetime(moment.astimezone(UTC), usegmt=True)


def tag(element: ElementTree.Element) -> str:
    """An element's name without its namespace."""
    return element.tag.rpartition("}")[2]
