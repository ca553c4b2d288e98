"""Plain boto3 at a running site: what tests write, read and list with, apart from the code that they try."""

from __future__ import annotations

import hashlib
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from app.devstack.seaweed import RunningSite

SESSION = boto3.session.Session()
META = "x-amz-meta-"
MISSING = ("NoSuchKey", "404", "NotFound")


class Plain:
    """One bucket. No retries; an error of the server is botocore's."""

    def __init__(self, site: RunningSite, read_timeout_s: float = 10.0) -> None:
        self.site, self.bucket = site, site.bucket
        self.client: Any = SESSION.client(
            "s3",
            endpoint_url=site.endpoint_url,
            region_name=site.region,
            aws_access_key_id=site.access_key,
            aws_secret_access_key=site.secret_key,
            config=Config(
                signature_version="s3v4",
                s3={"addressing_style": "path"},
                retries={"total_max_attempts": 1},
                connect_timeout=3,
                read_timeout=read_timeout_s,
                max_pool_connections=32,
                proxies={},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )

    def put(self, key: str, body: bytes = b"hello", **parameters: object) -> str:
        """Writes; returns the SHA-256 of what was acknowledged."""
        self.client.put_object(Bucket=self.bucket, Key=key, Body=body, **parameters)
        return hashlib.sha256(body).hexdigest()

    def get(self, key: str, **parameters: object) -> bytes | None:
        """All of it; None when it is not there."""
        try:
            body: bytes = self.client.get_object(Bucket=self.bucket, Key=key, **parameters)["Body"].read()
        except ClientError as error:
            if error.response["Error"]["Code"] in MISSING:
                return None
            raise
        return body

    def sha256(self, key: str) -> str | None:
        """Of what a reader gets; None when it is not there."""
        body = self.get(key)
        return None if body is None else hashlib.sha256(body).hexdigest()

    def head(self, key: str) -> dict[str, Any] | None:
        """What HEAD answers, names of metadata in lower case; None when it is not there."""
        try:
            answer: dict[str, Any] = self.client.head_object(Bucket=self.bucket, Key=key)
        except ClientError as error:
            if error.response["Error"]["Code"] in MISSING:
                return None
            raise
        answer["Metadata"] = {name.lower(): value for name, value in answer.get("Metadata", {}).items()}
        return answer

    def raw_metadata(self, key: str) -> dict[str, bytes]:
        """User metadata as they are on the wire, names in lower case."""
        url = self.client.generate_presigned_url("head_object", Params={"Bucket": self.bucket, "Key": key})
        parts = urlsplit(url)
        connection = HTTPConnection(parts.netloc, timeout=10)
        connection.request("HEAD", f"{parts.path}?{parts.query}")
        fields = [(name.lower(), value.encode("latin-1")) for name, value in connection.getresponse().getheaders()]
        connection.close()
        return {name.removeprefix(META): value for name, value in fields if name.startswith(META)}

    def tags(self, key: str) -> dict[str, str]:
        answer = self.client.get_object_tagging(Bucket=self.bucket, Key=key)
        return {tag["Key"]: tag["Value"] for tag in answer["TagSet"]}

    def delete(self, key: str) -> None:
        self.client.delete_object(Bucket=self.bucket, Key=key)

    def keys(self, prefix: str = "") -> set[str]:
        """What a listing shows."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        return {entry["Key"] for page in pages for entry in page.get("Contents", [])}

    def uploads(self, prefix: str = "") -> dict[str, str]:
        """Keys of the multipart uploads that were neither completed nor aborted, by id."""
        found = self.client.list_multipart_uploads(Bucket=self.bucket).get("Uploads", [])
        return {upload["UploadId"]: upload["Key"] for upload in found if upload["Key"].startswith(prefix)}
