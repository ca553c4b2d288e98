"""The SDK's producer: events go to a topic in batches, from any thread; while the API is away they wait here, bounded.

with Client() as client, client.producer("analytics") as producer:
    producer.send({"user": "ann", "action": "login"})
"""

from __future__ import annotations

import atexit
import gzip
import json
import os
import random
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self
from uuid import UUID

import structlog

from app.errors import ForetideError, Invalid, Overloaded, Permanent, Transient, Unavailable
from app.operations import part
from app.spool import Spool
from app.transport import Json, Transport

log = structlog.get_logger()
BASE_S = 0.2
"""Full jitter between the tries of a batch, up to 30 s unless told otherwise."""
CLOSE_S = 10.0
HEADERS = {"Content-Type": "application/x-ndjson", "Content-Encoding": "gzip"}


@dataclass(frozen=True)
class Receipt:
    """Where an event stands: its topic, and the offset of its batch's first event."""

    topic: str
    first_offset: int


Callback = Callable[["Future[Receipt]"], object]
"""Called in the producer's thread once the event's fate is known: `result()` gives the receipt or raises why not."""


@dataclass(frozen=True)
class Stats:
    """What a producer has done and what waits in it, in events unless said otherwise."""

    sent: int = 0
    """Taken by `send`."""
    delivered: int = 0
    rejected: int = 0
    """Refused one by one by the API."""
    failed: int = 0
    """Of batches that the API refused for good, or that were left when the producer was closed."""
    refused: int = 0
    """Not taken by `send`, since the buffer was full."""
    retries: int = 0
    """Tries of batches that were not the first."""
    waiting: int = 0
    waiting_bytes: int = 0
    away_s: float = 0.0
    """For how long nothing could be delivered; 0: the last try succeeded."""
    last_error: str | None = None


@dataclass
class Batch:
    """Events under the key by which the API knows them again."""

    key: str
    lines: list[bytes] = field(default_factory=list)
    """Empty where a file holds them."""
    callbacks: list[tuple[int, Callback]] = field(default_factory=list)
    """With the event's line, the first 1."""
    size: int = 0
    count: int = 0
    began: float = 0.0


