"""SigV4 query signing of GET for routed reads (step: route): what botocore makes, without loading it.

Formula: AWS Signature Version 4, query string form, UNSIGNED-PAYLOAD; for S3 the path is encoded once and never
normalised, so that keys with `//` and `..` stay themselves.
"""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime
from urllib.parse import quote, urlsplit

from app.domain.sites import SiteAddress

ALGORITHM = "AWS4-HMAC-SHA256"


def get_url(address: SiteAddress, key: str, *, expires_s: int, now: datetime | None = None) -> str:
    """A URL that reads the object until `expires_s` seconds after `now` (aware; None: the present)."""
    endpoint = urlsplit(address.endpoint_url)
    stamp = (now or datetime.now(UTC)).astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    scope = f"{stamp[:8]}/{address.region}/s3/aws4_request"
    path = f"/{quote(address.bucket, safe='-._~')}/{quote(key, safe='/-._~')}"
    query = "&".join(
        f"{name}={quote(value, safe='-._~')}"
        for name, value in (
            ("X-Amz-Algorithm", ALGORITHM),
            ("X-Amz-Credential", f"{address.access_key}/{scope}"),
            ("X-Amz-Date", stamp),
            ("X-Amz-Expires", str(expires_s)),
            ("X-Amz-SignedHeaders", "host"),
        )
    )
    canonical = f"GET\n{path}\n{query}\nhost:{_host(address.endpoint_url)}\n\nhost\nUNSIGNED-PAYLOAD"
    to_sign = "\n".join((ALGORITHM, stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()))
    signature = hmac.new(_signing_key(address.secret_key, scope), to_sign.encode(), hashlib.sha256).hexdigest()
    return f"{endpoint.scheme}://{endpoint.netloc}{path}?{query}&X-Amz-Signature={signature}"


def _host(endpoint_url: str) -> str:
    """The Host header: without the port that the scheme implies."""
    parts = urlsplit(endpoint_url)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    implied = {"http": 80, "https": 443}.get(parts.scheme)
    return host if parts.port in (None, implied) else f"{host}:{parts.port}"


def _signing_key(secret_key: str, scope: str) -> bytes:
    key = b"AWS4" + secret_key.encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key
