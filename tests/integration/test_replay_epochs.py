"""A replay that decides more or less often than once a day: the same bills, other moves."""

import json
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from app.cli.root import cli

GB = 2**30


def costs(file: Path, epoch: str) -> dict[str, dict]:
    ran = CliRunner().invoke(cli, ["replay", str(file), "--epoch", epoch, "--json"])
    assert ran.exit_code == 0, ran.output
    document = json.loads(ran.stdout)
    return {row["name"]: row for row in document["policies"]} | {"document": document}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    chance = np.random.default_rng(5)
    rows = [
        f"{(date(2026, 1, 1) + timedelta(days=day)).isoformat()},k{thing},{GB},{GB}"
        for thing in range(12)
        for day in range(160)
        if day == 0 or chance.random() < 0.3 * np.exp(-day / (5 + 8 * thing))
    ]
    path = tmp_path_factory.mktemp("trace") / "daily.csv"
    path.write_text("date,object,bytes,size\n" + "\n".join([*rows, f"2026-06-09,last,{GB},{GB}"]) + "\n")
    return path


def test_shorter_and_longer_epochs_pay_the_same_prices(file):
    daily, quarters, weekly = (costs(file, epoch) for epoch in ("1d", "6h", "7d"))
    for found in (quarters, weekly):
        assert found["all_hot"]["components"] == pytest.approx(daily["all_hot"]["components"])
        assert found["all_cold"]["cost"] == pytest.approx(daily["all_cold"]["cost"], rel=0.01)
    assert quarters["clairvoyant"]["cost"] <= daily["clairvoyant"]["cost"] * (1 + 1e-9)
    assert weekly["clairvoyant"]["cost"] == daily["clairvoyant"]["cost"], "the least is over all days"
    assert [found["document"]["epochs"] for found in (daily, quarters, weekly)] == [80, 320, 12]
    assert [found["document"]["epoch"] for found in (daily, quarters, weekly)] == ["1d", "6h", "7d"]


def test_timeouts_are_days_whatever_the_epoch(file):
    daily, quarters = costs(file, "1d"), costs(file, "6h")
    for name in ("lifecycle_30_90", "lifecycle_tuned", "best_timeout", "intelligent_tiering"):
        assert quarters[name]["cost"] == pytest.approx(daily[name]["cost"], rel=0.01), name


@pytest.mark.parametrize("epoch", ["5h", "soon", "1y"])
def test_other_epochs_are_told_in_one_line(file, epoch):
    ran = CliRunner().invoke(cli, ["replay", str(file), "--epoch", epoch])
    assert ran.exit_code != 0
    assert "an epoch is 6h" in ran.output + str(ran.exception or "")
