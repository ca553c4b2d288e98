"""Metrics in the database: samples of several processes, late ones, merges, expiry, resets: each counted once."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app import clock
from app.db import metric_parts, metric_windows, metrics
from app.db.session import session_scope
from app.db.tables import MetricItems, MetricPart
from app.domain.metric_windows import Window, told
from app.domain.metrics import Samples
from app.domain.tasks import TaskName
from app.errors import NotFound
from tests import jobs
from workers.metrics import tend

NOW = datetime(2026, 11, 20, 12, 0, 3, tzinfo=UTC)
PRESENT = int(NOW.timestamp()) * 1_000_000


def samples(values, *, name="latency", age_s=0.0, group=None, item=None) -> Samples:
    """Values so long before NOW; ages may be one for all or one each."""
    ages = np.broadcast_to(age_s, len(values)).tolist()
    ts = [PRESENT - round(age * 1e6) for age in ages]
    groups = [group] * len(values) if isinstance(group, str | None) else group
    return Samples([name] * len(values), list(values), ts, groups, item)


def add(session: Session, *several: Samples) -> None:
    for each in several:
        assert not metric_parts.add(session, each, now=NOW).refused


def read(session: Session, name: str = "latency", window_s: float = 300, now: datetime = NOW) -> dict:
    ids = [stream.id for stream in metrics.streams_of(session, name)]
    window = Window.ending(int(now.timestamp() * 1e6), window_s)
    rows = [0] * len(ids)
    shown = told(metric_windows.read_spread(session, ids, rows, window), 0)
    plain = told(metric_windows.read(session, ids, rows, window), 0)
    assert plain == pytest.approx({name: shown[name] for name in plain}, rel=1e-12)
    return shown


def equal(shown: dict, values: np.ndarray) -> None:
    assert shown["count"] == len(values)
    assert (shown["min"], shown["max"]) == (values.min(), values.max())
    assert shown["mean"] == pytest.approx(values.mean(), rel=1e-12)
    assert shown["variance"] == pytest.approx(values.var(), rel=1e-9)
    for name, share in (("p50", 0.5), ("p99", 0.99)):
        low, high = shown["error_bound"][name]
        assert low <= np.quantile(values, share, method="inverted_cdf") <= high


def parts(session: Session) -> int:
    return session.scalar(select(func.count()).select_from(MetricPart))


def test_parts_merge_to_the_same_at_any_time(session: Session):
    rng = np.random.default_rng(1)
    values = rng.lognormal(5, 1, 6000)
    ages = rng.uniform(3, 290, 6000)
    for chunk, ago in zip(np.array_split(values, 40), np.array_split(ages, 40), strict=True):
        add(session, samples(chunk, age_s=ago, group=["a", "b"][len(chunk) % 2]))
    equal(read(session), values)
    before = parts(session)
    while metric_parts.merge(session, metrics.bucket_of(NOW)):
        pass
    assert parts(session) < before / 10
    equal(read(session), values)
    add(session, samples(values[:10], age_s=200, group="a"))  # late ones come to a bucket that was merged
    equal(read(session), np.append(values, values[:10]))
    assert metric_parts.merge(session, metrics.bucket_of(NOW))
    assert not metric_parts.merge(session, metrics.bucket_of(NOW))
    equal(read(session), np.append(values, values[:10]))


def test_many_values_of_a_bucket_are_a_sketch_and_within_its_bound(session: Session):
    values = np.random.default_rng(2).normal(1e9, 1, 20_000)
    for chunk in np.array_split(values, 10):
        add(session, samples(chunk, age_s=15))
    shown = read(session)
    equal(shown, values)
    assert 0 < shown["error_bound"]["rank"] < 0.006
    metric_parts.merge(session, metrics.bucket_of(NOW))
    assert parts(session) == 1
    equal(read(session), values)
    assert session.scalar(select(func.max(func.length(MetricPart.body)))) < 25_000


def test_samples_are_counted_in_their_own_bucket_within_the_lateness(session: Session):
    ages = [3592.0, 301.0, 292.0, 61.0, 2.0, -299.0]
    add(session, samples(range(6), age_s=ages))
    refused = metric_parts.add(session, samples([1.0, 2.0], age_s=[3601, -301]), now=NOW).refused
    assert [(each.row, each.pointer) for each in refused] == [(0, "/ts"), (1, "/ts")]
    assert [word in each.detail for each, word in zip(refused, ("too_late", "future"), strict=True)] == [True, True]
    assert read(session)["count"] == 3
    assert read(session, window_s=60)["count"] == 1
    assert read(session, window_s=3600)["count"] == 5
    assert read(session, now=NOW + timedelta(seconds=299))["count"] == 1
    assert read(session)["rate"] == pytest.approx(1 / 53)


def test_streams_are_limited_and_the_others_are_taken(session: Session, configure):
    configure(metric_streams=3)
    add(session, samples([1, 2, 3], group=["a", "b", None]))
    found = metric_parts.add(session, samples([1, 2, 3, 4], group=["c", "a", "d", "b"]), now=NOW)
    assert found.accepted == 2
    assert [(each.row, each.pointer) for each in found.refused] == [(0, "/group"), (2, "/group")]
    assert "FORETIDE_METRIC_STREAMS" in found.refused[0].detail
    assert [stream.label for stream in metrics.listing(session)] == ["", "a", "b"]


def test_ten_thousand_streams(session: Session):
    names = [f"m{n % 100}" for n in range(10_000)]
    groups = [f"g{n // 100}" for n in range(10_000)]
    many = Samples(names, [float(n) for n in range(10_000)], [PRESENT] * 10_000, groups)
    assert metric_parts.add(session, many, now=NOW).accepted == 10_000
    assert metric_parts.add(session, many, now=NOW).accepted == 10_000
    assert metric_parts.add(session, samples([1.0], name="more"), now=NOW).refused
    assert len(metrics.listing(session)) == 10_000
    assert read(session, "m7")["count"] == 200
    assert metrics.gauges(session, NOW + timedelta(seconds=10)).samples_per_s == pytest.approx(20_000 / 60)


def test_what_is_past_its_time_goes_and_is_counted(session: Session):
    add(session, samples([1, 2], age_s=3500), samples([3], age_s=10), samples([4], name="old", age_s=3500))
    add(session, samples([4], name="old", age_s=3500, item=["x"]))
    assert metrics.expire(session, NOW - timedelta(seconds=100)) == 4
    assert metrics.forget_empty(session) == 1
    assert metrics.forget_empty(session) == 0
    assert [(stream.name, stream.expired) for stream in metrics.listing(session)] == [("latency", 2)]
    assert session.scalar(select(func.count()).select_from(MetricItems)) == 0


def test_items_by_weight(session: Session):
    item = [f"i{n % 3000}" for n in range(9000)]
    values = [100.0 if n % 3000 < 3 else 0.5 for n in range(9000)]
    add(session, samples(values, age_s=15, item=item), samples([7.25], age_s=100, item=["late"]), samples([1.0]))
    for _ in range(2):
        tally = metric_windows.top_items(session, "latency", Window.ending(PRESENT, 300))
        top = tally.top(3)
        assert [name for name, _ in top] == ["i0", "i1", "i2"]
        assert all(300 - tally.error <= weight <= 300 for _, weight in top)
        assert tally.error <= sum(values) / 1024
        add(session, samples([0.0], age_s=15, item=["i0"]))
        metric_parts.merge(session, metrics.bucket_of(NOW))


def test_a_reset_is_right_beside_writers(clean_database):
    """What was answered before the reset is gone, what begins after it stays, and nothing is left without a stream."""
    stop, sent = threading.Event(), []

    def write() -> None:
        while not stop.is_set():
            with session_scope() as session:
                add(session, samples([1.0] * 5, group=["a", "b", "c", None, "d"]))
            sent.append(1)

    writers = [threading.Thread(target=write) for _ in range(3)]
    for each in writers:
        each.start()
    while len(sent) < 10:
        pass
    for _ in range(5):
        with session_scope() as session:
            metrics.reset(session, "latency")
        goal = len(sent) + 8
        while len(sent) < goal:
            pass
    stop.set()
    for each in writers:
        each.join()
    with session_scope() as session:
        kept = {stream.id for stream in metrics.listing(session)}
        assert set(session.scalars(select(MetricPart.stream_id))) <= kept
        assert read(session)["count"] % 5 == 0
        metrics.reset(session, "latency")
        with pytest.raises(NotFound):
            metrics.reset(session, "latency")
        assert parts(session) == 0


def test_the_pass_merges_expires_and_forgets(clean_database):
    """The job of the schedule; what is not due stays as it is."""
    now = clock.now()
    age = (NOW - now).total_seconds()
    with session_scope() as session:
        for _ in range(3):
            metric_parts.add(session, samples([1.0, 2.0], age_s=age + 60, item=["a", "b"]), now=now)
        early = now - timedelta(minutes=30)
        metric_parts.add(session, samples([1.0], name="old", age_s=age + 4000), now=early)
        metric_parts.add(session, samples([1.0, 1.0], age_s=age), now=now)
    result = jobs.run(tend, TaskName.METRICS).result
    assert result == {"merged": 6, "expired": 1, "forgotten": 1}
    with session_scope() as session:
        assert read(session, now=now)["count"] == 8
        assert session.scalars(select(MetricItems.weights)).all() == [{"a": 3.0, "b": 6.0}]
        assert metrics.gauges(session, now).streams == 1
    assert jobs.run(tend, TaskName.METRICS).result == {"merged": 0, "expired": 0, "forgotten": 0}
