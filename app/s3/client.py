"""One pooled S3 client a site and process: signs, sends, and connects only to addresses that are allowed.

Retries are off, since they live in job and migration rows; so are redirects, so that no answer leads elsewhere.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import boto3
from botocore.awsrequest import AWSHTTPConnection, AWSHTTPConnectionPool, AWSHTTPSConnection, AWSHTTPSConnectionPool
from botocore.config import Config
from urllib3.exceptions import NewConnectionError

from app.domain.sites import Networks, SiteAddress, check_addresses, check_endpoint
from app.s3 import faults
from app.s3.outcomes import classed
from app.settings import get_settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@dataclass(frozen=True)
class Bucket:
    """A site's bucket and the client that reaches it."""

    name: str
    """The site's name."""
    bucket: str
    client: S3Client
    class_names: Mapping[str, str] = field(default_factory=dict)

    def servers_class(self, name: str) -> str:
        """What the server calls a storage class of the price book."""
        return self.class_names.get(name, name)

    def booked_class(self, servers: str | None) -> str:
        """The price book's name of a class as the server gives it: it names none for the standard one."""
        wanted = servers or "STANDARD"
        return next((name for name, theirs in self.class_names.items() if theirs == wanted), wanted)

    def call(self, operation: str, *, writes: bool = False, **parameters: Any) -> dict[str, Any]:
        """One request to this bucket, its errors classed; parameters that are None are left out."""
        given = {name: value for name, value in parameters.items() if value is not None}
        with classed(self.name, writes=writes):
            answer: dict[str, Any] = getattr(self.client, operation)(Bucket=self.bucket, **given)
        return answer


@lru_cache(maxsize=256)
def connect(address: SiteAddress) -> Bucket:
    """The bucket of a site; one pool of connections a process. Nothing is sent yet.

    Raises Invalid or PolicyForbids for an endpoint that may not be asked.
    """
    check_endpoint(address.endpoint_url, address.networks)
    settings = get_settings()
    client = boto3.session.Session().client(
        "s3",
        endpoint_url=address.endpoint_url,
        region_name=address.region,
        aws_access_key_id=address.access_key,
        aws_secret_access_key=address.secret_key,
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            retries={"total_max_attempts": 1, "mode": "standard"},
            connect_timeout=settings.s3_connect_timeout_s,
            read_timeout=settings.s3_read_timeout_s,
            max_pool_connections=4 * settings.migrate_concurrency,
            proxies={},  # the environment's proxies would connect to addresses that nobody checked
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )
    _connect_only_to(client, address.networks)
    events: Any = client.meta.events  # its stubs know no handler that answers
    events.register("before-send.s3", faults.before_send(address.name))
    return Bucket(address.name, address.bucket, client, dict(address.class_names))


def _connect_only_to(client: S3Client, networks: Networks) -> None:
    """Makes every connection of the client resolve its host once, check the address, and connect to that address.

    botocore has no setting for this; the two attributes are those that it sets itself.
    """
    http_session: Any = client._endpoint.http_session  # type: ignore[attr-defined]
    classes = _pool_classes(networks)
    http_session._pool_classes_by_scheme = classes
    http_session._manager.pool_classes_by_scheme = classes


@lru_cache(maxsize=16)
def _pool_classes(networks: Networks) -> dict[str, type[Any]]:
    class Checked:
        """Mixed into a connection class: the address that was checked is the address that is connected to."""

        _dns_host: str
        port: int

        def _new_conn(self) -> socket.socket:
            host = self._dns_host
            found = [str(entry[4][0]) for entry in socket.getaddrinfo(host, self.port, type=socket.SOCK_STREAM)]
            check_addresses(host, found, networks)
            try:
                for address in found[:-1]:
                    with suppress(NewConnectionError):
                        return self._connect(address)
                return self._connect(found[-1])
            finally:
                self._dns_host = host  # TLS and the Host header go by the name

        def _connect(self, address: str) -> socket.socket:
            self._dns_host = address
            connect_now: Callable[[], socket.socket] = super()._new_conn  # type: ignore[misc]
            return connect_now()

    def pool(base: type[Any], connection: type[Any]) -> type[Any]:
        checked = type(f"Checked{connection.__name__}", (Checked, connection), {})
        return type(f"Checked{base.__name__}", (base,), {"ConnectionCls": checked})

    return {
        "http": pool(AWSHTTPConnectionPool, AWSHTTPConnection),
        "https": pool(AWSHTTPSConnectionPool, AWSHTTPSConnection),
    }
