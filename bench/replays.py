"""Replays: their time against the limit, and what policies cost on made-up fleets against the limits of each bar.

A bar over several fleets is shown by the worst of them. Rows say how much of what is allowed was used, in percent.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from app.domain.price_books import shipped
from app.lab.fleets import HABITS, fleet
from app.lab.replay import replay
from bench.result import Result, less, more
from bench.rig import Rig

OBJECTS, DAYS = 358, 700
"""A quarter of a million object-days."""
LIMIT_S = 30.0
FLEETS = 2
"""Of each habit."""
NO_HARM, TUNED, MANAGED, TIMEOUT = 1.01, 0.01, 1.005, 75.0
"""Of all-hot, of all-hot over the tuned lifecycle, of the managed class; percent of what the best timeout saves."""
WORTH = 0.05
"""Where the best timeout saves less of all-hot than this, its saving is no bar."""


def measure(rig: Rig) -> Iterator[Result]:
    """Seconds of the processor for every policy over a quarter of a million object-days, and costs against each bar."""
    book = shipped("aws")
    started = time.process_time()
    replay(fleet("mixed", 0, OBJECTS, DAYS), book, 90.0)
    yield less(f"replay of {OBJECTS * DAYS:,} object-days", time.process_time() - started, LIMIT_S, "s")
    harm, tuned, managed, saved = [], [], [], []
    for habit in HABITS:
        for seed in range(1, FLEETS + 1):
            cost = {name: outcome.cost for name, outcome in replay(fleet(habit, seed), book, 90.0).outcomes.items()}
            hot = cost["all_hot"]
            rig.tell(f"replay: {habit} {seed}: " + ", ".join(f"{n} {usd / hot:.1%}" for n, usd in cost.items()))
            harm.append(100 * cost["foretide"] / (NO_HARM * hot))
            tuned.append(100 * cost["foretide"] / (cost["lifecycle_tuned"] + TUNED * hot))
            managed.append(100 * cost["foretide_managed"] / (MANAGED * cost["intelligent_tiering"]))
            if hot - cost["best_timeout"] >= WORTH * hot:
                saved.append(100 * (hot - cost["foretide"]) / (hot - cost["best_timeout"]))
    yield less("replay, foretide of 101 % of all-hot", max(harm), 100.0, "%")
    yield less("replay, foretide of the tuned lifecycle and a point", max(tuned), 100.0, "%")
    yield less("replay, foretide_managed of 100.5 % of intelligent_tiering", max(managed), 100.0, "%")
    yield more("replay, saved of what the best timeout saves", min(saved), TIMEOUT, "%", 1.0)
