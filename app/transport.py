"""One exchange with the API: retries, Retry-After and problem+json as the error it stands for. Used by app.client."""

from __future__ import annotations

import logging
import random
import ssl
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any

import httpx

from app import errors
from app.errors import FieldError, ForetideError, Invalid, Transient, Unavailable

Json = dict[str, Any]
WAIT_S = 30
"""The longest time that one request lets the API wait for a change."""
SIGNATURE = "X-Amz-Signature"
IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE"})
BY_STATUS: Mapping[int, type[ForetideError]] = {
    400: errors.BadRequest,
    401: errors.Unauthorized,
    403: errors.Forbidden,
    404: errors.NotFound,
    408: errors.Unavailable,
    409: errors.Conflict,
    412: errors.PreconditionFailed,
    413: errors.TooLarge,
    415: errors.UnsupportedMedia,
    422: errors.Invalid,
    428: errors.PreconditionRequired,
    429: errors.Throttled,
    502: errors.Unavailable,
    503: errors.Unavailable,
    504: errors.Unavailable,
}


def _is_unsigned(record: logging.LogRecord) -> bool:
    """Whether a line of the HTTP client's log holds no presigned URL: who reads one could use it."""
    return SIGNATURE not in record.getMessage()


logging.getLogger("httpx").addFilter(_is_unsigned)


@dataclass(frozen=True)
class Retry:
    """How often and how patiently a refused request is sent again: full jitter, times in seconds."""

    attempts: int = 5
    base_s: float = 0.2
    cap_s: float = 5.0
    longest_s: float = 60.0
    """A server that asks for more patience than this gets none: the error says what it asked for."""

    def delay(self, attempt: int, error: ForetideError) -> float | None:
        """Seconds before try number `attempt` + 1; None when there is none."""
        asked = error.retry_after_s if isinstance(error, Transient) else None
        if attempt >= self.attempts or (asked or 0) > self.longest_s:
            return None
        jitter = random.uniform(0, min(self.cap_s, self.base_s * 2.0**attempt))  # noqa: S311  # not a secret
        return (asked or 0) + jitter


class Transport:
    """A pool of connections to one API with one token. Raises the classes of app.errors only."""

    def __init__(self, url: str, token: str, retry: Retry) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        timeout = httpx.Timeout(10, read=WAIT_S + 30, connect=5)
        self.url = url.rstrip("/")
        self._retry = retry
        self._http = httpx.Client(base_url=f"{self.url}/v1", headers=headers, timeout=timeout, verify=_trusted())
        # Sites are other parties: no header of ours, the token above all, may reach them.
        self._sites = httpx.Client(timeout=timeout, headers={"Accept-Encoding": "identity"}, verify=_trusted())

    @property
    def is_local(self) -> bool:
        """Whether the API runs on this machine."""
        return httpx.URL(self.url).host in ("127.0.0.1", "localhost", "::1")

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()
        self._sites.close()

    def impatient(self) -> Transport:
        """The same connections, of which each request is tried once: its caller has a patience of its own."""
        other = copy(self)
        other._retry = Retry(attempts=1)
        return other

    def get(self, path: str, **query: Any) -> Json:
        """GET; parameters that are None are left out."""
        return _body(self.send("GET", path, params=given(query)))

    def document(self, path: str) -> tuple[Json, str]:
        """A document and its ETag."""
        response = self.send("GET", path)
        return _body(response), response.headers.get("ETag", "")

    def pages(self, path: str, **query: Any) -> Iterator[Json]:
        """Every item of a listing, page after page."""
        cursor: str | None = None
        while True:
            page = self.get(path, **query, cursor=cursor)
            yield from page["items"]
            cursor = page.get("next_cursor")
            if not cursor:
                return

    def change(self, method: str, path: str, body: Json | None = None, *, etag: str | None = None) -> Json:
        """PUT, PATCH, DELETE, or a POST that starts no work. etag: what the changed document must still have."""
        headers = {"If-Match": etag} if etag else {}
        return _body(self.send(method, path, json=body, headers=headers))

    def start(self, path: str, body: Json | None = None, *, etag: str | None = None, key: str | None = None) -> Json:
        """POST what starts work; the job. key: its Idempotency-Key, without which one is made for this call."""
        headers = {"Idempotency-Key": key or str(uuid.uuid4())} | ({"If-Match": etag} if etag else {})
        return _body(self.send("POST", path, json=body or {}, headers=headers))

    def start_with(self, path: str, content: bytes, headers: Mapping[str, str], query: Json) -> Json:
        """As `start`, of a body that is no JSON."""
        named = {**headers, "Idempotency-Key": str(uuid.uuid4())}
        return _body(self.send("POST", path, content=content, headers=named, params=query))

    def send(self, method: str, path: str, **request: Any) -> httpx.Response:
        """Sends until it is answered or nothing speaks for another try; `request` is what httpx takes."""
        repeatable = method in IDEMPOTENT or "Idempotency-Key" in request.get("headers", {})
        attempt = 0
        while True:
            attempt += 1
            try:
                return self._send_once(method, path, request)
            except Transient as error:
                delay = self._retry.delay(attempt, error)
                if delay is None or not (repeatable or _was_refused(error)):
                    raise
                time.sleep(delay)

    def _send_once(self, method: str, path: str, request: Mapping[str, Any]) -> httpx.Response:
        try:
            response = self._http.request(method, path, **request)
        except httpx.ConnectError as error:
            raise NothingAnswers(f"nothing answers at {self.url}; start it with ./foretide up") from error
        except httpx.TransportError as error:
            raise Unavailable(f"{self.url} broke off: {type(error).__name__}") from error
        except ValueError as error:
            # No JSON and no URL holds them: bytes of an argument that are no UTF-8, and numbers such as nan.
            raise Invalid(f"this cannot be sent: {error}") from error
        if response.status_code >= 400:
            raise to_error(response)
        return response

    @contextmanager
    def fetch(self, url: str) -> Iterator[httpx.Response]:
        """The answer to a GET of a site's own (presigned) URL, its body not yet read."""
        try:
            with self._sites.stream("GET", url) as response:
                if response.status_code >= 400:
                    raise errors.SiteUnavailable(f"the site answered {response.status_code}")
                yield response
        except httpx.TransportError as error:
            raise errors.SiteUnavailable(f"the site broke off: {type(error).__name__}") from error

    def write(self, url: str, headers: Mapping[str, str], body: Iterator[bytes], size: int) -> None:
        """PUT of `size` bytes to a site's own (presigned) URL with exactly these headers. Raises SiteUnavailable."""
        try:
            answer = self._sites.put(url, content=body, headers={**headers, "Content-Length": str(size)})
        except httpx.TransportError as error:
            raise errors.SiteUnavailable(f"the site broke off: {type(error).__name__}") from error
        if answer.status_code >= 300:
            raise errors.SiteUnavailable(f"the site answered {answer.status_code}")


