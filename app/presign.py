"""SigV4 query signing of a GET, or a PUT with its headers (step: route): what botocore makes, without loading it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import urlsplit

from app.domain import sigv4
from app.domain.sites import SiteAddress


def get_url(address: SiteAddress, key: str, *, expires_s: int, now: datetime | None = None) -> str:
    """A URL that reads the object until `expires_s` seconds after `now` (aware; None: the present)."""
    return _url("GET", address, key, {}, expires_s, now)


def put_url(
    address: SiteAddress, key: str, headers: Mapping[str, str], *, expires_s: int, now: datetime | None = None
) -> str:
    """A URL that writes the object with exactly these headers (names in lower case, values of ASCII); as `get_url`."""
    return _url("PUT", address, key, headers, expires_s, now)


def _url(
    method: str, address: SiteAddress, key: str, headers: Mapping[str, str], expires_s: int, now: datetime | None
) -> str:
    endpoint = urlsplit(address.endpoint_url)
    stamp = (now or datetime.now(UTC)).astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    scope = sigv4.scope_of(stamp, address.region)
    path = sigv4.path_of(address.bucket, key)
    sent = {**headers, "host": sigv4.host_of(address.endpoint_url)}
    names = ";".join(sorted(sent))
    query = sigv4.query_of(
        (
            ("X-Amz-Algorithm", sigv4.ALGORITHM),
            ("X-Amz-Credential", f"{address.access_key}/{scope}"),
            ("X-Amz-Date", stamp),
            ("X-Amz-Expires", str(expires_s)),
            ("X-Amz-SignedHeaders", names),
        )
    )
    listed = "".join(f"{name}:{' '.join(sent[name].split())}\n" for name in sorted(sent))
    canonical = f"{method}\n{path}\n{query}\n{listed}\n{names}\n{sigv4.UNSIGNED}"
    signed = sigv4.signature(sigv4.signing_key(address.secret_key, scope), stamp, scope, canonical.encode())
    return f"{endpoint.scheme}://{endpoint.netloc}{path}?{query}&X-Amz-Signature={signed}"
