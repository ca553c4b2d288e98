"""SigV4 query signing of GET for routed reads (step: route): what botocore makes, without loading it."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import urlsplit

from app.domain import sigv4
from app.domain.sites import SiteAddress


def get_url(address: SiteAddress, key: str, *, expires_s: int, now: datetime | None = None) -> str:
    """A URL that reads the object until `expires_s` seconds after `now` (aware; None: the present)."""
    endpoint = urlsplit(address.endpoint_url)
    stamp = (now or datetime.now(UTC)).astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    scope = sigv4.scope_of(stamp, address.region)
    path = sigv4.path_of(address.bucket, key)
    query = sigv4.query_of(
        (
            ("X-Amz-Algorithm", sigv4.ALGORITHM),
            ("X-Amz-Credential", f"{address.access_key}/{scope}"),
            ("X-Amz-Date", stamp),
            ("X-Amz-Expires", str(expires_s)),
            ("X-Amz-SignedHeaders", "host"),
        )
    )
    host = sigv4.host_of(address.endpoint_url)
    canonical = f"GET\n{path}\n{query}\nhost:{host}\n\nhost\n{sigv4.UNSIGNED}"
    signed = sigv4.signature(sigv4.signing_key(address.secret_key, scope), stamp, scope, canonical.encode())
    return f"{endpoint.scheme}://{endpoint.netloc}{path}?{query}&X-Amz-Signature={signed}"
