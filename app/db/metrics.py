"""Streams of metrics: found or begun within their limit, listed, reset, expired (step: metrics).

Whoever adds or merges samples holds the lock WRITERS shared until its transaction ends; whoever removes streams holds
it alone, so that no sample comes to a stream that is gone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import bindparam, delete, func, select, text, tuple_
from sqlalchemy.dialects.postgresql import ARRAY, TEXT
from sqlalchemy.orm import Session

from app.db import watch
from app.db.tables import MetricItems, MetricPart, MetricStream
from app.domain.metrics import BUCKET_S
from app.errors import NotFound

WRITERS, STREAMS = 7_301, 7_302
"""Advisory locks: of who adds or removes, and of who begins streams."""
EXPIRED = "metric_expired"
"""The counter of samples that are no longer kept."""
PAIRS = "unnest(:names, :labels) as asked(name, label)"
TEXTS = [bindparam(name, type_=ARRAY(TEXT)) for name in ("names", "labels")]
_KNOWN = text(f"select s.name, s.label, s.id from metric_stream s join {PAIRS} using (name, label)").bindparams(*TEXTS)  # noqa: S608
_BEGIN = text(
    f"insert into metric_stream (name, label) select * from {PAIRS} on conflict do nothing returning name, label, id"  # noqa: S608
).bindparams(*TEXTS)
Pair = tuple[str, str]
"""A metric's name and a group, which is empty where there is none."""


def writing(session: Session) -> None:
    """Keeps streams from being removed until the transaction ends."""
    session.execute(select(func.pg_advisory_xact_lock_shared(WRITERS)))


def removing(session: Session) -> None:
    """Waits for all who write, and keeps others from it until the transaction ends."""
    session.execute(select(func.pg_advisory_xact_lock(WRITERS)))


def stream_ids(session: Session, pairs: Sequence[Pair], most: int) -> dict[Pair, int]:
    """The ids of these streams; those that would be more than `most` in all are not begun and absent."""
    found = _ids(session, _KNOWN, pairs)
    missing = [pair for pair in pairs if pair not in found]
    if missing:
        session.execute(select(func.pg_advisory_xact_lock(STREAMS)))
        found |= _ids(session, _KNOWN, missing)  # another transaction may have begun them
        room = most - (session.scalar(select(func.count()).select_from(MetricStream)) or 0)
        missing = [pair for pair in missing if pair not in found][: max(0, room)]
        found |= _ids(session, _BEGIN, missing) if missing else {}
    return found


def _ids(session: Session, statement: object, pairs: Sequence[Pair]) -> dict[Pair, int]:
    given = {"names": [name for name, _ in pairs], "labels": [label for _, label in pairs]}
    return {(row.name, row.label): row.id for row in session.execute(statement, given)}  # type: ignore[call-overload]


def streams_of(session: Session, name: str) -> list[MetricStream]:
    """The metric's streams by their groups. Raises NotFound."""
    ordered = select(MetricStream).where(MetricStream.name == name).order_by(MetricStream.label)
    found = list(session.scalars(ordered))
    if not found:
        raise NotFound(f"there are no samples of a metric {name}")
    return found


def listing(session: Session, *, after: Pair | None = None, limit: int | None = None) -> list[MetricStream]:
    """Streams by name and group."""
    query = select(MetricStream).order_by(MetricStream.name, MetricStream.label).limit(limit)
    if after:
        query = query.where(tuple_(MetricStream.name, MetricStream.label) > tuple_(*after))
    return list(session.scalars(query))


def reset(session: Session, name: str) -> int:
    """Removes a metric: every sample whose POST was answered before, none whose POST begins after.

    How many streams it had. Raises NotFound.
    """
    removing(session)
    gone = select(MetricStream.id).where(MetricStream.name == name)
    session.execute(delete(MetricPart).where(MetricPart.stream_id.in_(gone)))
    session.execute(delete(MetricItems).where(MetricItems.name == name))
    removed = session.scalars(delete(MetricStream).where(MetricStream.name == name).returning(MetricStream.id)).all()
    if not removed:
        raise NotFound(f"there are no samples of a metric {name}")
    return len(removed)


_EXPIRE = text(
    """with gone as (delete from metric_part where bucket < :before returning stream_id, count),
    sums as (select stream_id, sum(count)::bigint as count from gone group by 1),
    noted as (update metric_stream s set expired = s.expired + sums.count from sums where s.id = sums.stream_id)
    select coalesce(sum(count), 0)::bigint from sums"""
)


def expire(session: Session, before: datetime) -> int:
    """Deletes samples of buckets that begin before; how many."""
    samples = int(session.scalar(_EXPIRE, {"before": before}) or 0)
    session.execute(delete(MetricItems).where(MetricItems.bucket < before))
    if samples:
        watch.count(session, EXPIRED, samples)
    return samples


def forget_empty(session: Session) -> int:
    """Removes streams that have no samples; how many. Locks no rows before it may remove: `reset` does neither."""
    empty = ~select(MetricPart.id).where(MetricPart.stream_id == MetricStream.id).exists()
    if session.scalar(select(MetricStream.id).where(empty).limit(1)) is None:
        return 0
    removing(session)
    return len(session.scalars(delete(MetricStream).where(empty).returning(MetricStream.id)).all())


@dataclass(frozen=True)
class Gauges:
    """What /metrics shows of metrics."""

    streams: int
    part_bytes: int
    """Of samples as they are stored, indexes included."""
    samples_per_s: float
    """Of the last minute of whole buckets."""


def gauges(session: Session, now: datetime) -> Gauges:
    """The figures as of now."""
    end = bucket_of(now)
    minute = MetricPart.bucket.between(end - timedelta(seconds=60), end - timedelta(microseconds=1))
    samples = session.scalar(select(func.sum(MetricPart.count)).where(minute)) or 0
    size = "select pg_total_relation_size('metric_part') + pg_total_relation_size('metric_items')"
    return Gauges(
        streams=session.scalar(select(func.count()).select_from(MetricStream)) or 0,
        part_bytes=int(session.scalar(text(size)) or 0),
        samples_per_s=float(samples) / 60,
    )


def bucket_of(moment: datetime) -> datetime:
    """The start of the bucket that holds an aware time."""
    seconds = int(moment.timestamp()) // BUCKET_S * BUCKET_S
    return datetime.fromtimestamp(seconds, moment.tzinfo)
