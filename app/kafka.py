"""Kafka as the way in: what is published goes to its topics, and is taken from there into the logs (step: publish).

Loaded only where FORETIDE_KAFKA_URL is set. Offsets of partitions are never committed to Kafka: they stand in the
database, in the transaction that stores the events.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING, Any

from app.domain.topics import TopicName
from app.errors import BrokerUnavailable, SettingsError
from app.settings import get_settings

if TYPE_CHECKING:
    from confluent_kafka import Consumer, Producer

TIMEOUT_S, ASK_S = 10.0, 2.0
"""Given to Kafka to take a batch, and to say what it has."""
LOOK_S = 0.5
"""How long a read waits for a first event."""
BATCH = "foretide-batch"
"""The header of an event that was published with an Idempotency-Key: the key, its number and that of the batch."""


@dataclass(frozen=True)
class Placed:
    """Where a batch stands in Kafka."""

    partition: int
    first_offset: int
    next_offset: int


@dataclass(frozen=True)
class Record:
    """One event as Kafka has it."""

    offset: int
    value: bytes
    batch: str | None
    """The key of the batch that it was published in."""
    number: int
    """Its number in that batch, the first 0."""
    of: int
    """The batch's number of events."""


def enabled() -> bool:
    """Whether events go through Kafka."""
    return bool(get_settings().kafka_url)


def topic_name(topic: TopicName) -> str:
    """The topic's name in Kafka."""
    return f"{get_settings().kafka_prefix}{topic}"


def _library() -> Any:
    try:
        import confluent_kafka
    except ImportError as error:
        how = ".venv/bin/python -m pip install confluent-kafka"
        raise SettingsError(f"FORETIDE_KAFKA_URL is set, but the package for Kafka is missing: {how}") from error
    return confluent_kafka


_making = Lock()


def _producer() -> Producer:
    with _making:
        return _made_producer(get_settings().kafka_url)


@lru_cache(maxsize=1)
def _made_producer(url: str) -> Producer:
    made: Producer = _library().Producer(
        {
            "bootstrap.servers": url,
            "enable.idempotence": True,
            "acks": "all",
            "linger.ms": 5,
            "message.timeout.ms": int(TIMEOUT_S * 1000),
            "log_level": 2,
        }
    )
    return made


def answers() -> bool:
    """Whether Kafka answers within half a second."""
    try:
        places(0.5)
    except BrokerUnavailable:
        return False
    return True


def places(timeout_s: float | None = None) -> dict[TopicName, list[int]]:
    """The partitions of each topic that Kafka has. Raises BrokerUnavailable after two seconds or those given.

    All of its topics are listed: a broker may make one that is asked for by name.
    """
    kafka = _library()
    try:
        found = _producer().list_topics(timeout=timeout_s or ASK_S).topics
    except kafka.KafkaException as error:
        raise BrokerUnavailable(f"Kafka does not answer: {error}") from error
    names = {topic: topic_name(topic) for topic in TopicName}
    return {topic: sorted(found[name].partitions) for topic, name in names.items() if name in found}


def ensure(topic: TopicName) -> list[int]:
    """The topic's partitions; it is made where Kafka does not have it. Raises BrokerUnavailable."""
    if found := places().get(topic):
        return found
    kafka = _library()
    from confluent_kafka import admin

    new = admin.NewTopic(topic_name(topic), num_partitions=get_settings().kafka_partitions)  # type: ignore[attr-defined]
    client = admin.AdminClient({"bootstrap.servers": get_settings().kafka_url})  # it must outlive what it promises
    made = client.create_topics([new])
    try:
        made[topic_name(topic)].result(TIMEOUT_S)
    except kafka.KafkaException as error:
        if error.args[0].code() != kafka.KafkaError.TOPIC_ALREADY_EXISTS:
            raise BrokerUnavailable(f"Kafka made no topic {topic_name(topic)}: {error}") from error
    return places().get(topic) or [0]


