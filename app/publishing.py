"""One producer a topic for the whole process, for programs that only want to say what happened, from any thread.

publish_analytics(user_id="ann", action="login")
publish_metric("latency", 150.5, service="api")
"""

from __future__ import annotations

import atexit
import os
from datetime import UTC, datetime
from functools import lru_cache
from threading import Lock
from typing import Any

from app.client import Client
from app.domain.topics import TopicName
from app.producer import Callback, Producer

_making = Lock()


def publish(topic: str, event: dict[str, Any], callback: Callback | None = None) -> None:
    """Sends an event to a topic; what waits when the process ends is delivered then, for ten seconds at most."""
    producer(topic).send(event, callback)


def publish_analytics(
    user_id: str, action: str, timestamp: datetime | None = None, callback: Callback | None = None, **more: Any
) -> None:
    """Sends what a user did to the topic analytics; the time is now unless told otherwise."""
    event = {"user_id": user_id, "action": action, "timestamp": timestamp or datetime.now(UTC), **more}
    publish(TopicName.ANALYTICS, event, callback)


def publish_metric(
    metric_name: str,
    value: float,
    service: str | None = None,
    timestamp: datetime | None = None,
    callback: Callback | None = None,
) -> None:
    """Sends a sample to the topic metrics; the service is its group."""
    sample = {"name": metric_name, "value": value, "ts": timestamp or datetime.now(UTC)}
    publish(TopicName.METRICS, sample | ({"group": service} if service else {}), callback)


def producer(topic: str) -> Producer:
    """The process's one producer of a topic."""
    with _making:
        return _producer(topic)


@lru_cache
def _producer(topic: str) -> Producer:
    return _client().producer(topic)


@lru_cache(maxsize=1)
def _client() -> Client:
    made = Client()
    atexit.register(made.close)
    return made


def _forget() -> None:
    """A forked process makes its own: threads and connections stay with the one before."""
    global _making  # noqa: PLW0603  # another thread may have held it
    _making = Lock()
    _producer.cache_clear()
    _client.cache_clear()


os.register_at_fork(after_in_child=_forget)
