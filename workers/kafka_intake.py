"""Takes events from Kafka into the logs: a read is stored with its partition's offset in one transaction.

Kafka is told nothing: what the database says was taken was taken, whatever happens to the worker or to Kafka.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence

import structlog
from sqlalchemy.orm import Session

from app import kafka, queue
from app.db import alerts, dead_letters, topic_groups, topics
from app.db.session import session_scope
from app.db.tables import Json
from app.db.topic_groups import Claim
from app.domain.topic_lines import on_one_line, problem
from app.domain.topics import INTAKE, MOST_LINES, WORKERS, TopicName
from app.errors import Invalid
from app.kafka import Place, Reader, Record
from app.queue import TaskName
from app.settings import get_settings
from workers import shutdown
from workers.base import worker_name

log = structlog.get_logger()


def take() -> None:
    """Reads every partition that no other worker has, until nothing comes or half a lease is over."""
    if not kafka.enabled():
        return
    until = time.monotonic() + get_settings().lease_s / 2  # no claim of a quiet partition may lapse meanwhile
    reader = Reader()
    try:
        claims = dict(_claimed(reader))
        if claims:
            reader.go({place: position for place, (_, position) in claims.items()})
        while claims and not (shutdown.requested() or time.monotonic() > until):
            found = reader.read(MOST_LINES)
            if not found:
                break
            for place, records in found.items():
                _ring(_store(claims[place][0], records))
        with session_scope() as session:
            for claim, _ in claims.values():
                topic_groups.release(session, claim)
    finally:
        reader.close()


def _claimed(reader: Reader) -> Iterator[tuple[Place, tuple[Claim, int]]]:
    """Partitions that are ours now, and from where each is read."""
    for topic, numbers in kafka.places().items():
        for number in numbers:
            low, high = reader.ends((topic, number))
            with session_scope() as session:
                found = _claim(session, (topic, number), low, high)
            if found:
                yield (topic, number), found


def _claim(session: Session, place: Place, low: int, high: int) -> tuple[Claim, int] | None:
    """low, high: the oldest offset that Kafka has, and that after the newest."""
    topic, number = place
    lease_s = get_settings().lease_s
    taken = topic_groups.claim(session, INTAKE, topic, worker_name(), lease_s, begin=low, partition=number)
    if taken is None:
        return None
    group, _ = taken
    if group.position < low:
        gone = topic_groups.skip(group, low)
        message = f"Kafka removed {gone} events of {kafka.topic_name(topic)} before they were taken"
        alerts.raise_alert(session, "events_lost", "critical", message, subject=f"{INTAKE} {topic}")
    group.end_offset = max(high, group.position)
    return Claim(INTAKE, topic, group.fence, number), group.position


def _store(claim: Claim, records: Sequence[Record]) -> list[str]:
    """Appends what was read to its log and moves the position; returns the groups to ring."""
    began = time.monotonic()
    with session_scope() as session:
        group = topic_groups.hold(session, claim)
        fresh = [record for record in records if record.offset >= group.position]
        wrong = {record.offset: why for record in fresh if (why := problem(record.value))}
        letters = [(each.offset, each.value, _invalid(wrong[each.offset])) for each in fresh if each.offset in wrong]
        dead_letters.put(session, INTAKE, claim.topic, letters, claim.partition)
        for key, lines in _batches(record for record in fresh if record.offset not in wrong):
            _append(session, claim.topic, lines, key)
        end = records[-1].offset + 1
        took = time.monotonic() - began
        topic_groups.advance(group, end, get_settings().lease_s, handled=len(fresh) - len(wrong), busy_s=took)
        group.end_offset = max(end, group.end_offset or 0)
        return topic_groups.ring(session, WORKERS, claim.topic)


def _batches(records: Iterable[Record]) -> Iterator[tuple[str | None, list[bytes]]]:
    """Events as they were published together; a batch that was not read whole, or has no key, has none here."""
    together: list[Record] = []
    for record in records:
        if together and not _follows(together[-1], record):
            yield _batch(together)
            together = []
        together.append(record)
    if together:
        yield _batch(together)


def _follows(last: Record, record: Record) -> bool:
    """Whether two were published together; what has no key may stand with its neighbours."""
    return record.batch == last.batch and (record.batch is None or record.number == last.number + 1)


def _batch(together: Sequence[Record]) -> tuple[str | None, list[bytes]]:
    first = together[0]
    whole = first.batch and [record.number for record in together] == list(range(first.of))
    return (first.batch if whole else None), [on_one_line(record.value) for record in together]


def _append(session: Session, topic: TopicName, lines: list[bytes], key: str | None) -> None:
    """A batch that was sent to Kafka twice, since its reply was lost, is stored once."""
    try:
        topics.publish(session, topic, lines, key=key, sent=b"\n".join(lines))
    except Invalid:  # a key of another batch: two producers chose the same
        topics.publish(session, topic, lines)


def _invalid(why: str) -> Json:
    return {"type": "invalid", "detail": why}


def _ring(groups: Sequence[str]) -> None:
    for group in groups:
        queue.ring(TaskName.CONSUME, group)