class Producer:
    """Sends batches in a thread of its own, in order, each until it is delivered or refused for good."""

    def __init__(
        self,
        api: Transport,
        topic: str,
        *,
        batch_events: int = 1000,
        batch_bytes: int = 2**20,
        linger_s: float = 0.1,
        buffer_bytes: int = 64 * 2**20,
        when_full: Literal["block", "raise"] = "block",
        spool: Path | None = None,
        retry_cap_s: float = 30.0,
    ) -> None:
        """A batch is sent once it has so many events or bytes, or is `linger_s` old; a buffer holds `buffer_bytes`.

        when_full: what `send` does then; spool: a folder of this producer alone, in which events outlive the process;
        retry_cap_s: the longest pause between two tries. Raises Conflict when another process has the folder, or when
        another topic's events are left in it.
        """
        self.topic = topic
        self._api, self._events, self._bytes, self._linger_s = api, batch_events, batch_bytes, linger_s
        self._room, self._when_full, self._retry_cap_s = buffer_bytes, when_full, retry_cap_s
        self._name, self._number = uuid.uuid4().hex, 0
        self._changed = threading.Condition()
        self._closing = False
        self._process = os.getpid()
        self._stats, self._away_since = Stats(), 0.0
        self._spool = Spool(spool, topic) if spool else None
        self._queue: deque[Batch] = deque()
        for key, size, count in self._spool.left() if self._spool else ():
            self._queue.append(Batch(key, size=size, count=count))
            self._count(waiting=count, waiting_bytes=size)
        self._open = self._new()
        self._thread = threading.Thread(target=self._run, daemon=True, name=f"producer-{topic}")
        self._thread.start()
        atexit.register(self.close)  # who forgets to close it must not lose events in silence

    def __enter__(self) -> Self:
        """The producer; leaving closes it."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Delivers what waits, for at most ten seconds."""
        self.close()

    @property
    def stats(self) -> Stats:
        """The numbers of now."""
        with self._changed:
            away = time.monotonic() - self._away_since if self._away_since else 0.0
            return replace(self._stats, away_s=away)

    def send(self, event: Mapping[str, Any], callback: Callback | None = None, timeout_s: float | None = None) -> None:
        """Takes an event; it is on its way, and in the spool if there is one, when this returns.

        Raises Overloaded when the buffer is full: at once, or after `timeout_s` seconds where it blocks. Raises Invalid
        in a forked process: the thread that delivers did not come along.
        """
        if self._is_copy():
            raise Invalid("this producer belongs to the process before the fork; make one of your own")
        line = encode(event)
        if len(line) >= self._room:
            raise Invalid(f"the event has {len(line)} bytes, more than the buffer of topic {self.topic}")
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        with self._changed:
            while self._stats.waiting_bytes + len(line) > self._room or self._closing:
                self._await_room(deadline)
            self._add(line, callback)

    def flush(self, timeout_s: float | None = None) -> bool:
        """Waits until all that was sent so far has left the buffer; False when the time was over first."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        with self._changed:
            self._shut()
            while self._queue:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return False
                self._changed.wait(left)
        return True

    def close(self, timeout_s: float = CLOSE_S) -> bool:
        """Delivers what waits and ends; False when something was left. What is left is in the spool, or has failed."""
        if self._is_copy():
            return False  # what waits is the other process's, which delivers it
        atexit.unregister(self.close)
        done = self.flush(timeout_s)
        with self._changed:
            self._closing = True
            self._shut()  # what other threads have sent since
            self._changed.notify_all()
        self._thread.join()
        with self._changed:
            left = list(self._queue)
            self._queue.clear()
        if self._spool:
            self._spool.close()
        if count := sum(batch.count for batch in left):
            log.error("events not delivered", topic=self.topic, events=count, kept_in_spool=self._spool is not None)
            for batch in left:
                self._told(batch, Unavailable("the producer was closed before the event was delivered"))
            size = sum(batch.size for batch in left)
            self._count(failed=0 if self._spool else count, waiting=-count, waiting_bytes=-size)
        return done

    def _is_copy(self) -> bool:
        """Whether this is another process than that which made it: its locks and its spool are not ours to touch."""
        return os.getpid() != self._process

    # -- the caller's side, under the lock

    def _await_room(self, deadline: float | None) -> None:
        left = None if deadline is None else deadline - time.monotonic()
        full = f"the buffer of topic {self.topic} is full: {self._stats.waiting} events wait"
        if self._closing or self._when_full == "raise" or (left is not None and left <= 0):
            if not self._stats.refused:
                log.warning("buffer full", topic=self.topic, waiting=self._stats.waiting, error=self._stats.last_error)
            self._count(refused=1)
            raise Overloaded("the producer is closed" if self._closing else full)
        self._changed.wait(left)

    def _add(self, line: bytes, callback: Callback | None) -> None:
        if self._open.count and self._open.size + len(line) > self._bytes:
            self._shut()
        batch = self._open
        if not batch.count:
            batch.began = time.monotonic()
            self._changed.notify_all()
        if self._spool:
            self._spool.append(batch.key, line)
        else:
            batch.lines.append(line)
        batch.count, batch.size = batch.count + 1, batch.size + len(line) + 1
        if callback:
            batch.callbacks.append((batch.count, callback))
        self._count(sent=1, waiting=1, waiting_bytes=len(line) + 1)
        if batch.count >= self._events:
            self._shut()

    def _shut(self) -> None:
        """The open batch is to be sent, and another one opened."""
        if self._open.count:
            self._queue.append(self._open)
            self._open = self._new()
            self._changed.notify_all()

    def _new(self) -> Batch:
        self._number += 1
        return Batch(f"{self._name}-{self._number}")

    def _count(self, **more: int) -> None:
        self._stats = replace(self._stats, **{name: getattr(self._stats, name) + by for name, by in more.items()})

    # -- the thread's side

    def _run(self) -> None:
        attempt = 0
        while (batch := self._next()) is not None:
            try:
                reply = self._deliver(batch)
            except Permanent as error:
                self._ended(batch, failed=batch.count, error=error)
                log.error("batch refused", topic=self.topic, events=batch.count, reason=error.detail)
            except ForetideError as error:  # transient, or one that says neither, such as a 500: it may pass
                attempt += 1
                self._is_away(error, attempt)
                continue
            else:
                self._is_back()
                self._acknowledged(batch, reply)
            attempt = 0

    def _next(self) -> Batch | None:
        """The first batch that is to be sent, once there is one; None at the end."""
        with self._changed:
            while not self._closing:
                if self._queue:
                    return self._queue[0]
                left = self._open.began + self._linger_s - time.monotonic() if self._open.count else None
                if left is not None and left <= 0:
                    self._shut()
                else:
                    self._changed.wait(left)
        return None

    def _deliver(self, batch: Batch) -> Json:
        data = self._spool.read(batch.key) if self._spool else b"\n".join(batch.lines)
        body = gzip.compress(data, compresslevel=1)
        headers = {**HEADERS, "Idempotency-Key": batch.key}
        answer = self._api.send("POST", f"/events/{part(self.topic)}", content=body, headers=headers)
        try:
            reply: Json = answer.json()
            reply["first_offset"], reply["errors"]
        except (ValueError, LookupError, TypeError) as error:
            raise Unavailable(f"what answers at {self._api.url} is no API of topics") from error
        return reply

    def _is_away(self, error: ForetideError, attempt: int) -> None:
        asked = error.retry_after_s if isinstance(error, Transient) else None
        delay = random.uniform(0, min(self._retry_cap_s, BASE_S * 2.0 ** min(attempt, 32))) + (asked or 0.0)  # noqa: S311
        with self._changed:
            self._count(retries=1)
            self._stats = replace(self._stats, last_error=error.detail)
            if not self._away_since:
                self._away_since = time.monotonic()
                log.warning("events wait", topic=self.topic, waiting=self._stats.waiting, error=error.detail)
            until = time.monotonic() + delay
            while not self._closing and (left := until - time.monotonic()) > 0:
                self._changed.wait(left)

    def _is_back(self) -> None:
        with self._changed:
            if self._away_since:
                away = time.monotonic() - self._away_since
                log.info("events go on", topic=self.topic, waiting=self._stats.waiting, away_s=round(away, 1))
                self._away_since, self._stats = 0.0, replace(self._stats, last_error=None)

    def _acknowledged(self, batch: Batch, reply: Json) -> None:
        wrong = {error["line"]: ForetideError(error["detail"]) for error in reply["errors"]}
        self._ended(batch, delivered=batch.count - len(wrong), rejected=len(wrong))
        receipt = Receipt(self.topic, reply["first_offset"])
        for line, callback in batch.callbacks:
            _tell(callback, wrong.get(line) or receipt)

    def _ended(self, batch: Batch, error: ForetideError | None = None, **counts: int) -> None:
        """The batch leaves the buffer."""
        if self._spool:
            self._spool.remove(batch.key, keep_as="failed" if error else None)
        with self._changed:
            self._queue.popleft()
            self._count(**counts, waiting=-batch.count, waiting_bytes=-batch.size)
            self._changed.notify_all()
        if error:
            self._told(batch, error)

    def _told(self, batch: Batch, error: ForetideError) -> None:
        for _, callback in batch.callbacks:
            _tell(callback, error)


def encode(event: Mapping[str, Any]) -> bytes:
    """An event as a line of JSON; times are written in ISO 8601. Raises Invalid for what no JSON holds, such as nan."""
    try:
        return json.dumps(event, separators=(",", ":"), default=_plain, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise Invalid(f"this event cannot be sent: {error}") from error


def _plain(value: object) -> str:
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, UUID | Decimal | Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def _tell(callback: Callback, fate: Receipt | ForetideError) -> None:
    """Through a future, which logs what a callback raises: no caller's error may end the producer's thread."""
    future: Future[Receipt] = Future()
    future.add_done_callback(callback)
    if isinstance(fate, Receipt):
        future.set_result(fate)
    else:
        future.set_exception(fate)
