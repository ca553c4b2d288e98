"""The replay: its arithmetic by hand, its optimum by brute force, no look into the future, and its bars."""

import itertools
import json
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from app.cli.root import cli
from app.domain.price_books import AWS
from app.domain.prices import GB
from app.lab.days import Days, by_day
from app.lab.fleets import fleet
from app.lab.ladders import ladder
from app.lab.replay import BASELINES, NAMES, NOTHING, Outcome, replay
from app.lab.traces import read_trace
from ml.tiering import learn
from ml.tiering_alarm import alarmed
from ml.tiering_grid import prepare
from ml.tiering_loops import play
from ml.tiering_types import COMPONENTS, DELETED, WRITTEN
from tests.needs import TRACES

KEYS = ("trace", "epochs", "objects", "prices", "policies")
POLICY_KEYS = (
    "name", "cost", "components", "percent_of_all_hot", "gap_closed", "regret", "moves", "bytes_moved", "sla_misses",
)  # fmt: skip
FEES = ("move", "early_deletion")


def days_of(reads, *, size=GB, event=None, birth=None) -> Days:
    reads = np.array(reads, float)
    event = np.zeros(reads.shape, np.int8) if event is None else np.array(event, np.int8)
    birth = np.zeros(len(reads), np.int64) if birth is None else np.array(birth)
    return Days.made(prepare(reads, reads.copy(), event, birth), np.full(len(reads), size))


def outcome(days: Days, name: str) -> Outcome:
    return replay(days, AWS, 90.0).outcomes[name]


def percents(days: Days) -> dict[str, dict]:
    rows = replay(days, AWS, 90.0).document("made up")["policies"]
    return {row["name"]: row for row in rows}


def test_a_bill_comes_out_as_by_hand():
    """One object of 1 GB, 80 days, read once on day 50; counted are the 40 days from day 40 on."""
    reads = np.zeros((1, 80))
    reads[0, 50] = 1
    hot = outcome(days_of(reads), "all_hot")
    assert hot.usd[0].tolist() == pytest.approx([40 * 0.023 / 30, 0.0004 / 1000, 0, 0, 0])
    cold = outcome(days_of(reads), "all_cold")
    change = (0.02 + 0.0004 + 0.01) / 1000
    owed = 50 * 0.004 / 30
    assert cold.usd[0].tolist() == pytest.approx([40 * 0.004 / 30, 0.01 / 1000, 0.03, change, owed])
    assert (cold.moves.tolist(), cold.paid_back) == ([1], (0, 1))


def test_what_is_written_anew_or_deleted_pays_for_leaving_early():
    event = np.zeros((2, 80), np.int8)
    event[0, 60], event[1, 60] = WRITTEN, DELETED
    cold = outcome(days_of(np.zeros((2, 80)), event=event), "all_cold")
    day, change = 0.004 / 30, (0.02 + 0.0004 + 0.01) / 1000
    assert cold.usd[0, 4] == pytest.approx(70 * day + 71 * day), "left on day 60, in again on day 61"
    assert cold.usd[0, 3] == pytest.approx(2 * change)
    assert cold.usd[1].tolist() == pytest.approx([21 * day, 0, 0, change, 69 * day])


def test_the_optimum_is_what_trying_everything_finds():
    """Six days count; every sequence of classes is played."""
    chance = np.random.default_rng(7)
    reads = chance.poisson(0.3, (6, 12)).astype(float)
    days = days_of(reads, size=3 * GB)
    steps = ladder(AWS, days.size)
    steps = steps._replace(min_days=np.array([0, 2, 4], np.int64))
    least = np.full(6, np.inf)
    follow = BASELINES["all_hot"]._replace(kind=np.array([6]))
    for sequence in itertools.product(range(3), repeat=6):
        where = np.tile(np.array([0] * 6 + list(sequence)), (6, 1))
        usd = np.zeros((6, COMPONENTS))
        played = (np.zeros(12), np.zeros(6, np.int64), np.zeros((6, 12), np.int8))
        at = np.zeros(12, np.int64)
        play(days.grid, steps, NOTHING._replace(cell=where), np.full(6, 3.0), follow, at, follow, 6, 12, usd, *played)
        least = np.minimum(least, usd.sum(axis=1))
    from ml.tiering_optimum import clairvoyant

    best, where = np.zeros(6), np.zeros((6, 12), np.int64)
    clairvoyant(days.grid, steps, 6, 12, best, where)
    assert best == pytest.approx(least)


@pytest.mark.parametrize("habit", ["mixed", "archive"])
def test_no_policy_is_cheaper_than_the_optimum_and_the_optimum_plays_out_as_it_was_found(habit):
    done = replay(fleet(habit, 3, objects=120, days=360), AWS, 90.0)
    best = done.outcomes["clairvoyant"].usd.sum(axis=1)
    for name, found in done.outcomes.items():
        if name not in ("intelligent_tiering", "foretide_managed"):  # a class that the optimum is not offered
            assert (found.usd.sum(axis=1) >= best - 1e-9).all(), name


@pytest.mark.parametrize("habit", ["mixed", "shift"])
def test_nothing_that_is_decided_depends_on_the_future(habit):
    days = fleet(habit, 5, objects=200, days=420)
    split, now = 210, 300
    chance = np.random.default_rng(1)
    shuffled = days.grid.reads.copy()
    shuffled[:, now:] = shuffled[:, now:][:, chance.permutation(420 - now)]
    other = Days.made(prepare(shuffled, shuffled.copy(), days.grid.event, days.grid.birth), days.size)
    seen = [decided(one, split) for one in (days, other)]
    assert seen[0][:, : now + 1].tolist() == seen[1][:, : now + 1].tolist()
    assert seen[0].tolist() != seen[1].tolist(), "what comes later is decided on what was read since"


