"""`./foretide demo --exit --json`: the whole way in one command, from anywhere, leaving nothing behind."""

from __future__ import annotations

import csv
import json
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from app.devstack.ports import is_free
from app.settings import PROJECT_ROOT
from tests.needs import TRACES

KEYS = {"accesses", "objects", "model", "plan", "migrations", "route", "seconds", "components"}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An empty home, in a folder whose name has a space."""
    path = tmp_path / "an empty home"
    path.mkdir()
    return path


def demo(home: Path, *arguments: str) -> dict[str, Any]:
    """Runs the launcher as a newcomer would; its report, once nothing of it is left."""
    state = home.parent / "state"
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "FORETIDE_STATE_DIR": str(state)}
    command = [str(PROJECT_ROOT / "foretide"), "demo", "--exit", "--json", *arguments]
    done = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report.keys() == KEYS
    assert_done(report)
    assert [process for process in psutil.process_iter(["cmdline"]) if str(state) in str(process.info["cmdline"])] == []
    assert [c["address"] for c in report["components"] if not is_free(int(c["address"].rpartition(":")[2]))] == []
    assert list(state.iterdir()) == []
    return report


def assert_done(report: dict[str, Any]) -> None:
    assert report["model"].keys() == {"name", "auc", "pr_auc", "baselines"}
    assert report["plan"].keys() == {"cost_before", "cost_after", "all_hot", "moves"}
    assert report["migrations"].keys() == {"planned", "verified", "failed", "retried"}
    assert report["migrations"]["failed"] == 0
    assert report["migrations"]["verified"] == report["migrations"]["planned"] == report["plan"]["moves"] > 0
    assert 0 < report["route"]["p50_ms"] <= report["route"]["p95_ms"]
    assert all(seconds >= 0 for seconds in report["seconds"].values())
    assert {component["name"] for component in report["components"]} >= {"database", "broker", "site aws-eu"}
    assert all(component["mode"] == "embedded" and component["why"] for component in report["components"])


@pytest.fixture
def ports_in_use() -> Iterator[None]:
    """The ports that the API and Flower wish for are taken."""
    with ExitStack() as held:
        for port in (8000, 5555):
            if is_free(port):
                taken = held.enter_context(socket.socket())
                taken.bind(("127.0.0.1", port))
                taken.listen()
        yield


def test_from_an_empty_home_with_the_usual_ports_in_use(home: Path, ports_in_use):
    report = demo(home, "--objects", "40")
    assert report["objects"] == 40
    assert report["accesses"] > 1000
    assert set(report["seconds"]) >= {"environment", "data", "ingest", "train", "plan", "migrate", "route"}


def test_a_trace_of_ones_own(home: Path):
    trace = home / "a trace.csv"
    begin = datetime(2024, 2, 28, tzinfo=UTC)
    with trace.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["ts", "object", "op", "bytes"])
        for hour in range(14 * 24):
            at = (begin + timedelta(hours=hour)).isoformat()
            rows.writerow([at, f"/hourly/{hour % 7}", "GET", 10_000 + hour % 7])
            if hour % 24 == 0:
                rows.writerow([at, f"/daily/{hour // 24 % 5}", "GET", 2_000_000])
    report = demo(home, "--trace", str(trace))
    assert (report["accesses"], report["objects"]) == (14 * 25, 12)


@pytest.mark.needs("../shared/data")
def test_a_real_web_log(home: Path):
    report = demo(home, "--trace", str(TRACES / "trace_weblog.parquet"))
    assert report["objects"] > 1000
