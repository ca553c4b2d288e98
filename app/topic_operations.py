"""The SDK's side of topics: publish, read, consume, and look after what could not be handled."""

from __future__ import annotations

import gzip
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from app.consumer import Consumer, Handler
from app.operations import part
from app.producer import HEADERS, Producer, encode
from app.transport import Json, Transport, given


class TopicOperations:
    """The part of `app.client.Client` that deals with events."""

    _api: Transport
    _producers: list[Producer]

    def producer(self, topic: str, **options: Any) -> Producer:
        """What sends events to a topic in batches; options as `app.producer.Producer` takes them."""
        made = Producer(self._api.impatient(), topic, **options)
        self._producers.append(made)
        return made

    def consumer(self, group: str, topics: Sequence[str], handler: Handler, **options: Any) -> Consumer:
        """A member of a group of consumers of these topics; options as `app.consumer.Consumer` takes them."""
        return Consumer(self._api, group, topics, handler, **options)

    def publish(self, topic: str, events: Iterable[Mapping[str, Any]], *, strict: bool = False) -> Json:
        """Sends one batch and returns what became of it: offsets, accepted, rejected, errors."""
        return self.publish_lines(topic, [encode(event) for event in events], strict=strict)

    def publish_lines(self, topic: str, lines: Iterable[bytes], *, strict: bool = False) -> Json:
        """The same of events that are lines of JSON already. strict: none is taken where one is wrong."""
        body = gzip.compress(b"\n".join(line.rstrip(b"\r\n") for line in lines), compresslevel=1)
        headers = {**HEADERS, "Idempotency-Key": str(uuid.uuid4())}
        query = {"strict": "true"} if strict else {}
        path = f"/events/{part(topic)}"
        reply: Json = self._api.send("POST", path, content=body, headers=headers, params=query).json()
        return reply

    def topics(self) -> Iterator[Json]:
        """Every topic with its offsets, its groups and how far they lag."""
        return self._api.pages("/events")

    def events(self, topic: str, offset: int | None = None, limit: int = 1000, wait_s: int | None = None) -> Json:
        """A page of a topic's events with their offsets; `next_offset` is where the next one begins.

        wait_s: seconds that the API may wait for an event at the log's end.
        """
        return self._api.get(f"/events/{part(topic)}", offset=offset, limit=limit, wait=wait_s)

    def set_position(self, group: str, topic: str, position: int) -> Json:
        """Lets a group that no member is at go on from another offset. Raises Conflict while one is."""
        path = f"/events/{part(topic)}/groups/{part(group)}"
        claimed = self._api.send("POST", f"{path}:claim", json={"member": f"position-{uuid.uuid4().hex[:8]}"})
        etag = claimed.headers["ETag"]
        try:
            return self._api.change("PUT", path, {"position": position}, etag=etag)
        finally:
            self._api.change("POST", f"{path}:release", {}, etag=etag)

    def remove_group(self, group: str, topic: str) -> None:
        """Forgets a group that no member is at."""
        self._api.change("DELETE", f"/events/{part(topic)}/groups/{part(group)}")

    def dead_letters(self, **filters: Any) -> Iterator[Json]:
        """Events that groups could not handle, by group, topic and state."""
        return self._api.pages("/dead-letters", **given(filters))

    def change_dead_letter(self, letter_id: int, verb: str) -> Json:
        """verb: retry or discard."""
        return self._api.change("POST", f"/dead-letters/{letter_id}:{verb}", {})
