"""Numbers for Prometheus: requests of this process, and work and events as the database has them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from threading import Lock

from flask import Flask, Response, g, request
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app import clock
from app.api.exposition_topics import Topics
from app.db import batch_counts, metrics, watch
from app.db.drift import Gauge
from app.db.session import session_scope
from app.db.watch import SIMULATED, Totals
from app.errors import DatabaseUnavailable

CACHE_S = 2.0
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Database(Collector):
    """What the database counts, read at most each CACHE_S seconds; nothing while it is away."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._read_at = 0.0
        self._totals: Totals | None = None
        self._streams: metrics.Gauges | None = None

    def collect(self) -> Iterator[Metric]:
        """Every metric that comes from the database."""
        totals = self._fresh()
        if totals is None:
            return
        simulated = CounterMetricFamily(SIMULATED.removesuffix("_total"), "Events sent to /simulate.")
        simulated.add_metric([], totals.counters.get(SIMULATED, 0))
        yield simulated
        results = CounterMetricFamily("migration_jobs", "Migrations that came to a result.", labels=["result"])
        for name, number in totals.results().items():
            results.add_metric([name], number)
        yield results
        prewarmed = CounterMetricFamily(
            "prewarm", "What was copied for recurring peaks, by in time.", labels=["result"]
        )
        for name, number in totals.prewarmed.items():
            prewarmed.add_metric([name], number)
        yield prewarmed
        yield _gauge("migration_queue_gauge", "Migrations that have not ended.", "status", totals.in_flight())
        yield _gauge("foretide_jobs", "Jobs by state.", "state", totals.jobs)
        if self._streams:
            yield from _streams(self._streams, totals.counters.get(metrics.EXPIRED, 0))
        yield from _models(totals.models)
        yield from _batch(totals.counters)

    def _fresh(self) -> Totals | None:
        with self._lock:
            if time.monotonic() - self._read_at >= CACHE_S:
                try:
                    with session_scope() as session:
                        self._totals = watch.totals(session)
                        self._streams = metrics.gauges(session, clock.now())
                except DatabaseUnavailable:
                    self._totals = None
                self._read_at = time.monotonic()
            return self._totals


def _batch(counters: dict[str, int]) -> Iterator[Metric]:
    """Attempts at batch operations with their seconds, and the events that they went over."""
    labels = ["operation", "engine", "result"]
    runs = CounterMetricFamily("foretide_batch_runs", "Batch operations that ended.", labels=labels)
    seconds = CounterMetricFamily("foretide_batch_seconds", "Seconds that they took.", labels=labels)
    for each in batch_counts.counts(counters):
        runs.add_metric([each.operation, each.engine, each.ended], each.runs)
        seconds.add_metric([each.operation, each.engine, each.ended], each.seconds)
    events = CounterMetricFamily("foretide_batch_events", "Events that batch operations went over.")
    events.add_metric([], counters.get(batch_counts.EVENTS, 0))
    yield from (runs, seconds, events)


MODEL_GAUGES: dict[str, tuple[str, Callable[[Gauge], float | None]]] = {
    "foretide_model_version": ("Version of the model that serves.", lambda model: model.version),
    "foretide_model_age_seconds": ("Time since the newest access that it learned from.", lambda model: model.age_s),
    "foretide_model_drift_psi": ("Greatest PSI of its features.", lambda model: model.psi_max),
    "foretide_model_features_over": ("Its features past their limit of drift.", lambda model: model.features_over),
    "foretide_model_calibration_gap": ("Share that was read less what it expected.", lambda m: m.calibration_gap),
    "foretide_model_coverage_gap": ("Share of counts within its quantiles less 0.8.", lambda m: m.coverage_gap),
}


def _models(models: list[Gauge]) -> Iterator[Metric]:
    """One value a model that is watched; none where it is not known yet."""
    for name, (text, of) in MODEL_GAUGES.items():
        family = GaugeMetricFamily(name, text, labels=["model"])
        for model in models:
            if (value := of(model)) is not None:
                family.add_metric([model.name], value)
        yield family


def _streams(of: metrics.Gauges, expired: int) -> Iterator[Metric]:
    """What the users' own metrics come to."""
    yield GaugeMetricFamily("foretide_metric_streams", "Metrics and groups of them that have samples.", of.streams)
    yield GaugeMetricFamily("foretide_metric_part_bytes", "Size of their samples as they are kept.", of.part_bytes)
    yield GaugeMetricFamily("foretide_metric_samples_per_second", "Their samples in the last minute.", of.samples_per_s)
    yield CounterMetricFamily("foretide_metric_expired", "Their samples that are no longer kept.", expired)


def _gauge(name: str, text: str, label: str, values: dict[str, int]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=[label])
    for value, number in values.items():
        family.add_metric([value], number)
    return family


registry = CollectorRegistry()
registry.register(Database())
registry.register(Topics())
latency = Histogram(
    "http_request_duration_seconds",
    "Time to answer, by method, route and class of status.",
    ["method", "route", "status"],
    registry=registry,
    buckets=BUCKETS,
)


def text() -> bytes:
    """The metrics in Prometheus's text format."""
    return generate_latest(registry)


def install(app: Flask) -> None:
    """Measures each request; the labels are declared routes, so that there are never more than there are routes."""

    @app.before_request
    def start() -> None:
        g.started = time.perf_counter()

    @app.after_request
    def measure(response: Response) -> Response:
        route = request.url_rule.rule if request.url_rule else "none"
        status = f"{response.status_code // 100}xx"
        method = request.method if request.url_rule else "any"
        latency.labels(method, route, status).observe(time.perf_counter() - g.get("started", time.perf_counter()))
        return response
