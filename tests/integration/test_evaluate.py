"""`foretide models evaluate`: any trace, every contestant on the same later rows, and clear words when it cannot be."""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from app.cli.root import cli
from app.errors import ExitCode
from tests.needs import TRACES

BASELINES = {"recency", "lifetime_count", "logit_four", "forest_six", "hist_gradient_boosting"}
DEMAND_BASELINES = {"last_window", "rate_30d", "rate_lifetime", "prefix_mean"}
MEASURED = {"name", "kind", "auc", "pr_auc", "brier", "log_loss", "ece"}
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


def evaluated(trace: Path, *options: str) -> dict:
    done = CliRunner().invoke(cli, ["models", "evaluate", "tier", "--trace", str(trace), "--json", *options])
    assert done.exit_code == ExitCode.OK, done.output
    return json.loads(done.stdout)


def daily(path: Path, days: int, reads: np.ndarray) -> Path:
    """A trace of reads [objects × days] in CSV."""
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["date", "object", "bytes", "count"])
        for owner, day in zip(*np.nonzero(reads[:, :days]), strict=True):
            rows.writerow([(EPOCH + timedelta(days=int(day))).date(), f"f/{owner}", 100, int(reads[owner, day])])
    return path


@pytest.fixture(scope="module")
def rates() -> np.ndarray:
    rng = np.random.default_rng(3)
    return rng.poisson(np.exp(rng.normal(-2, 1.5, (60, 1))), (60, 90))


@pytest.mark.needs("../shared/data")
def test_a_recorded_log_is_judged_beside_its_baselines(tmp_path: Path):
    report = tmp_path / "report.html"
    found = evaluated(TRACES / "trace_weblog.parquet", "--horizon", "1h", "--report", str(report))
    assert found["trace"] == "trace_weblog.parquet"
    assert found["horizon"] == "1h"
    models = {row["name"]: row for row in found["models"]}
    assert {name for name, row in models.items() if row["kind"] == "baseline"} == BASELINES
    assert all(row.keys() >= MEASURED for row in found["models"])
    champion = models[found["champion"]]
    for area in ("auc", "pr_auc"):
        assert champion[f"{area}_gain_interval"][1] >= 0
    assert champion["ece"] <= 0.02
    page = report.read_text()
    assert page.count("<svg") == 2
    assert "http" not in page


def test_a_daily_trace_is_judged_too(tmp_path: Path, rates: np.ndarray):
    found = evaluated(daily(tmp_path / "daily.csv", 90, rates), "--horizon", "7d")
    assert found["objects"] == (rates > 0).any(axis=1).sum()
    assert found["base_rate"] == pytest.approx(found["models"][0]["base_rate"])
    assert sum(each["n"] for each in found["calibration"]) == found["models"][0]["n"]


def test_the_demand_is_judged_beside_its_baselines(tmp_path: Path, rates: np.ndarray):
    trace, report = daily(tmp_path / "daily.csv", 90, rates), tmp_path / "report.html"
    asked = ["models", "evaluate", "demand", "--trace", str(trace), "--report", str(report)]
    done = CliRunner().invoke(cli, asked)
    assert done.exit_code == ExitCode.OK, done.output
    assert "reads on average within 1d" in done.stdout
    found = json.loads(CliRunner().invoke(cli, [*asked[:-2], "--json"]).stdout)
    rows = {row["name"]: row for row in found["models"]}
    assert {name for name, row in rows.items() if row["kind"] == "baseline"} == DEMAND_BASELINES
    champion = rows[found["champion"]]
    assert 0.77 <= champion["coverage"] <= 0.83
    assert champion["quantile_loss_gain_interval"][1] >= 0
    assert all(row["n"] == found["rows"]["test"] and row["bytes_mae"] > 0 for row in rows.values())
    assert "80 % coverage" in report.read_text()


@pytest.mark.parametrize(
    ("days", "horizon", "told"),
    [(90, "1h", "tells days, not hours"), (5, "1d", "are needed"), (20, "30d", "span less than one horizon")],
)
def test_what_cannot_be_judged_is_said_in_one_line(
    tmp_path: Path, rates: np.ndarray, days: int, horizon: str, told: str
):
    trace = daily(tmp_path / "short.csv", days, rates)
    done = CliRunner().invoke(cli, ["models", "evaluate", "tier", "--trace", str(trace), "--horizon", horizon])
    assert done.exit_code != ExitCode.OK
    assert told in str(done.exception or done.output)


def test_a_seed_that_learners_cannot_take_is_refused(tmp_path: Path, rates: np.ndarray):
    asked = [
        "models",
        "evaluate",
        "tier",
        "--trace",
        str(daily(tmp_path / "daily.csv", 20, rates)),
        "--seed",
        "4294967296",
    ]
    done = CliRunner().invoke(cli, asked)
    assert (done.exit_code, "0<=x<=4294967295" in done.output) == (ExitCode.USAGE, True)


def test_the_future_changes_nothing_of_what_was_learned(tmp_path: Path, rates: np.ndarray):
    """Whatever comes after the split, the same candidates are ranked in the same order, by the same past."""
    turned = rates.copy()
    turned[:, 64:] = turned[::-1, 64:]
    first, second = (
        evaluated(daily(tmp_path / f"{name}.csv", 90, some), "--horizon", "1d")
        for name, some in (("as_it_was", rates), ("turned", turned))
    )
    names = [[row["name"] for row in found["models"] if row["kind"] == "model"] for found in (first, second)]
    assert names[0] == names[1]
    assert first["base_rates"]["train"] == second["base_rates"]["train"]
    assert first["models"] != second["models"]
