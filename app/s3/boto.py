"""The boto3 client of a site, for what is rarely asked: listings, versions, the bucket's settings.

Retries are off, since they live in job and migration rows; so are redirects, so that no answer leads elsewhere. It is
loaded when it is first used: what moves objects speaks for itself (app.s3.exchange) and stays small.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING, Any

import boto3
from botocore.awsrequest import (
    AWSHTTPConnection,
    AWSHTTPConnectionPool,
    AWSHTTPSConnection,
    AWSHTTPSConnectionPool,
    AWSResponse,
)
from botocore.config import Config
from botocore.exceptions import EndpointConnectionError
from urllib3.exceptions import NewConnectionError

from app.domain.faults import FaultKind
from app.domain.sites import Networks, SiteAddress, check_addresses
from app.s3.faults import FAULTS, RETRY_AFTER
from app.settings import get_settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate (injected)</Message></Error>"
_making = Lock()


@lru_cache(maxsize=1)
def _session() -> boto3.session.Session:
    """One for all clients, made one at a time: what each session reads of S3's description takes 12 MB and 0.1 s."""
    return boto3.session.Session()


@lru_cache(maxsize=256)
def client_of(address: SiteAddress) -> S3Client:
    """The client of a site; one pool of connections a process. Nothing is sent yet."""
    settings = get_settings()
    with _making:
        client = _session().client(
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
    events.register("before-send.s3", _struck(address.name))
    return client


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


def _struck(site: str) -> Callable[..., AWSResponse | None]:
    """A handler of botocore's before-send event for injected faults: a response answers in the server's place."""

    def handle(request: Any, **_: object) -> AWSResponse | None:
        fault = FAULTS.strike(site)
        if fault and fault.kind is FaultKind.FAIL:
            raise EndpointConnectionError(endpoint_url=request.url, error="injected")
        if fault and fault.kind is FaultKind.THROTTLE:
            headers: Any = {"Retry-After": RETRY_AFTER, "Content-Type": "application/xml"}
            return AWSResponse(
                request.url, fault.status, headers, _Body(b"" if request.method == "HEAD" else _SLOW_DOWN)
            )
        return None

    return handle


class _Body:
    """The part of urllib3's response that AWSResponse reads."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def stream(self) -> list[bytes]:
        return [self._content]
