"""Topics in numbers for Prometheus, as the database has them, so that they are right whatever process is asked."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from threading import Lock

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app import kafka, queue
from app.db import dead_letters, durations, topic_groups, topics
from app.db.session import session_scope
from app.db.tables import Topic, TopicGroup
from app.db.topic_groups import Standing
from app.domain.tasks import QueueName
from app.errors import BrokerUnavailable, DatabaseUnavailable

CACHE_S = 2.0


@dataclass(frozen=True)
class Seen:
    """What the database and the broker said at one moment; None of the database: it does not answer."""

    broker: bool
    topics: list[Topic] | None = None
    groups: tuple[Standing, ...] = ()
    letters: dict[tuple[str, str, str], int] | None = None
    trained: dict[str, float] | None = None


class Topics(Collector):
    """Counters of topics, lag and failures of groups, and whether logs and bells can be reached."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._read_at = 0.0
        self._seen = Seen(broker=False)

    def collect(self) -> Iterator[Metric]:
        """Every metric of topics."""
        seen = self._fresh()
        what = "Whether it answers: what keeps the topics, what rings for workers."
        up = GaugeMetricFamily("foretide_broker_up", what, labels=["broker"])
        up.add_metric(["topics"], seen.topics is not None)
        up.add_metric(["bell"], seen.broker)
        if kafka.enabled():
            up.add_metric(["kafka"], kafka.answers())
        yield up
        if seen.topics is not None:
            yield from _topics(seen.topics)
            yield from _groups(seen.groups)
            yield from _letters(seen.letters or {})
            yield from _trained(seen.trained or {})

    def _fresh(self) -> Seen:
        with self._lock:
            if time.monotonic() - self._read_at >= CACHE_S:
                self._seen = _look()
                self._read_at = time.monotonic()
            return self._seen


def _look() -> Seen:
    try:
        queue.lengths([QueueName.CONTROL])
        broker = True
    except BrokerUnavailable:
        broker = False
    try:
        with session_scope() as session:
            found, groups = list(topics.listing(session)), tuple(topic_groups.standings(session))
            return Seen(broker, found, groups, dead_letters.counts(session), durations.of_trainings(session))
    except DatabaseUnavailable:
        return Seen(broker)


def _topics(rows: list[Topic]) -> Iterator[Metric]:
    told: dict[str, tuple[str, Callable[[Topic], int]]] = {
        "foretide_events_published": ("Events that were published.", lambda row: row.next_offset),
        "foretide_events_failed": ("Events that were refused.", lambda row: row.rejected),
        "foretide_events_duplicate": ("Events of batches that were sent again.", lambda row: row.duplicates),
    }
    for name, (text, of) in told.items():
        family = CounterMetricFamily(name, text, labels=["topic"])
        for row in rows:
            family.add_metric([row.name], of(row))
        yield family
    size = GaugeMetricFamily("foretide_topic_bytes", "Size of the stored batches.", labels=["topic"])
    for row in rows:
        size.add_metric([row.name], row.bytes)
    yield size


def _groups(standings: tuple[Standing, ...]) -> Iterator[Metric]:
    labels = ["group", "topic"]
    lag = GaugeMetricFamily("foretide_consumer_lag", "Events that are not handled yet.", labels=labels)
    counters: dict[str, tuple[str, Callable[[TopicGroup], float]]] = {
        "foretide_events_handled": ("Events that were handled.", lambda group: group.handled),
        "foretide_events_skipped": ("Events that retention removed before that.", lambda group: group.skipped),
        "foretide_consumer_batches": ("Batches that were handled.", lambda group: group.batches),
        "foretide_consumer_failures": ("Tries at batches that failed.", lambda group: group.failures),
        "foretide_consumer_seconds": ("Seconds spent on batches that were handled.", lambda group: group.busy_s),
    }
    families = {name: CounterMetricFamily(name, text, labels=labels) for name, (text, _) in counters.items()}
    for each in standings:
        group = each.group
        if each.lag is not None:
            lag.add_metric([group.name, group.topic], each.lag)
        for name, (_, of) in counters.items():
            families[name].add_metric([group.name, group.topic], of(group))
    yield lag
    yield from families.values()


def _letters(counts: dict[tuple[str, str, str], int]) -> Iterator[Metric]:
    labels = ["group", "topic", "state"]
    family = GaugeMetricFamily("foretide_dead_letters", "Events that could not be handled.", labels=labels)
    for key, number in counts.items():
        family.add_metric(list(key), number)
    yield family


def _trained(seconds: dict[str, float]) -> Iterator[Metric]:
    family = GaugeMetricFamily("foretide_training_duration_seconds", "Of each model's last training.", labels=["model"])
    for name, took in seconds.items():
        family.add_metric([name], took)
    yield family
