"""One request to a site and its answer: let through the gate, signed, sent, and its outcome classed.

A stale connection is replaced once where that is safe; a refused clock is set by the server's once. All other retries
live in job and migration rows.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from types import MappingProxyType
from typing import NamedTuple

from app.domain import sigv4
from app.domain.faults import FaultKind
from app.domain.sites import SiteAddress
from app.errors import ForetideError, Permanent, SiteFaulty, SiteUnavailable
from app.s3 import documents, outcomes
from app.s3.faults import FAULTS, RETRY_AFTER
from app.s3.gate import GATES, Gate
from app.s3.pool import Pool
from app.s3.signing import Signer
from app.s3.wire import Answer, Buffer, Connection, Cut, Silent, Stale, WireError
from app.settings import get_settings

SKEW_S = 300.0
"""Clocks further apart than this may be why a request was refused; AWS allows three times as much."""
EMPTY = hashlib.sha256(b"").hexdigest()


class Request(NamedTuple):
    """What is asked of a bucket.

    key: None asks the bucket itself. sha256: the body's, in hexadecimal, where it is known. writes: it changes
    something, so that a lost answer leaves its outcome unknown.
    """

    method: str
    bucket: str
    key: str | None
    query: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = MappingProxyType({})
    body: Buffer = b""
    sha256: str | None = None
    writes: bool = False


class Stream:
    """An answer that says yes; its body is read in pieces of the reader's size."""

    def __init__(self, site: Endpoint, request: Request, answer: Answer, *, corrupt: bool = False) -> None:
        self.headers = answer.headers
        self.failed: ForetideError | None = None
        """Why the body broke off."""
        self._site, self._request, self._answer, self._corrupt = site, request, answer, corrupt

    @property
    def length(self) -> int | None:
        """The body's size, where the server told it."""
        return self._answer.length

    @property
    def tells_end(self) -> bool:
        """Whether a body that ends early is found out by its end alone."""
        return self._answer.tells_end

    def readinto(self, into: memoryview) -> int:
        """Some of the body, 0 at its end. Raises SiteUnavailable or SiteFaulty when it breaks off, or what stops it."""
        self._site.gate.look()
        try:
            count = self._answer.readinto(into)
        except WireError as error:
            raise self._broken(error) from error
        if count:
            self._site.gate.received(count)
            if self._corrupt:
                into[random.randrange(count)] ^= 1  # noqa: S311  # chance, not a secret
                self._corrupt = False
        return count

    def read(self, limit: int) -> bytes:
        """The whole body of at most `limit` bytes. Raises as `readinto`, or UnknownOutcome for a write."""
        try:
            body = self._answer.read(limit)
        except WireError as error:
            raise self._broken(error) from error
        if body:
            self._site.gate.received(len(body))
        return body

    def _broken(self, error: WireError) -> ForetideError:
        self.failed = outcomes.broken(self._site.name, error, writes=self._request.writes)
        return self.failed

    def close(self) -> None:
        """Gives the connection back; what was not read is not waited for."""
        self._site.pool.give(self._answer)