class NothingAnswers(Unavailable):
    """No server listens at the URL: the request was not sent."""


def given(query: Mapping[str, Any]) -> Json:
    """Those parameters that are not None."""
    return {name: value for name, value in query.items() if value is not None}


@cache
def _trusted() -> ssl.SSLContext:
    """The certificates that are trusted; reading them takes as long as dozens of requests, so it is done once."""
    return httpx.create_ssl_context()


def _body(response: httpx.Response) -> Json:
    if not response.content:
        return {}
    reply: Json = response.json()
    return reply


def _was_refused(error: Transient) -> bool:
    """Whether the server surely did nothing, so that even a request that is not idempotent may be sent again."""
    return isinstance(error, (NothingAnswers, errors.Throttled, errors.Overloaded))


def to_error(response: httpx.Response) -> ForetideError:
    """The error that a reply of status 400 and above stands for: by the slug of its problem, else by its status."""
    problem = _problem(response)
    fallback = BY_STATUS.get(response.status_code, ForetideError)
    detail = problem.get("detail") or problem.get("title") or f"the server answered {response.status_code}"
    return make(_by_slug().get(_slug(problem), fallback), problem | {"detail": detail}, _retry_after(response))


def make(kind: type[ForetideError], problem: Json, retry_after_s: float | None = None) -> ForetideError:
    """An error of this kind as the problem document tells it."""
    detail, reason = problem.get("detail"), problem.get("reason")
    if issubclass(kind, Transient):
        return kind(detail, reason=reason, retry_after_s=retry_after_s)
    fields = tuple(FieldError(str(e.get("pointer", "")), str(e.get("detail", ""))) for e in problem.get("errors") or ())
    return kind(detail, reason=reason, errors=fields)


def job_error(job: Json) -> ForetideError | None:
    """What ended the job, None when it succeeded or goes on."""
    if job["state"] == "cancelled":
        return errors.Cancelled(f"job {job['id']} was cancelled")
    if job["state"] not in ("failed", "dead"):
        return None
    problem = job.get("problem") or {}
    kind = _by_slug().get(_slug(problem), ForetideError)
    return make(
        kind, problem | {"detail": f"job {job['id']} {job['state']}: {problem.get('detail') or job.get('reason')}"}
    )


def _problem(response: httpx.Response) -> Json:
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _slug(problem: Json) -> str:
    """The last part of the problem's type: /problems/not-found is not-found; a job's own problem is the slug alone."""
    return str(problem.get("type", "")).rpartition("/")[2]


def _by_slug() -> dict[str, type[ForetideError]]:
    found: dict[str, type[ForetideError]] = {}
    waiting: list[type[ForetideError]] = [ForetideError]
    while waiting:
        kind = waiting.pop()
        found.setdefault(kind.slug, kind)
        waiting.extend(kind.__subclasses__())
    return found


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds or an HTTP date, as RFC 9110 allows; None when it is absent or unreadable."""
    value = response.headers.get("Retry-After", "")
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        then = parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return None
    return max(0.0, then.timestamp() - time.time())
