"""Signs requests to one site by header, equal to botocore's S3SigV4Auth; the day's key is derived once."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import NamedTuple

from app.domain import sigv4
from app.domain.sites import SiteAddress

_SPACES = re.compile(r"[ \t]+")


class _Moment(NamedTuple):
    """What all requests of a second share."""

    stamp: str
    scope: str
    key: bytes


class Signer:
    """A site's credentials, with the server's clock as far as it was learned.

    offset_s: the server's clock less ours; 0 until an answer shows that ours is refused.
    """

    def __init__(self, address: SiteAddress) -> None:
        self._access_key, self._secret_key, self._region = address.access_key, address.secret_key, address.region
        self.host = sigv4.host_of(address.endpoint_url)
        self.offset_s = 0.0
        self._of_second: tuple[int, _Moment] = (-1, _Moment("", "", b""))

    def now(self) -> float:
        """Seconds since 1970 by the server's clock."""
        return time.time() + self.offset_s

    def signed(
        self, method: str, path: str, query: str, headers: Mapping[str, str], payload: str, now: float
    ) -> dict[str, str]:
        """The headers to send, with host, date, payload and authorization.

        path, query: encoded as they are sent; headers: names in lower case, characters as bytes (Latin-1);
        payload: the body's SHA-256 in hexadecimal, or sigv4.UNSIGNED; now: seconds since 1970.
        """
        moment = self._moment(int(now))
        sent = {**headers, "host": self.host, "x-amz-content-sha256": payload, "x-amz-date": moment.stamp}
        names = sorted(sent)
        signed_names = ";".join(names)
        listed = "".join([f"{name}:{_trimmed(sent[name])}\n" for name in names])
        canonical = f"{method}\n{path}\n{query}\n{listed}\n{signed_names}\n{payload}"
        signature = sigv4.signature(moment.key, moment.stamp, moment.scope, canonical.encode("latin-1"))
        sent["authorization"] = (
            f"{sigv4.ALGORITHM} Credential={self._access_key}/{moment.scope}, "
            f"SignedHeaders={signed_names}, Signature={signature}"
        )
        return sent

    def _moment(self, second: int) -> _Moment:
        known, moment = self._of_second
        if known == second:
            return moment
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(second))
        scope = sigv4.scope_of(stamp, self._region)
        key = moment.key if scope == moment.scope else sigv4.signing_key(self._secret_key, scope)
        moment = _Moment(stamp, scope, key)
        self._of_second = (second, moment)
        return moment


def _trimmed(value: str) -> str:
    """A header's value as it is signed: without spaces at its ends, each row of spaces as one."""
    if "  " in value or "\t" in value or value[:1] == " " or value[-1:] == " ":
        return _SPACES.sub(" ", value).strip(" ")
    return value