class Endpoint:
    """A site as requests reach it: its credentials and connections."""

    def __init__(self, address: SiteAddress) -> None:
        settings = get_settings()
        self.name, self._address = address.name, address
        self._is_tls = address.endpoint_url.startswith("https:")
        self._signer = Signer(address)
        self.pool = Pool(
            address.endpoint_url,
            address.networks,
            connect_s=settings.s3_connect_timeout_s,
            read_s=settings.s3_read_timeout_s,
            keep=4 * settings.migrate_concurrency,
        )

    @property
    def gate(self) -> Gate:
        """What lets this site's requests through."""
        return GATES.of(self._address)

    def ask(self, request: Request) -> tuple[Mapping[str, str], bytes]:
        """The headers and the body of an answer that has at most a small document for a body.

        Raises what app.s3.outcomes makes of anything but a yes, also of an <Error> that comes after one.
        """
        with self.open(request) as stream:
            body = stream.read(documents.LIMIT)
            if body and (told := documents.error_of(body)):
                stream.failed = outcomes.refusal(self.name, 200, told.code, told.message, stream.headers)
                raise stream.failed
            return stream.headers, body

    @contextmanager
    def open(self, request: Request) -> Iterator[Stream]:
        """An answer whose body is read by the caller. Raises what app.s3.outcomes makes of anything but a yes."""
        gate = self.gate
        with gate.request(writes=request.writes, bytes_out=len(request.body)):
            started = time.monotonic()
            try:
                stream = self._answered(request)
            except ForetideError as error:
                gate.ended(error, time.monotonic() - started)
                raise
            seconds = time.monotonic() - started
            try:
                yield stream
            finally:
                stream.close()
                gate.ended(stream.failed, seconds)

    def _answered(self, request: Request) -> Stream:
        corrupt, body = self._struck(), b""
        try:
            signed_at = self._signer.now()
            answer = self._sent(request, signed_at)
            if answer.status == 403 and self._learn_clock(answer, signed_at):
                self.pool.give(answer)
                answer = self._sent(request, self._signer.now())
            if answer.status < 300:
                return Stream(self, request, answer, corrupt=corrupt)
        except Cut as error:
            raise self._not_taken(request, error) from error
        except WireError as error:
            raise outcomes.broken(self.name, error, writes=request.writes) from error
        with suppress(WireError):  # the status says enough
            body = answer.read(documents.LIMIT)
        self.pool.give(answer)
        code, message = documents.error_of(body) or ("", "")
        raise outcomes.refusal(self.name, answer.status, code, message, answer.headers)

    def _not_taken(self, request: Request, error: Cut) -> ForetideError:
        """What it means that the server stopped reading a body: one that answers all the same will not take it."""
        try:
            self.pool.give(self._sent(Request("HEAD", request.bucket, None), self._signer.now()))
        except WireError:
            return outcomes.broken(self.name, error, writes=request.writes)
        return SiteFaulty(f"{self.name} stops reading {request.method} before its end", reason="body_refused")

    def _struck(self) -> bool:
        """Meets the injected faults in force; whether what is read is to be corrupted."""
        fault = FAULTS.strike(self.name)
        if fault is None:
            return False
        if fault.kind is FaultKind.FAIL:
            raise SiteUnavailable(f"{self.name} does not answer (injected)")
        if fault.kind is FaultKind.THROTTLE:
            raise outcomes.refusal(self.name, fault.status, "SlowDown", "(injected)", {"retry-after": RETRY_AFTER})
        return True

    def _learn_clock(self, answer: Answer, signed_at: float) -> bool:
        """Whether the server's clock differs so much from what was signed that signing anew may help."""
        date = outcomes.http_date(answer.headers.get("date", ""))
        if date is None or abs(date.timestamp() - signed_at) < SKEW_S:
            return False
        self._signer.offset_s = date.timestamp() - time.time()
        return True

    def _sent(self, request: Request, now: float) -> Answer:
        head = self._head(request, now)
        connection = self.pool.take()
        try:
            return self._over(connection, request, head)
        except WireError as error:
            nothing_done = isinstance(error, Stale) or (isinstance(error, Silent) and not request.writes)
            if not (connection.is_used and nothing_done):
                raise
        return self._over(self.pool.take(fresh=True), request, head)

    def _over(self, connection: Connection, request: Request, head: bytes) -> Answer:
        look = None if request.writes else self.gate.look  # what came of a write has to be known
        try:
            return connection.exchange(request.method, head, request.body, look)
        except (WireError, ForetideError):
            connection.close()
            raise

    def _head(self, request: Request, now: float) -> bytes:
        path, query = sigv4.path_of(request.bucket, request.key), sigv4.query_of(request.query)
        try:
            sent = self._signer.signed(request.method, path, query, request.headers, self._payload(request), now)
            sent["accept-encoding"] = "identity"
            if request.body or request.method in ("PUT", "POST"):
                sent["content-length"] = str(len(request.body))
            lines = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
            if lines.count("\n") != len(sent) or lines.count("\r") != len(sent) or "\0" in lines:
                raise Permanent(f"{self.name}: a header holds a line break", reason="unsendable_request")
            return f"{request.method} {path}{'?' + query if query else ''} HTTP/1.1\r\n{lines}\r\n".encode("latin-1")
        except UnicodeEncodeError:
            raise Permanent(f"{self.name}: a header cannot be encoded", reason="unsendable_request") from None

    def _payload(self, request: Request) -> str:
        """What is signed of the body: its hash, unless that would only repeat what TLS does."""
        if not request.body:
            return EMPTY
        if request.sha256:
            return request.sha256
        return sigv4.UNSIGNED if self._is_tls else hashlib.sha256(request.body).hexdigest()
