"""Runs benchmarks by name, one after the other, on one embedded stack of their own."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, cast

from bench.result import Result
from bench.rig import Rig

BENCHMARKS: dict[str, str] = {
    "aggregate": "Samples of metrics: windows against a dict and DuckDB; lines to rows; memory; percentiles.",
    "api": "Time to import the API and memory while it serves, against their limits.",
    "celery-items": "One message a batch against one task an item.",
    "copy": "Copies between two sites: small and large against rclone, CPU against plain boto3.",
    "features": "Lines of accesses to features by columns, against json and dicts, an event at a time.",
    "inference": "One row and 100,000 rows through packed forests, against scikit-learn and ONNX Runtime.",
    "ingest": "Accesses by blocks of lines against one POST an event, and against bare COPY.",
    "ingest-logs": "Log lines read on one core against a limit, a loop of re and DuckDB's reader; read and committed.",
    "moves": "Small objects copied by the running worker, rows, budgets and audit included, against rclone.",
    "placement": "One object against PuLP programs; fleets with coupling rows against HiGHS; replays; limits.",
    "plans": "A plan of a hundred thousand objects against limits of time and memory.",
    "start": "The launcher to the first finished job, against its limit.",
    "topics": "Events by batches against one POST an event; accesses through a topic against those sent straight.",
    "submit-to-start": "Submitting a job to its worker's start, against its limit.",
}


class Benchmark(Protocol):
    """A module of this package."""

    def measure(self, rig: Rig) -> Iterable[Result]:
        """Its rows."""


def measure(names: Iterable[str], tell: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    """The rows of the benchmarks named; `tell` is called with lines of progress."""
    with Rig(tell) as rig:
        for name in names:
            tell(f"{name}: {BENCHMARKS[name]}")
            started = time.monotonic()
            module = importlib.import_module(f"bench.{name.replace('-', '_')}")
            for result in cast("Benchmark", module).measure(rig):
                yield result.as_dict()
            tell(f"{name}: measured in {time.monotonic() - started:.1f} s")
