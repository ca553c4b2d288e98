"""Generates a seeded month of accesses of a made-up company's objects, for the demo and tests (step: ingest).

Each object follows one of six habits; hourly rates are drawn once, then counts are Poisson, then seconds are uniform.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from app.lab.traces import Trace
from ml.history import DAY, HOUR, SECOND, Floats, Ints

PARTIAL_SHARE = 0.05  # of accesses meet an upload that is not complete, as source 004 simulates
REGIONS = ["", "eu-west-1", "westeurope", "us-east-1"]
REGION_SHARES = (0.0, 0.6, 0.3, 0.1)


@dataclass(frozen=True)
class Habit:
    """How a kind of object is read: its share of the objects, reads a day when awake, and where its keys live."""

    share: float
    reads_a_day: float
    folder: str
    names: tuple[str, ...]
    size: float
    """Median size in bytes."""


HABITS: dict[str, Habit] = {
    "steady": Habit(0.12, 25.0, "media/catalogue", ("poster.jpg", "intro.mp4", "logo.png"), 2e6),
    "cooling": Habit(0.30, 30.0, "logs/{date}", ("app.log", "web.log", "audit.log", "db.log"), 4e5),
    "daily": Habit(0.13, 8.0, "reports/daily", ("sales.csv", "stock.parquet", "orders.csv"), 8e5),
    "weekly": Habit(0.10, 6.0, "reports/weekly", ("board.pdf", "forecast.xlsx", "payroll.csv"), 5e5),
    "bursty": Habit(0.12, 40.0, "datasets/research", ("train.parquet", "labels.json", "scan.h5"), 6e6),
    "archive": Habit(0.23, 0.03, "backup/{date}", ("db.dump", "mail.zip", "home.tar"), 8e6),
}


def generate(now: datetime, seed: int, objects: int = 240, days: int = 30) -> Trace:
    """Accesses of the `days` before `now` (aware; cut to the hour). The same arguments give the same trace."""
    rng = np.random.default_rng(seed)
    end = int(now.timestamp() // 3600) * HOUR
    hours = days * 24
    kinds = _kinds(objects)
    birth = _births(kinds, hours, rng)
    rate = np.stack([_hourly(kind, int(born), hours, end, rng) for kind, born in zip(kinds, birth, strict=True)])
    keys = [
        _key(kind, place, int(born), hours, now) for place, (kind, born) in enumerate(zip(kinds, birth, strict=True))
    ]
    medians = np.array([HABITS[kind].size for kind in kinds])
    size = np.maximum(medians * rng.lognormal(0, 0.8, objects), 1000).astype(np.int64)
    owner, hour = (axis.ravel() for axis in np.indices(rate.shape))
    counts = rng.poisson(rate).ravel()
    return _trace(keys, size, np.repeat(owner, counts), np.repeat(hour, counts), end - hours * HOUR, rng)


def _trace(keys: list[str], size: Ints, owner: Ints, hour: Ints, begin: int, rng: np.random.Generator) -> Trace:
    n = len(owner)
    ts = begin + hour * HOUR + rng.integers(0, 3600, n) * SECOND
    order = np.argsort(ts, kind="stable")
    owner, ts = owner[order], ts[order]
    head = rng.random(n) < 0.03
    whole = rng.random(n) < 0.7
    part = np.maximum(size[owner] * rng.random(n), 1).astype(np.int64)
    return Trace(
        keys=keys,
        object=owner,
        ts=ts,
        op=head.astype(np.int8),
        bytes_read=np.where(head, 0, np.where(whole, size[owner], part)),
        size=size[owner],
        region=rng.choice(len(REGIONS), n, p=REGION_SHARES).astype(np.int32),
        regions=list(REGIONS),
        partial_upload=rng.random(n) < PARTIAL_SHARE,
    )


def _kinds(objects: int) -> list[str]:
    """Habits by their shares, spread evenly."""
    names = list(HABITS)
    edges = np.cumsum([habit.share for habit in HABITS.values()])
    return [names[int(np.searchsorted(edges, (place + 0.5) / objects))] for place in range(objects)]


def _births(kinds: list[str], hours: int, rng: np.random.Generator) -> Ints:
    """Hour of birth: logs appear all through the month, the rest was there before it."""
    born = rng.integers(0, hours - 12, len(kinds)) // 24 * 24
    return np.where(np.array(kinds) == "cooling", born, 0)


def _hourly(kind: str, born: int, hours: int, end: int, rng: np.random.Generator) -> Floats:
    """Expected reads of each hour."""
    hour = np.arange(hours)
    clock = (end // HOUR - hours + hour) % 24
    weekday = ((end - (hours - hour) * HOUR) // DAY + 3) % 7
    level = HABITS[kind].reads_a_day / 24 * rng.lognormal(0, 0.7)
    office = 0.3 + 1.4 * ((clock >= 7) & (clock < 19))
    shape = np.ones(hours)
    if kind == "cooling":
        shape[:] = np.exp2(-(hour - born) / rng.uniform(18, 96)) * office
    elif kind == "daily":
        shape[:] = 24.0 * (clock == rng.integers(6, 10)) * (weekday < 5)
    elif kind == "weekly":
        shape[:] = 24.0 * (weekday == rng.integers(0, 5)) * office
    elif kind == "bursty":
        shape[:] = _bursts(hours, rng) * office
    elif kind == "steady":
        shape[:] = office
    return np.where(hour >= born, level * shape, 0.0)


def _bursts(hours: int, rng: np.random.Generator) -> Floats:
    """1 during a few bursts of one to three days, about nine days apart, and nearly 0 between."""
    shape = np.full(hours, 0.002)
    start = int(rng.exponential(5 * 24))
    while start < hours:
        length = int(rng.uniform(24, 72))
        shape[start : start + length] = 1.0
        start += length + int(rng.exponential(9 * 24))
    return shape


def _key(kind: str, place: int, born: int, hours: int, now: datetime) -> str:
    """A key such as logs/2026-11-06/app-17.log, dated by the object's birth, or by its age in months for archives."""
    habit = HABITS[kind]
    age = timedelta(hours=hours - born) if kind == "cooling" else timedelta(days=30 * (1 + place % 9))
    stem, suffix = habit.names[place % len(habit.names)].rsplit(".", 1)
    return f"{habit.folder.format(date=(now - age).date().isoformat())}/{stem}-{place}.{suffix}"