def publish(topic: TopicName, lines: Sequence[bytes], key: str | None) -> Placed:
    """Sends a batch to one partition and waits until all brokers in sync have it. Raises BrokerUnavailable.

    A batch that fails in the midst may be there in part: whoever sends it again says so by the same key.
    """
    found = ensure(topic)
    partition = found[zlib.crc32(key.encode() if key else lines[0]) % len(found)]
    offsets: list[int] = []
    errors: list[str] = []

    def delivered(error: Any, message: Any) -> None:
        if error:
            errors.append(str(error))
        else:
            offsets.append(message.offset())

    producer = _producer()
    for number, line in enumerate(lines):
        headers = [(BATCH, f"{number}/{len(lines)}/{key}".encode())] if key else None
        _produce(producer, topic_name(topic), line, partition, headers, delivered)
    producer.flush(TIMEOUT_S)
    if errors or len(offsets) < len(lines):
        raise BrokerUnavailable(f"Kafka did not take the batch: {errors[0] if errors else 'no answer'}")
    return Placed(partition, min(offsets), max(offsets) + 1)


def _produce(producer: Producer, topic: str, line: bytes, partition: int, headers: Any, delivered: Any) -> None:
    while True:
        try:
            producer.produce(topic, value=line, partition=partition, headers=headers, on_delivery=delivered)
        except BufferError:  # its queue is full: what is delivered makes room
            if not producer.poll(TIMEOUT_S):
                raise BrokerUnavailable("Kafka takes no more events at the moment") from None
        else:
            return


Place = tuple[TopicName, int]
"""A topic's partition."""


class Reader:
    """Partitions that are read from offsets on; Kafka forms no group and keeps no offset for it."""

    def __init__(self) -> None:
        """Nothing is read before `go`."""
        self._kafka = _library()
        self._topics = {topic_name(topic): topic for topic in TopicName}
        self._consumer: Consumer = self._kafka.Consumer(
            {
                "bootstrap.servers": get_settings().kafka_url,
                "group.id": "foretide",  # the library asks for a name; nothing is ever committed under it
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "error",
                "queued.max.messages.kbytes": 16384,
                "log_level": 2,
            }
        )

    def ends(self, place: Place) -> tuple[int, int]:
        """The oldest offset that is there, and that after the newest as Kafka tells it. Raises BrokerUnavailable."""
        asked = self._kafka.TopicPartition(topic_name(place[0]), place[1])
        try:
            low, high = self._consumer.get_watermark_offsets(asked, timeout=ASK_S)
        except self._kafka.KafkaException as error:
            raise BrokerUnavailable(f"Kafka does not answer: {error}") from error
        return int(low), int(high)

    def go(self, positions: Mapping[Place, int]) -> None:
        """From here on these partitions are read."""
        wanted = [self._kafka.TopicPartition(topic_name(topic), n, at) for (topic, n), at in positions.items()]
        self._consumer.assign(wanted)

    def read(self, most: int) -> dict[Place, list[Record]]:
        """The next events, at most so many; none where none comes within half a second. Raises BrokerUnavailable."""
        found: dict[Place, list[Record]] = {}
        for message in self._consumer.consume(most, LOOK_S):
            if error := message.error():
                raise BrokerUnavailable(f"Kafka does not answer: {error}")
            place = self._topics[str(message.topic())], int(message.partition() or 0)
            found.setdefault(place, []).append(_record(message))
        return found

    def close(self) -> None:
        """Closes the connections."""
        self._consumer.close()


def _record(message: Any) -> Record:
    header = next((value for name, value in message.headers() or () if name == BATCH), b"").decode(errors="replace")
    number, _, rest = header.partition("/")
    of, _, key = rest.partition("/")
    if number.isdigit() and of.isdigit() and key:
        return Record(message.offset(), message.value() or b"", key, int(number), int(of))
    return Record(message.offset(), message.value() or b"", None, 0, 1)
