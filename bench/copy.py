"""Copies between two S3 sites: small and large objects against rclone, processor time against plain boto3."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import boto3

from app.devstack.demo_data import address
from app.devstack.seaweed import RunningSite
from app.errors import Permanent
from app.s3 import objects, probe
from app.s3.client import Bucket, connect
from app.settings import PROJECT_ROOT
from bench.result import Result, less, more
from bench.rig import Rig

ROUNDS = 3
SMALL, SMALL_BYTES = 1000, 10_000
LARGE, LARGE_BYTES = 3, 64 * 2**20
MIB = 2**20
BAR_SMALL, BAR_LARGE, BAR_CPU, LIMIT_MIB = 1.0, 0.8, 4.0, 100.0


def measure(rig: Rig) -> Iterator[Result]:
    """Each engine copies the same objects, eight at a time, to a place of its own; medians of several rounds."""
    sites = rig.stack.sites
    source, _, other = sites
    rig.tell(f"copy: {SMALL} objects of {SMALL_BYTES} bytes and {LARGE} of {LARGE_BYTES // MIB} MiB, {ROUNDS} times")
    small = [_round(sites, f"small/{turn}/", SMALL, SMALL_BYTES) for turn in range(ROUNDS)]
    yield more("copy-small", *(SMALL / seconds for seconds in _medians(small)), "objects/s", BAR_SMALL)
    cpu, plain = median(ours["cpu_seconds"] for ours, _ in small), _run("boto3", source, other, "small/0/")
    yield less("copy-small-cpu", cpu / SMALL * 1000, plain["cpu_seconds"] / SMALL * 1000, "ms/object", BAR_CPU)
    large = [_round(sites, f"large/{turn}/", LARGE, LARGE_BYTES) for turn in range(ROUNDS)]
    megabytes = LARGE * LARGE_BYTES / 1e6
    yield more("copy-large", *(megabytes / seconds for seconds in _medians(large)), "MB/s", BAR_LARGE)
    yield less("copy-large-memory", max(ours["memory_mib"] for ours, _ in large), LIMIT_MIB, "MiB")


def _round(sites: Sequence[RunningSite], prefix: str, count: int, size: int) -> tuple[dict[str, Any], float]:
    """What ours measured of itself, and rclone's seconds, over the same new objects."""
    source, destination, other = sites
    fill(source, prefix, count, size)
    return _run("ours", source, destination, prefix), rclone(source, other, prefix)


def _medians(rounds: Sequence[tuple[dict[str, Any], float]]) -> tuple[float, float]:
    return median(ours["seconds"] for ours, _ in rounds), median(seconds for _, seconds in rounds)


def fill(site: RunningSite, prefix: str, count: int, size: int) -> None:
    """Puts so many objects of random bytes under the prefix."""
    client = boto3.client(
        "s3",
        endpoint_url=site.endpoint_url,
        region_name=site.region,
        aws_access_key_id=site.access_key,
        aws_secret_access_key=site.secret_key,
    )
    for number in range(count):
        client.put_object(Bucket=site.bucket, Key=f"{prefix}{number}", Body=os.urandom(size))


def _run(engine: str, source: RunningSite, destination: RunningSite, prefix: str) -> dict[str, Any]:
    told = {
        "objects": [(line.key, line.pin.size) for page in objects.pages(_bucket(source), prefix) for line in page],
        "capabilities": probe.probe(_bucket(destination), ()).as_json(),
    }
    command = [sys.executable, "-m", "bench.copy_ours", engine, source.name, destination.name]
    done = subprocess.run(
        command, cwd=PROJECT_ROOT, input=json.dumps(told).encode(), stdout=subprocess.PIPE, check=True
    )
    measured: dict[str, Any] = json.loads(done.stdout)
    return measured


def _bucket(site: RunningSite) -> Bucket:
    return connect(address(site))


def rclone(source: RunningSite, destination: RunningSite, prefix: str) -> float:
    """Seconds that rclone needs, its own start left out."""
    beside = Path(sys.executable).parent / "rclone"
    program = str(beside) if beside.exists() else shutil.which("rclone")
    if program is None:
        raise Permanent("rclone is not installed; ./foretide bench installs requirements-dev.txt, which has it")
    environment = os.environ | _remote("SOURCE", source) | _remote("DESTINATION", destination)
    started = time.perf_counter()
    subprocess.run([program, "version"], env=environment, check=True, stdout=subprocess.DEVNULL)
    start = time.perf_counter() - started
    paths = [f"source:{source.bucket}/{prefix}", f"destination:{destination.bucket}/{prefix}"]
    options = ["--transfers=8", "--checkers=8", "--s3-no-check-bucket", "--config="]
    started = time.perf_counter()
    subprocess.run([program, "copy", *paths, *options], env=environment, check=True)
    return time.perf_counter() - started - start


def _remote(name: str, site: RunningSite) -> dict[str, str]:
    settings = {
        "TYPE": "s3",
        "PROVIDER": "Other",
        "ENDPOINT": site.endpoint_url,
        "REGION": site.region,
        "ACCESS_KEY_ID": site.access_key,
        "SECRET_ACCESS_KEY": site.secret_key,
        "FORCE_PATH_STYLE": "true",
    }
    return {f"RCLONE_CONFIG_{name}_{setting}": value for setting, value in settings.items()}
