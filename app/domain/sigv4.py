"""AWS Signature Version 4 for S3: what both forms of it share, the header of a request and the query of a URL.

For S3 the path is encoded once and never normalised, so that keys with `//` and `..` stay themselves.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import quote, urlsplit

ALGORITHM = "AWS4-HMAC-SHA256"
UNSIGNED = "UNSIGNED-PAYLOAD"
_PLAIN = "-._~"


@lru_cache(maxsize=1024)
def path_of(bucket: str, key: str | None) -> str:
    """The encoded path of an object, or of the bucket when `key` is None."""
    path = f"/{quote(bucket, safe=_PLAIN)}"
    return path if key is None else f"{path}/{quote(key, safe='/-._~')}"


def query_of(parameters: Iterable[tuple[str, str]]) -> str:
    """The canonical query string, which is also the one to send."""
    encoded = sorted((quote(name, safe=_PLAIN), quote(value, safe=_PLAIN)) for name, value in parameters)
    return "&".join(f"{name}={value}" for name, value in encoded)


def host_of(endpoint_url: str) -> str:
    """The Host header: without the port that the scheme implies."""
    parts = urlsplit(endpoint_url)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    implied = {"http": 80, "https": 443}.get(parts.scheme)
    return host if parts.port in (None, implied) else f"{host}:{parts.port}"


def scope_of(stamp: str, region: str) -> str:
    """What a signature is good for; stamp: the time as 20260501T120000Z."""
    return f"{stamp[:8]}/{region}/s3/aws4_request"


def signing_key(secret_key: str, scope: str) -> bytes:
    """The key of a scope; it holds for a day."""
    key = b"AWS4" + secret_key.encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def signature(key: bytes, stamp: str, scope: str, canonical: bytes) -> str:
    """The signature of a canonical request by the key of its scope."""
    to_sign = f"{ALGORITHM}\n{stamp}\n{scope}\n{hashlib.sha256(canonical).hexdigest()}"
    return hmac.digest(key, to_sign.encode(), "sha256").hex()
