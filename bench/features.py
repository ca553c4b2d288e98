"""Stream → features: lines of accesses to a feature matrix by columns, against json and dicts, an event at a time."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import numpy as np

from app.domain import access_lines
from app.domain.access_lines import EPOCH, Bounds
from bench.result import Result, more
from bench.rig import Rig
from ml.features import NAMES, Matrix, snapshot
from ml.history import DAY, HOUR, SECOND, Catalogue, History

EVENTS, OBJECTS, ROUNDS = 200_000, 2000, 5
BAR = 5.0
NOW = datetime(2026, 11, 20, 12, 30, tzinfo=UTC)
SHARED = ("access_1h", "access_24h", "recency_s", "partial_upload", "access_7d", "access_30d", "access_total")
"""The features that the loop makes too; ours makes all of ml.features.NAMES."""


def measure(rig: Rig) -> Iterator[Result]:
    """Events a second, the best of some rounds of either in turns; both give the same numbers."""
    rig.tell(f"{EVENTS:,} events of {OBJECTS:,} objects")
    data = _lines()
    ours, peer = [], []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        X = _columns(data)
        ours.append(time.perf_counter() - began)
        began = time.perf_counter()
        looped = _loop(data)
        peer.append(time.perf_counter() - began)
    assert np.array_equal(X[:, [NAMES.index(name) for name in SHARED]], looped)
    yield more("features", EVENTS / min(ours), EVENTS / min(peer), "events/s", BAR)


def _lines() -> bytes:
    """Of a month, in the order of their times, some objects read far more often than others."""
    rng = np.random.default_rng(7)
    ago = np.sort(rng.integers(0, 30 * 86_400, EVENTS))[::-1].tolist()
    owner = np.minimum(rng.zipf(1.3, EVENTS) - 1, rng.integers(0, OBJECTS, EVENTS)).tolist()
    return b"\n".join(
        json.dumps(
            {
                "ts": (NOW - timedelta(seconds=1 + seconds)).isoformat(),
                "key": f"logs/{number % 20}/{number}.log",
                "op": "PUT" if seconds % 20 == 0 else "GET",
                "bytes": 4096,
                "event_id": f"e-{seconds}-{number}",
                "partial_upload": seconds % 100 == 0,
            }
        ).encode()
        for seconds, number in zip(ago, owner, strict=True)
    )


def _columns(data: bytes) -> Matrix:
    """As the API reads lines, and as the learners make features of them."""
    bounds = Bounds(NOW - timedelta(days=90), NOW, {})
    block = access_lines.read(data, EVENTS, bounds).block({})
    numbers: dict[str, int] = {}
    owner = np.fromiter((numbers.setdefault(key, len(numbers)) for key in block.key), np.int64, EVENTS)
    ops = np.array(block.op)
    read, put = np.isin(ops, ("GET", "HEAD")).astype(np.int64), (ops == "PUT").astype(np.int64)
    history = History.of(
        owner,
        np.array(block.ts, np.int64),
        read,
        put,
        np.array(block.bytes_read, np.int64) * read,
        np.array(block.partial_upload, np.int64),
        len(numbers),
    )
    return snapshot(
        history, Catalogue.of(list(numbers), np.zeros(len(numbers))), (NOW - EPOCH) // timedelta(microseconds=1)
    )


def _loop(data: bytes) -> Matrix:
    """One event at a time, into dicts by object."""
    now = (NOW - EPOCH) // timedelta(microseconds=1)
    found: dict[str, list[float]] = {}
    for line in data.split(b"\n"):
        event = json.loads(line)
        ts = (datetime.fromisoformat(event["ts"]) - EPOCH) // timedelta(microseconds=1)
        one = found.setdefault(event["key"], [0.0] * len(SHARED))
        age = now - ts
        one[0] += age <= HOUR
        one[1] += age <= DAY
        one[2] = age / SECOND if not one[6] else min(one[2], age / SECOND)
        one[3] = float(one[3] or (event["partial_upload"] and age <= DAY))
        one[4] += age <= 7 * DAY
        one[5] += age <= 30 * DAY
        one[6] += 1
    return np.array(list(found.values()), np.float32)
