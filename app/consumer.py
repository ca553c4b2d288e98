"""The SDK's consumer: a member of a group handles the events of several topics, each at least once and in order.

with Client() as client:
    client.consumer("billing", ["user", "analytics"], handle).run()
"""

from __future__ import annotations

import json
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal

import structlog

from app.errors import (
    Conflict,
    ForetideError,
    NotFound,
    OffsetGone,
    Permanent,
    PreconditionFailed,
    Throttled,
    Transient,
)
from app.operations import part
from app.transport import Json, Transport

log = structlog.get_logger()
IDLE_S = 1
"""How long one request waits for an event where no topic has any."""
BASE_S, CAP_S = 0.2, 30.0


@dataclass(frozen=True)
class Event:
    """One event; `topic` and `offset` name it for good, so that a handler knows it when it comes twice."""

    topic: str
    offset: int
    at: str
    """When it was received, ISO 8601."""
    value: Json


Handler = Callable[[Event], object]
"""Handles an event, more than once if it must be: a crash after it and before the position is noted brings it again."""


@dataclass
class Stats:
    """What a consumer has done."""

    handled: int = 0
    retries: int = 0
    dead: int = 0
    """Events that became dead letters."""
    lost: int = 0
    """Events that retention removed before the group had handled them."""
    taken_over: int = 0
    """Claims that another member has taken after a lease had lapsed."""


@dataclass
class _Claim:
    """A topic that is ours."""

    topic: str
    etag: str
    position: int
    noted: int
    """The position that the API knows."""
    noted_at: float
    retries: bool
    """Whether dead letters are to be handled once more."""


