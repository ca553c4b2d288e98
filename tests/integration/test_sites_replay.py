"""A replay over several sites: the same bill as over one, an optimum found by trying everything, readers that count."""

import itertools
import json
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from app.cli.root import cli
from app.domain.price_books import AWS, GCP
from app.domain.prices import GB
from app.lab.days import by_day
from app.lab.ladders import ladder
from app.lab.pairs import EGRESS, PricedSite, bill, cheapest, pairs_of
from app.lab.replay import BASELINES, NOTHING
from app.lab.sites_replay import NAMES, replay_sites
from app.lab.traces import read_trace
from ml.tiering_loops import play
from ml.tiering_types import COMPONENTS, DELETED

HOME, AWAY = PricedSite(AWS, "us-east-1"), PricedSite(GCP, "europe-west1")
DAYS = 40
HEAD = "date,object,op,bytes,size,region"


def trace_file(folder: Path, seed: int = 1, region: str = "europe-west1", days: int = DAYS, rate: float = 0.3) -> Path:
    """Six objects, read at random from one region; one is overwritten, one deleted on its twentieth day."""
    chance, lines = np.random.default_rng(seed), []
    for thing in range(6):
        size = int(chance.integers(1, 4)) * GB
        lines.append((0, f"o{thing}", "PUT", size, size, ""))
        gone = days // 2 + 5 if thing == 5 else days
        lines += [(day, f"o{thing}", "GET", size, size, region) for day in range(gone) if chance.random() < rate]
    lines += [(days - 9, "o4", "PUT", GB, "", ""), (days // 2 + 5, "o5", "DELETE", 0, "", "")]
    rows = [",".join([(date(2026, 1, 1) + timedelta(days=day)).isoformat(), *map(str, rest)]) for day, *rest in lines]
    path = folder / "trace.csv"
    path.write_text("\n".join([HEAD, *rows]) + "\n")
    return path


@pytest.mark.parametrize("rule", ["all_hot", "all_warm", "all_cold", "heat_thresholds"])
def test_one_site_costs_what_the_loops_of_one_site_say(tmp_path, rule):
    trace = read_trace(trace_file(tmp_path, region=""))
    days = by_day(trace)
    pairs, n = pairs_of(trace, days, [HOME]), len(days.size)
    usd, daily, moves = np.zeros((n, COMPONENTS)), np.zeros(days.days), np.zeros(n, np.int64)
    where, kind = np.zeros(days.grid.reads.shape, np.int8), BASELINES[rule]
    steps = ladder(AWS, days.size)
    steps = steps._replace(may=np.ones_like(steps.may))
    at = np.zeros(days.days, np.int64)
    play(days.grid, steps, NOTHING, days.size / GB, kind, at, kind, 20, days.days, usd, daily, moves, where)
    thing, day = np.nonzero(days.grid.event == DELETED)
    where[thing, day] = where[thing, day - 1]
    billed, by_the_day, moved = bill(pairs, where, 20, days.days)
    assert np.delete(billed, EGRESS, axis=1) == pytest.approx(usd)
    out = np.cumsum(pairs.egress[0][:, 20:].sum(axis=0))
    assert by_the_day - out == pytest.approx(daily[20:])
    assert moved.tolist() == moves.tolist()
    assert billed[:, EGRESS].sum() == pytest.approx(days.grid.share[:, 20:].sum(axis=1) @ days.size / GB * 0.09)


def test_the_optimum_over_pairs_is_what_trying_everything_finds(tmp_path):
    """Five days count; every sequence of four pairs is billed."""
    trace = read_trace(trace_file(tmp_path, seed=3, days=12, rate=0.5))
    days = by_day(trace)
    pairs = pairs_of(trace, days, [HOME, AWAY])
    least = np.array([0, 2, 4, 0, 2, 4], np.int64)
    pairs = type(pairs)(**{**vars(pairs), "min_days": least})
    first, last = days.days - 5, days.days
    best = np.full(len(days.size), np.inf)
    for sequence in itertools.product((0, 2, 3, 5), repeat=5):
        where = np.tile(np.array([0] * first + list(sequence), np.int8), (len(best), 1))
        best = np.minimum(best, bill(pairs, where, first, last)[0].sum(axis=1))
    found = bill(pairs, cheapest(pairs, first, last), first, last)[0].sum(axis=1)
    assert (found <= best + 1e-12).all()
    four = type(pairs)(**{**vars(pairs), "day": pairs.day + np.array([0, 9, 0, 0, 9, 0])[:, None]})
    assert bill(pairs, cheapest(four, first, last), first, last)[0].sum(axis=1) == pytest.approx(best)


def test_objects_go_to_their_readers_and_come_cheaper_than_by_classes_alone(tmp_path):
    trace = read_trace(trace_file(tmp_path, days=240, rate=0.2))
    done = replay_sites(trace, by_day(trace), [HOME, AWAY], 90.0)
    rows = {row["name"]: row for row in done.document("made up")["policies"]}
    assert list(rows) == list(NAMES)
    assert rows["foretide"]["cost"] < 0.5 * rows["foretide_direct"]["cost"]
    assert rows["foretide"]["bytes_at_end"]["gcp:europe-west1"] > 0.6
    assert rows["foretide"]["regret"] >= 0
    assert rows["all_hot"]["components"]["egress"] > rows["foretide"]["components"]["egress"]


def test_readers_at_home_keep_objects_at_home(tmp_path):
    trace = read_trace(trace_file(tmp_path, days=240, rate=0.2, region="us-east-1"))
    done = replay_sites(trace, by_day(trace), [HOME, AWAY], 90.0)
    rows = {row["name"]: row for row in done.document("made up")["policies"]}
    assert rows["foretide"]["bytes_at_end"]["aws:us-east-1"] == 1.0
    assert rows["foretide"]["cost"] == pytest.approx(rows["foretide_direct"]["cost"])


def test_the_command_names_the_sites_and_what_it_assumes(tmp_path):
    report = tmp_path / "out.html"
    sites = ("--sites", "aws:us-east-1", "--sites", "gcp:europe-west1")
    file = str(trace_file(tmp_path, region="somewhere"))
    ran = CliRunner().invoke(cli, ["replay", file, *sites, "--json", "--report", str(report)])
    assert ran.exit_code == 0, ran.output
    document = json.loads(ran.stdout)
    assert [site["name"] for site in document["sites"]] == ["aws:us-east-1", "gcp:europe-west1"]
    assert "name no site's region" in document["assumed"][-1]
    assert "Egress" in report.read_text()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--sites", "aws"], "PROVIDER:REGION"),
        (["--sites", "nobody:here"], "neither a provider with a shipped book"),
        (["--sites", "aws:a", "--sites", "aws:a"], "the same provider and region"),
        (["--sites", "aws:a", "--prices", "gcp"], "leave --prices out"),
        (["--sites", "aws:a", "--policy", "best_timeout"], "there is no policy best_timeout"),
    ],
)
def test_bad_sites_are_told_in_one_line(tmp_path, arguments, told):
    ran = CliRunner().invoke(cli, ["replay", str(trace_file(tmp_path)), *arguments])
    assert ran.exit_code != 0
    assert told in ran.output + str(ran.exception or "")
