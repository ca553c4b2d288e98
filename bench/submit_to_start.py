"""Submitting a job over HTTP to its worker's start, on an idle machine: the 95th percentile against its limit."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from bench.result import Result, less, percentile
from bench.rig import Rig

JOBS = 60
LIMIT_MS = 250.0


def measure(rig: Rig) -> Iterator[Result]:
    """Milliseconds by Postgres' clock, from the row's commit to its claim."""
    site = rig.stack.sites[0].name
    with rig.client() as client:
        client.wait(client.scan(site), timeout_s=60)
        waited = []
        for _ in range(JOBS):
            job = client.wait(client.scan(site), timeout_s=60)
            created, started = (datetime.fromisoformat(job[name]) for name in ("created_at", "started_at"))
            waited.append((started - created).total_seconds() * 1000)
    rig.tell(f"submit-to-start: {JOBS} jobs, median {percentile(waited, 0.5):.1f} ms")
    yield less("submit-to-start", percentile(waited, 0.95), LIMIT_MS, "ms")
