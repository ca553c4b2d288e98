"""A site's bucket as this process reaches it: what moves objects by app.s3.exchange, what is rarely asked by boto3."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from app.domain.sites import SiteAddress, check_endpoint
from app.errors import ForetideError
from app.s3 import documents
from app.s3.exchange import Endpoint, Request, Stream
from app.s3.gate import Gate
from app.s3.outcomes import broken, classed
from app.s3.wire import Buffer, WireError

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from mypy_boto3_s3 import S3Client


Query = Mapping[str, str | int | None]


@dataclass(frozen=True)
class Bucket:
    """A site's bucket and the ways that lead to it."""

    name: str
    """The site's name."""
    bucket: str
    address: SiteAddress = field(repr=False)
    endpoint: Endpoint = field(repr=False)
    class_names: Mapping[str, str] = field(default_factory=dict)

    @property
    def client(self) -> S3Client:
        """A boto3 client, made when it is first asked for."""
        from app.s3.boto import client_of  # most processes never need its 30 MiB

        return client_of(self.address)

    @property
    def gate(self) -> Gate:
        """What lets requests to the site through."""
        return self.endpoint.gate

    @property
    def is_tls(self) -> bool:
        """Whether what is sent and read is kept from harm on its way."""
        return self.address.endpoint_url.startswith("https:")

    def servers_class(self, name: str) -> str:
        """What the server calls a storage class of the price book."""
        return self.class_names.get(name, name)

    def booked_class(self, servers: str | None) -> str:
        """The price book's name of a class as the server gives it: it names none for the standard one."""
        wanted = servers or "STANDARD"
        return next((name for name, theirs in self.class_names.items() if theirs == wanted), wanted)

    def ask(
        self,
        method: str,
        key: str | None,
        headers: Mapping[str, str] | None = None,
        *,
        query: Query | None = None,
        body: Buffer = b"",
        sha256: str | None = None,
        writes: bool = False,
    ) -> tuple[Mapping[str, str], bytes]:
        """One request to this bucket, or an object in it, with at most a small document for an answer.

        query: parameters that are None are left out. The rest is as in Request. Errors are classed.
        """
        asked = tuple((name, str(value)) for name, value in query.items() if value is not None) if query else ()
        request = Request(method, self.bucket, key, asked, headers or {}, body, sha256, writes)
        return self.endpoint.ask(request)

    def document(self, body: bytes, *, writes: bool = False) -> Element:
        """The document that a request was answered; what is none is an answer that broke off."""
        try:
            return documents.parsed(body)
        except WireError as error:
            raise broken(self.name, error, writes=writes) from error

    @contextmanager
    def open(self, key: str, headers: Mapping[str, str], version_id: str | None = None) -> Iterator[Stream]:
        """An object's bytes as they come. Errors are classed."""
        query = (("versionId", version_id),) if version_id else ()
        with self.endpoint.open(Request("GET", self.bucket, key, query, headers)) as stream:
            yield stream

    def call(self, operation: str, *, writes: bool = False, **parameters: Any) -> dict[str, Any]:
        """One request by boto3, its errors classed; parameters that are None are left out."""
        given = {name: value for name, value in parameters.items() if value is not None}
        with self.gate.request(writes=writes, bytes_out=0):
            started, failed = time.monotonic(), None
            try:
                with classed(self.name, writes=writes):
                    answer: dict[str, Any] = getattr(self.client, operation)(Bucket=self.bucket, **given)
            except ForetideError as error:
                failed = error
                raise
            finally:
                self.gate.ended(failed, time.monotonic() - started)
        return answer


@lru_cache(maxsize=256)
def connect(address: SiteAddress) -> Bucket:
    """The bucket of a site; one pool of connections a process. Nothing is sent yet.

    Raises Invalid or PolicyForbids for an endpoint that may not be asked.
    """
    check_endpoint(address.endpoint_url, address.networks)
    return Bucket(address.name, address.bucket, address, Endpoint(address), dict(address.class_names))
