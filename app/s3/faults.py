"""Injected faults (chaos): rules read as values and acted on just before a request is sent."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from botocore.awsrequest import AWSResponse
from botocore.exceptions import EndpointConnectionError

RELOAD_S = 1.0
_SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate (injected)</Message></Error>"


class FaultKind(StrEnum):
    """What is injected."""

    FAIL = "fail"
    """The site does not answer."""
    LATENCY = "latency"
    """Every request takes longer."""
    THROTTLE = "throttle"
    """503 SlowDown with Retry-After: 1."""


@dataclass(frozen=True)
class Fault:
    """One rule: what happens at a site to a request with this probability until it expires."""

    site: str
    kind: FaultKind
    probability: float
    latency_ms: float
    expires_at: datetime


class Faults:
    """The rules in force in this process, loaded anew at most once a second by whoever knows where they stand."""

    def __init__(self) -> None:
        self._load: Callable[[], Iterable[Fault]] | None = None
        self._rules: tuple[Fault, ...] = ()
        self._loaded = 0.0
        self._lock = threading.Lock()

    def load_from(self, load: Callable[[], Iterable[Fault]] | None) -> None:
        """From now on rules come from `load`; None: there are none."""
        self._load, self._rules, self._loaded = load, (), 0.0

    def of(self, site: str) -> list[Fault]:
        """The rules in force for a site."""
        if self._load is None:
            return []
        with self._lock:
            if time.monotonic() - self._loaded >= RELOAD_S:
                self._rules, self._loaded = tuple(self._load()), time.monotonic()
        now = datetime.now(UTC)
        return [rule for rule in self._rules if rule.site == site and rule.expires_at > now]


FAULTS = Faults()


def before_send(site: str) -> Callable[..., AWSResponse | None]:
    """A handler of botocore's before-send event: returning a response answers in the server's place."""

    def handle(request: Any, **_: object) -> AWSResponse | None:
        for rule in FAULTS.of(site):
            if random.random() >= rule.probability:  # noqa: S311  # chance, not a secret
                continue
            if rule.kind is FaultKind.FAIL:
                raise EndpointConnectionError(endpoint_url=request.url, error="injected")
            if rule.kind is FaultKind.THROTTLE:
                headers: Any = {"Retry-After": "1", "Content-Type": "application/xml"}
                return AWSResponse(request.url, 503, headers, _Body(b"" if request.method == "HEAD" else _SLOW_DOWN))
            time.sleep(rule.latency_ms / 1000)
        return None

    return handle


class _Body:
    """The part of urllib3's response that AWSResponse reads."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def stream(self) -> list[bytes]:
        return [self._content]
