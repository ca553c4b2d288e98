"""The API process: the time to import it and the memory that it holds while it serves, against their limits."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import httpx
import psutil

from app.settings import PROJECT_ROOT
from bench.result import Result, less
from bench.rig import Rig

IMPORTS = 5
REQUESTS = 500
LIMIT_S, LIMIT_MIB = 0.8, 110.0
TIMED = "import time; t = time.perf_counter(); import app.server; print(time.perf_counter() - t)"


def measure(rig: Rig) -> Iterator[Result]:
    """The best of several imports in fresh processes; the largest of the API's processes after some requests."""
    times = [_import_once() for _ in range(IMPORTS)]
    yield less("api-import", min(times), LIMIT_S, "s")
    endpoints = rig.endpoints
    with httpx.Client(base_url=endpoints.url, headers={"Authorization": f"Bearer {endpoints.token}"}) as http:
        for number in range(REQUESTS):
            http.get(("/v1/jobs", "/v1/objects", "/v1/sites", "/readyz")[number % 4]).raise_for_status()
    yield less("api-memory", _largest_mib(endpoints.port), LIMIT_MIB, "MiB")


def _import_once() -> float:
    command = [sys.executable, "-c", TIMED]
    return float(subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, check=True, text=True).stdout)


def _largest_mib(port: int) -> float:
    """Resident memory of the largest process that listens on the port, or was started by one that does."""
    below = psutil.Process().children(recursive=True)
    listening = [process for process in below if any(c.laddr.port == port for c in process.net_connections("tcp"))]
    family = {process for found in listening for process in (found, *found.children(recursive=True))}
    return max(float(process.memory_info().rss) for process in family) / 2**20