def decided(days: Days, split: int) -> np.ndarray:
    """[object, day] the class after each day's decision."""
    steps, size = ladder(AWS, days.size), days.size / GB
    known = learn(days.grid, steps, size, split).guarded(days.grid, steps, size, split)
    known = alarmed(known, days.grid, steps, size, split)
    where = np.zeros(days.grid.reads.shape, np.int8)
    spent = (np.zeros((len(size), COMPONENTS)), np.zeros(days.days), np.zeros(len(size), np.int64))
    play(days.grid, steps, known.signals, size, known.rule, known.rule_at, known.by, split, days.days, *spent, where)
    return where


@pytest.mark.parametrize("habit", ["archive", "ratings", "mixed"])
def test_fleets_of_these_habits_cost_no_more_than_under_the_tuned_lifecycle(habit):
    hold_the_bars(percents(fleet(habit, 11, objects=250, days=500)))


def test_where_many_objects_turn_busy_the_harm_stays_small():
    """Tuned on a calm past, the lifecycle costs a multiple of all-hot; what reads overpay for comes back."""
    rows = percents(fleet("shift", 11, objects=250, days=500))
    assert rows["lifecycle_tuned"]["percent_of_all_hot"] > 500
    assert rows["foretide"]["percent_of_all_hot"] < 120


@pytest.mark.needs("../shared/data")
@pytest.mark.parametrize("fraction", [1.0, 0.1])
def test_the_bars_hold_on_a_recorded_trace(fraction):
    rows = percents(by_day(read_trace(TRACES / "trace_sets_daily.parquet"), fraction))
    hold_the_bars(rows)
    assert rows["foretide"]["gap_closed"] >= 0.75 * rows["best_timeout"]["gap_closed"]
    assert rows["foretide_managed"]["cost"] <= 0.9 * rows["intelligent_tiering"]["cost"]


def hold_the_bars(rows: dict[str, dict]) -> None:
    percent = {name: row["percent_of_all_hot"] for name, row in rows.items()}
    assert percent["foretide"] <= 101, percent
    assert percent["foretide"] <= percent["lifecycle_tuned"] + 1, percent


def test_an_object_that_is_read_in_waves_moves_at_most_once_a_wave():
    waves = np.tile((np.arange(720) // 60 % 2 == 0) * 1.0, (50, 1))
    done = outcome(days_of(waves), "foretide")
    assert done.moves.max() <= 6, "six waves of 120 days are counted"


def test_a_replay_is_the_same_twice():
    days = fleet("ratings", 2, objects=80, days=240)
    assert percents(days) == percents(days)


def trace_file(folder: Path) -> Path:
    dates = [(date(2026, 1, 1) + timedelta(days=day)).isoformat() for day in range(168)]
    lines = [
        f"{dates[day]},set/{n},{1000 * (n + 1) ** 8}" for day in range(168) for n in range(4) if day % (n + 1) == 0
    ]
    path = folder / "daily.csv"
    path.write_text("date,object,bytes\n" + "\n".join(lines) + "\n")
    return path


def test_the_command_prints_every_policy_and_writes_a_page(tmp_path):
    report = tmp_path / "out.html"
    ran = CliRunner().invoke(cli, ["replay", str(trace_file(tmp_path)), "--json", "--report", str(report)])
    assert ran.exit_code == 0, ran.output
    document = json.loads(ran.stdout)
    assert set(KEYS) <= document.keys()
    assert [row["name"] for row in document["policies"]] == list(NAMES)
    assert all(set(POLICY_KEYS) <= row.keys() for row in document["policies"])
    assert document["assumed"] == ["size of 4 of 4 objects: their largest row read all of it"]
    assert document["epochs"] == 84
    rows = {row["name"]: row for row in document["policies"]}
    assert (rows["all_hot"]["paid_back"], rows["all_cold"]["paid_back"]) == (None, 0.0), "all are read too often"
    assert rows["all_cold"]["fees"] == pytest.approx(sum(rows["all_cold"]["components"][fee] for fee in FEES))
    assert "answers at once" in document["notes"]["sla_misses"]
    page = report.read_text()
    assert "foretide_managed" in page
    assert "<script" not in page
    assert "http" not in page.replace("http://www.w3.org", "")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["absent.csv"], "no trace file"),
        (["daily.csv", "--prices", "nobody"], "neither a provider with a shipped book"),
        (["daily.csv", "--policy", "magic"], "there is no policy magic"),
        (["daily.csv", "--prices", "cloudflare"], "has 1 class to choose from"),
        (["short.csv"], "needs at least 4"),
        (["daily.csv", "--read-fraction", "0"], "read-fraction"),
    ],
)
def test_bad_input_is_told_in_one_line(tmp_path, arguments, told):
    trace_file(tmp_path)
    (tmp_path / "short.csv").write_text("date,object,bytes\n2026-01-01,a,5\n")
    ran = CliRunner().invoke(cli, ["replay", str(tmp_path / arguments[0]), *arguments[1:]], standalone_mode=True)
    assert ran.exit_code != 0
    assert told in ran.output + str(ran.exception or "")
    assert "Traceback" not in ran.output