class Consumer:
    """One member; members of a group share its topics, each of which one member has at a time."""

    def __init__(
        self,
        api: Transport,
        group: str,
        topics: Sequence[str],
        handler: Handler,
        *,
        member: str | None = None,
        lease_s: float = 30.0,
        attempts: int = 5,
        batch: int = 500,
        begin: Literal["earliest", "latest"] = "earliest",
    ) -> None:
        """attempts: so often a handler that raises is tried, with back-off, until its event becomes a dead letter.

        lease_s: so long after its death a member is followed by another; batch: events that are read at once; begin:
        where a group that is new begins.
        """
        self.stats = Stats()
        self._api, self._group, self._topics, self._handler = api, group, list(topics), handler
        self._member = member or f"m-{uuid.uuid4().hex[:16]}"
        self._lease_s, self._attempts, self._batch, self._begin = lease_s, attempts, batch, begin
        self._claims: dict[str, _Claim] = {}
        self._asked: dict[str, float] = {}
        self._stopping = threading.Event()
        self._pool = ThreadPoolExecutor(1, f"consumer-{group}")

    def run(self) -> None:
        """Handles events until `stop` is called, waiting for an API that is away."""
        attempt = 0
        while not self._stopping.is_set():
            try:
                if not self.poll():
                    self._idle()
                attempt = 0
            except Permanent:
                raise
            except ForetideError as error:  # transient, or one that says neither, such as a 500: it may pass
                attempt = min(attempt + 1, 32)  # a day's outage is no number too large
                log.warning("the API is away", group=self._group, error=error.detail)
                self._stopping.wait(random.uniform(0, min(CAP_S, BASE_S * 2.0**attempt)))  # noqa: S311
        with suppress(Transient):
            self.close()
        self._pool.shutdown()

    def stop(self) -> None:
        """Lets `run` end after the event at hand."""
        self._stopping.set()

    def poll(self) -> int:
        """Handles up to one batch of each topic that can be had; returns how many events those were."""
        return sum(self._poll(topic) for topic in self._topics if not self._stopping.is_set())

    def close(self) -> None:
        """Gives the topics back, so that another member need not wait for the leases."""
        for claim in list(self._claims.values()):
            with self._ours(claim):
                self._note(claim)
                self._api.send("POST", f"{self._path(claim.topic)}:release", headers={"If-Match": claim.etag})
        self._claims.clear()

    # -- one topic

    def _poll(self, topic: str) -> int:
        claim = self._claims.get(topic) or self._claimed(topic)
        if claim is None:
            return 0
        done = 0
        with self._ours(claim):
            if claim.retries:
                self._retry_dead_letters(claim)
            for event in self._read(claim):
                if self._stopping.is_set():
                    break
                self._work_off(claim, event)
                self._keep(claim)
                done += 1
            if claim.position != claim.noted:
                self._note(claim)
        return done

    def _claimed(self, topic: str) -> _Claim | None:
        """Ours now, or None while another member has it, who is asked again after a part of the lease."""
        if time.monotonic() < self._asked.get(topic, 0.0):
            return None
        body = {"member": self._member, "lease_s": self._lease_s, "begin": self._begin}
        try:
            answer = self._api.send("POST", f"{self._path(topic)}:claim", json=body)
        except Conflict as conflict:
            if conflict.reason != "held":
                raise
            self._asked[topic] = time.monotonic() + self._lease_s / 4
            return None
        group = answer.json()
        begin, retries = group["position"], bool(group["retry"])
        claim = self._claims[topic] = _Claim(topic, answer.headers["ETag"], begin, begin, time.monotonic(), retries)
        return claim

    def _read(self, claim: _Claim) -> Iterator[Event]:
        try:
            page = self._page(claim)
        except OffsetGone as gone:
            first = self._api.get(f"/events/{part(claim.topic)}", limit=1)["first_offset"]
            self.stats.lost += first - claim.position
            log.error("events lost", topic=claim.topic, group=self._group, detail=gone.detail)
            claim.position = first
            page = self._page(claim)
        for item in page["items"]:
            yield Event(claim.topic, item["offset"], item["at"], item["event"])

    def _page(self, claim: _Claim, wait_s: int | None = None) -> Json:
        limit = 1 if wait_s else self._batch
        return self._api.get(f"/events/{part(claim.topic)}", offset=claim.position, limit=limit, wait=wait_s)

    def _work_off(self, claim: _Claim, event: Event) -> None:
        """Handles an event until that succeeds or its attempts are used up; then it is dead, and the group goes on."""
        error = self._tried(claim, event)
        for attempt in range(1, self._attempts):
            if error is None or self._stopping.is_set():
                break
            self.stats.retries += 1
            self._pause(claim, random.uniform(0, min(CAP_S, BASE_S * 2.0**attempt)))  # noqa: S311
            error = self._tried(claim, event)
        if error is None:
            self.stats.handled += 1
        elif self._stopping.is_set():
            return  # it comes again
        else:
            self._bury(claim, event, error)
        claim.position = event.offset + 1

    def _tried(self, claim: _Claim, event: Event) -> BaseException | None:
        """What the handler raised. The lease is kept while it works, in a thread of its own."""
        future = self._pool.submit(self._handler, event)
        while not wait([future], self._lease_s / 3).done:
            self._note(claim)
        return future.exception()

    def _pause(self, claim: _Claim, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not self._stopping.wait(min(left, self._lease_s / 3)):
            self._keep(claim)

    def _bury(self, claim: _Claim, event: Event, error: BaseException) -> None:
        self.stats.dead += 1
        log.error("dead letter", topic=event.topic, offset=event.offset, group=self._group, error=repr(error))
        body = {"offset": event.offset, "type": type(error).__name__, "detail": _said(error)}
        self._api.send("POST", f"{self._path(claim.topic)}/dead-letters", json=body, headers={"If-Match": claim.etag})

    def _keep(self, claim: _Claim) -> None:
        """Notes the position once a part of the lease is over, so that it goes on."""
        if time.monotonic() - claim.noted_at > self._lease_s / 3:
            self._note(claim)

    def _note(self, claim: _Claim) -> None:
        """Tells the API how far the topic is handled, which prolongs the lease."""
        body = {"position": claim.position, "lease_s": self._lease_s}
        headers = {"If-Match": claim.etag}
        group = self._api.send("PUT", self._path(claim.topic), json=body, headers=headers).json()
        claim.noted, claim.noted_at, claim.retries = claim.position, time.monotonic(), bool(group["retry"])

    def _retry_dead_letters(self, claim: _Claim) -> None:
        """Handles once more what a person has asked for."""
        claim.retries = False
        asked: dict[str, Any] = {"group": self._group, "topic": claim.topic, "state": "retry"}
        for letter in list(self._api.pages("/dead-letters", **asked)):
            event = Event(claim.topic, letter["offset"], letter["created_at"], json.loads(letter["event"]))
            error = self._tried(claim, event)
            verb, body = ("failed", {"detail": repr(error)[:10_000]}) if error else ("done", {})
            self._api.change("POST", f"/dead-letters/{letter['id']}:{verb}", body)

    def _idle(self) -> None:
        """Waits where an event may come: a moment at each topic that is ours, or for one to become ours."""
        for claim in list(self._claims.values()):
            with self._ours(claim), suppress(Throttled):
                self._keep(claim)
                if self._page(claim, IDLE_S)["items"]:
                    return
        self._stopping.wait(0.0 if self._claims else IDLE_S)

    @contextmanager
    def _ours(self, claim: _Claim) -> Iterator[None]:
        """Ends the claim where another member has taken it over, or the group was removed."""
        try:
            yield
        except (PreconditionFailed, NotFound):
            self._claims.pop(claim.topic, None)
            self.stats.taken_over += 1
            log.warning("topic taken over by another member", topic=claim.topic, group=self._group)

    def _path(self, topic: str) -> str:
        return f"/events/{part(topic)}/groups/{part(self._group)}"


def _said(error: BaseException) -> str:
    """What an error says, in characters that a request can hold: it may quote any of the event's."""
    text = str(error)[:10_000] or repr(error)
    return text.replace("\0", "\ufffd").encode(errors="replace").decode()
