"""Samples of metrics: windows of columns against a loop over a dict and DuckDB, lines to rows, memory, percentiles.

Peers take part in turns with ours, and each figure is the best of its turns: other work on the machine hits none alone.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import httpx
import numpy as np
import psutil
from sqlalchemy import text

from app.db import metric_parts, metrics
from app.db.session import session_scope
from app.domain import metric_lines
from app.domain.metric_columns import Columns, checked
from app.domain.metric_moments import by_window
from app.domain.metric_sketches import Spread
from app.domain.metrics import MICROSECONDS, WIDTH, Samples
from bench.result import Result, less, more, sent_per_second
from bench.rig import Rig

EVENTS, LOOPED, STREAMS, SPAN_S = 5_000_000, 1_000_000, 100, 300
BLOCK = 10_000
TURNS = 5
MANY = 100_000_000
STORED = 4_000_000
BAR_LOOP, BAR_DUCKDB = 30.0, 1.0
LIMIT_RATE, LIMIT_MIB = 1e6, 16.0
SHARES = np.linspace(0.005, 0.995, 199).tolist()
BY_DUCKDB = (
    "select stream, ts // 10000000, count(*), sum(value), avg(value), min(value), max(value), var_pop(value)"
    " from event group by 1, 2"
)
NOW = datetime(2026, 11, 20, tzinfo=UTC)


def measure(rig: Rig) -> Iterator[Result]:
    """Events, samples a second; MiB that are held more at the end; errors of rank."""
    yield from _windows(rig)
    block = _lines(BLOCK)
    yield more("aggregate, columns to rows, of a core", _columns_rate(), LIMIT_RATE, "samples/s", 1.0)
    yield more("aggregate, lines to rows, of a core", _lines_rate(block), LIMIT_RATE, "samples/s", 1.0)
    yield _http(rig, block)
    yield _memory(rig)
    yield _stored(rig)
    yield _ranks()


def _windows(rig: Rig) -> Iterator[Result]:
    rng = np.random.default_rng(1)
    stream, value = rng.integers(0, STREAMS, EVENTS), rng.lognormal(5, 1, EVENTS)
    ts = _start() + np.sort(rng.integers(0, SPAN_S * MICROSECONDS, EVENTS))
    database = duckdb.connect()
    names = {"stream": stream, "ts": ts, "value": value}
    database.register("columns", names)
    database.execute("create table event as select * from columns")
    few = tuple(column[:LOOPED].tolist() for column in (stream, ts, value))
    turns = {
        "ours": lambda: by_window(stream, ts, value, WIDTH),
        "duckdb": lambda: database.execute(BY_DUCKDB).fetchnumpy(),
        "loop": lambda: _loop(*few),
    }
    seconds = _best(turns)
    assert len(turns["ours"]().start) == len(turns["duckdb"]()["stream"])
    rig.tell(f"{EVENTS:,} events of {STREAMS} streams in {SPAN_S // 10} windows; the loop over {LOOPED:,} of them")
    ours = EVENTS / seconds["ours"]
    yield more("aggregate, windows, a loop over a dict", ours, LOOPED / seconds["loop"], "events/s", BAR_LOOP)
    yield more("aggregate, windows, DuckDB", ours, EVENTS / seconds["duckdb"], "events/s", BAR_DUCKDB)


def _loop(stream: list[int], ts: list[int], value: list[float]) -> dict[tuple[int, int], list[float]]:
    """What DuckDB is asked for, but for the divisions at the end."""
    found: dict[tuple[int, int], list[float]] = {}
    for each, at, what in zip(stream, ts, value, strict=True):
        key = (each, at // WIDTH)
        kept = found.get(key)
        if kept is None:
            found[key] = [1, what, what * what, what, what]
            continue
        kept[0] += 1
        kept[1] += what
        kept[2] += what * what
        if what < kept[3]:
            kept[3] = what
        if what > kept[4]:
            kept[4] = what
    return found


def _best(turns: dict[str, Callable[[], Any]]) -> dict[str, float]:
    best = dict.fromkeys(turns, float("inf"))
    for _ in range(TURNS):
        for name, act in turns.items():
            started = time.perf_counter()
            act()
            best[name] = min(best[name], time.perf_counter() - started)
    return best


def _start() -> int:
    return metric_parts.microseconds(NOW) // WIDTH * WIDTH - SPAN_S * MICROSECONDS


def _lines(count: int) -> bytes:
    """Samples of the last seconds."""
    now, values = datetime.now(UTC), np.random.default_rng(2).lognormal(5, 1, count).round(3).tolist()
    return b"\n".join(
        json.dumps(
            {
                "name": "latency",
                "value": value,
                "group": f"service-{number % STREAMS}",
                "ts": (now - timedelta(microseconds=1 + number * 500)).isoformat(),
            }
        ).encode()
        for number, value in enumerate(values)
    )


def _columns(number: int, now: int) -> Columns:
    """The samples of one second, numbered, of all streams."""
    rng = np.random.default_rng(number)
    ts = now - rng.integers(0, MICROSECONDS, BLOCK)
    return Columns(_PAIRS, rng.integers(0, STREAMS, BLOCK), ts, rng.lognormal(5, 1, BLOCK), np.arange(BLOCK), None)


_PAIRS = [("latency", f"service-{number}") for number in range(STREAMS)]
_IDS = np.arange(STREAMS)


def _of_a_core(act: Callable[[], object], times: int = 40) -> float:
    """Samples a second of processor time, the best of many blocks."""
    best = float("inf")
    for _ in range(times):
        started = time.process_time()
        act()
        best = min(best, time.process_time() - started)
    return BLOCK / best


def _columns_rate() -> float:
    columns = _columns(0, metric_parts.microseconds(NOW))
    groups = [_PAIRS[stream][1] for stream in columns.stream.tolist()]
    samples = Samples(["latency"] * BLOCK, columns.value.tolist(), columns.ts.tolist(), groups)
    return _of_a_core(lambda: _to_rows(samples, metric_parts.microseconds(NOW)))


def _to_rows(samples: Samples, now: int) -> object:
    found, refused = checked(samples, now - 3600 * MICROSECONDS, now)
    assert not refused
    return metric_parts.parts(found, _IDS)


def _lines_rate(block: bytes) -> float:
    now = metric_parts.microseconds(datetime.now(UTC))
    return _of_a_core(lambda: _to_rows(metric_lines.read(block, BLOCK, now).samples, now))


def _http(rig: Rig, block: bytes) -> Result:
    """Blocks against one POST a sample, each committed before the reply."""
    headers = {"Authorization": f"Bearer {rig.endpoints.token}", "Content-Type": "application/x-ndjson"}
    with httpx.Client(base_url=rig.endpoints.url, headers=headers, timeout=60) as http:

        def send(body: bytes) -> int:
            reply = http.post("/v1/metrics", content=body)
            reply.raise_for_status()
            return int(reply.json()["accepted"])

        send(block)
        one = block.partition(b"\n")[0]
        blocks, single = (sent_per_second(lambda body=body: body, send, 3.0) for body in (block, one))
    return more("aggregate over HTTP, one POST a sample", blocks, single, "samples/s", 1.0)


def _memory(rig: Rig) -> Result:
    """What the process holds more after all samples than after the first tenth; each block is aggregated and packed."""
    process, begun, held = psutil.Process(), time.perf_counter(), 0
    now = metric_parts.microseconds(NOW)
    for number in range(MANY // BLOCK):
        metric_parts.parts(_columns(number, now + number * MICROSECONDS), _IDS)
        if number == MANY // BLOCK // 10:
            held = process.memory_info().rss
    grown = (process.memory_info().rss - held) / 2**20
    rig.tell(f"{MANY:,} samples aggregated in {time.perf_counter() - begun:.0f} s, {held / 2**20:.0f} MiB held")
    return less("aggregate, memory that 100M samples add", max(grown, 0.01), LIMIT_MIB, "MiB")


def _stored(rig: Rig) -> Result:
    """What is kept after all samples beside a quarter of them, where a minute is kept by a clock that is made up."""
    assert rig.stack
    keep = timedelta(seconds=60)
    sizes = []
    blocks = STORED // BLOCK
    begun = time.perf_counter()
    for number in range(blocks):
        now = NOW + timedelta(seconds=number)
        found = _columns(number, metric_parts.microseconds(now))
        with session_scope() as session:
            samples = Samples(
                ["bench"] * BLOCK,
                found.value.tolist(),
                found.ts.tolist(),
                [_PAIRS[n][1] for n in found.stream.tolist()],
            )
            assert metric_parts.add(session, samples, now=now).accepted == BLOCK
        if number % 10 == 9:
            with session_scope() as session:
                metric_parts.merge(session, metrics.bucket_of(now))
                metrics.expire(session, now - keep)
                sizes.append(int(session.scalar(text("select sum(length(body) + 100) from metric_part")) or 0) / 2**20)
    rig.tell(f"{STORED:,} samples stored in {time.perf_counter() - begun:.1f} s, {sizes[-1]:.1f} MiB of a minute kept")
    quarter = sizes[len(sizes) // 4]
    return less("aggregate, stored after all samples, a quarter", sizes[-1], 1.1 * quarter, "MiB")


def _ranks() -> Result:
    """The greatest error of rank over 199 percentiles of merged sketches, against the bound that is printed."""
    worst, bound = 0.0, 1.0
    for seed in range(20):
        values = np.random.default_rng(seed).lognormal(5, 1, 200_000)
        whole = Spread()
        for part in np.array_split(values, 60):
            spread = Spread()
            spread.add(part)
            body, sketched = spread.stored()
            whole.add_stored(body, sketched=sketched)
        found = [quantile.value for quantile in whole.quantiles(SHARES)]
        ranks = np.searchsorted(np.sort(values), found, "right") / len(values)
        worst, bound = max(worst, float(np.abs(ranks - SHARES).max())), whole.rank_error
    return less("aggregate, error of rank, the bound", worst, bound, "of 1")
