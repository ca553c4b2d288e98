"""Pre-warming in a replay: peaks met from when they were known, dollars by hand, and no look into the future."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from app.cli.root import cli
from app.domain.price_books import AWS, GCP
from app.domain.prices import GB
from app.lab.days import by_day
from app.lab.pairs import PricedSite
from app.lab.prewarming_market import one_site, several_sites
from app.lab.prewarming_replay import Prewarming, prewarmed
from app.lab.traces import Trace, read_trace

MONDAY = datetime(2026, 1, 5, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
GRACE, EVERY = timedelta(hours=6), timedelta(hours=1)
HOME, AWAY = PricedSite(AWS, "us-east-1", 90), PricedSite(GCP, "europe-west1", 20)
WEEKS = 8
"""Four to learn from, four that count."""
PEAK_READS = 40
LEFT_AFTER = [14, *[21 / 24] * 4, 2 + 21 / 24, *[21 / 24] * 4]
"""For how many days the object was in its class when each of the ten changes begins."""


def weekdays(first_week: int, last_week: int = WEEKS, hour: int = 9) -> list[datetime]:
    """The beginnings of the peaks: each weekday at nine."""
    return [
        MONDAY + week * 7 * DAY + day * DAY + hour * HOUR for week in range(first_week, last_week) for day in range(5)
    ]


def trace_of(folder: Path, peaks: list[datetime], size: int = GB, key: str = "report", hours: bool = True) -> Trace:
    """One object, read once a night at home and PEAK_READS times in each of these hours in Europe."""
    lines = [(MONDAY + day * DAY + 3 * HOUR, size, 1, "us-east-1") for day in range(7 * WEEKS)]
    lines += [(peak, size, PEAK_READS, "europe-west1") for peak in peaks]
    rows = [
        f"{ts.isoformat()},{key},{size * count},{size},{count},{region}" for ts, size, count, region in sorted(lines)
    ]
    path = folder / "trace.csv"
    path.write_text("\n".join(["ts,object,bytes,size,count,region", *rows]) + "\n")
    return read_trace(path)


def played(trace: Trace, sla_ms: float | None = None, pair: int = 0) -> Prewarming:
    """Over two sites, where the policy leaves all objects in one pair and nothing else costs anything."""
    days = by_day(trace)
    market = several_sites([HOME, AWAY], trace, days.size, sla_ms)
    where = np.full(days.grid.reads.shape, pair, np.int8)
    return prewarmed(trace, days, market, where, np.zeros(len(days.size)), GRACE, EVERY)


def test_a_peak_each_weekday_is_met_from_the_fourth_week_on_and_saves_what_it_does_by_hand(tmp_path):
    """It begins in the week before those that count: two more are missed, then three are known.

    Each of ten peaks: 40 GB of egress that cost 0.09 from AWS are free from GCP in the readers' region, each bar a
    copy of 1 GB at 0.09. Requests: 40 GETs, and the copy's three HEADs and GETs, at AWS by the thousand at 0.0004; the
    same 40, two HEADs and GETs and 130 requests of an upload in parts at GCP. The copy stands from an hour and 215 s
    (at 5 MB a second) before nine until ten and six hours of grace: 8.06 hours, at 0.02 $ a month.
    """
    found = played(trace_of(tmp_path, weekdays(3)))
    assert (found.met, found.missed, found.false) == (10, 10, 0)
    target = AWAY.book.classes[0]
    get, put = (float(price) / 1000 for price in (target.get_per_1k, target.put_per_1k))
    assert float(target.first_usd) == 0.02
    egress = 40 * 0.09
    requests = 40 * (0.0004 / 1000 - get)
    copy = 0.09 + 3 * 0.0004 / 1000 + 0.005 / 1000 / 1000 + 130 * put + 2 * get
    storage = 0.02 * (2 + 6 + 215 / 3600) / 24 / 30
    assert found.usd[0] - found.usd[1] == pytest.approx(-10 * (egress + requests - copy - storage), rel=1e-5)


def test_a_peak_that_comes_no_more_is_a_false_copy_for_two_weeks_and_only_costs(tmp_path):
    found = played(trace_of(tmp_path, weekdays(1, 4)))
    assert (found.met, found.missed, found.false) == (0, 0, 10), "three weeks of the last four had it, twice"
    assert found.usd[0] - found.usd[1] == pytest.approx(sum(copy.extra for copy in found.copies))
    assert found.usd[0] > found.usd[1]


def test_a_peak_that_changes_its_hour_is_false_at_the_old_one_and_missed_at_the_new_one(tmp_path):
    found = played(trace_of(tmp_path, [*weekdays(1, 4), *weekdays(4, hour=15)]))
    assert (found.met, found.missed, found.false) == (5, 15, 10), "three weeks until the new one is known"


def test_what_does_not_recur_is_copied_for_never(tmp_path):
    chance = np.random.default_rng(3)
    hours = chance.choice(7 * 24 * WEEKS, 30, replace=False)
    weekly = hours % 168
    once = hours[np.unique(weekly, return_index=True)[1]]
    found = played(trace_of(tmp_path, [MONDAY + int(hour) * HOUR for hour in once]))
    assert (found.copies, found.met, found.missed, found.false, found.usd) == ((), 0, 0, 0, (0.0, 0.0))


def test_reads_that_find_their_object_at_the_slow_site_alone_miss_the_sla(tmp_path):
    trace = trace_of(tmp_path, weekdays(3))
    found = played(trace, sla_ms=50)
    reads = 28 + 20 * PEAK_READS
    assert found.sla_misses == (reads - 10 * PEAK_READS, reads)
    assert played(trace).sla_misses == played(trace, sla_ms=100).sla_misses == (0, 0)


def test_a_class_for_the_time_of_a_peak_where_there_is_one_site(tmp_path):
    """The object lies in GLACIER_IR since the middle, for 90 days at least: each change out of it pays for the rest."""
    trace = trace_of(tmp_path, weekdays(3))
    days = by_day(trace)
    market = one_site(AWS, trace, days.size)
    cold = next(number for number, pair in enumerate(market.pairs) if pair.name == "GLACIER_IR")
    where = np.full(days.grid.reads.shape, cold, np.int8)
    found = prewarmed(trace, days, market, where, np.full(1, 7.0), GRACE, EVERY)
    assert (found.met, found.missed, found.false) == (10, 10, 0)
    assert {market.pairs[copy.pair].name for copy in found.copies} == {"STANDARD"}
    retrieval = 40 * 0.03 + 40 * (0.01 - 0.0004) / 1000
    out_and_in = (0.005 + 0.02 + 2 * (0.01 + 0.0004)) / 1000 + 0.03
    lasts = (2 + 215 / 3600) / 24
    by_hand = [out_and_in + ((0.023 - 0.004) * lasts + 0.004 * (90 - there)) / 30 for there in LEFT_AFTER]
    assert [copy.extra for copy in found.copies] == pytest.approx(by_hand, rel=1e-5)
    assert found.usd == (pytest.approx(7 - 10 * retrieval + sum(by_hand), rel=1e-5), 7), "7 is the policy's"


def test_what_was_hot_already_needs_no_copy(tmp_path):
    trace = trace_of(tmp_path, weekdays(0))
    days = by_day(trace)
    found = prewarmed(
        trace, days, one_site(AWS, trace, days.size), np.zeros(days.grid.reads.shape, np.int8), np.ones(1), GRACE, EVERY
    )
    assert (found.copies, found.met + found.missed) == ((), 0)


def test_no_copy_depends_on_the_future(tmp_path):
    now = MONDAY + 45 * DAY
    chance = np.random.default_rng(1)
    peaks = weekdays(1)
    later = [peak for peak in peaks if peak >= now]
    shuffled = [now + int(hour) * HOUR for hour in chance.choice(11 * 24 - 1, len(later), replace=False)]
    seen = [played(trace_of(tmp_path, found)) for found in (peaks, [p for p in peaks if p < now] + shuffled)]
    begun = [[copy for copy in one.copies if copy.peak.begins < now + DAY] for one in seen]
    assert len(begun[0]) > 10
    assert begun[0] == begun[1]
    assert (seen[0].met, seen[0].false) != (seen[1].met, seen[1].false), "what came of them is told by what came"


def test_a_deleted_object_is_not_copied(tmp_path):
    path = tmp_path / "trace.csv"
    trace_of(tmp_path, weekdays(0, 5))
    gone = MONDAY + 35 * DAY
    kept = [line for line in path.read_text().splitlines()[1:] if line[:19] < gone.isoformat()[:19]]
    rows = [f"{line},GET" for line in kept] + [f"{gone.isoformat()},report,0,{GB},1,,DELETE"]
    rows += [f"{(gone + day * DAY).isoformat()},other,{GB},{GB},1,,GET" for day in range(20)]
    path.write_text("\n".join(["ts,object,bytes,size,count,region,op", *rows]) + "\n")
    found = played(read_trace(path))
    assert (found.met, found.false, len(found.copies)) == (5, 0, 5)


def test_the_command_tells_of_peaks_and_says_where_it_cannot(tmp_path):
    trace_of(tmp_path, weekdays(3), size=GB)
    report = tmp_path / "out.html"
    sites = ("--sites", "aws:us-east-1@90", "--sites", "gcp:europe-west1@20", "--sla-ms", "50")
    args = ["replay", str(tmp_path / "trace.csv")]
    document = told(*args, *sites, "--report", str(report))
    assert list(document["prewarming"]) == [
        "peaks", "met", "missed", "false", "usd_with", "usd_without", "sla_misses_with", "sla_misses_without",
    ]  # fmt: skip
    assert "recurring peaks" in document["notes"]["prewarming"]
    assert "Pre-warming for recurring peaks" in report.read_text()
    assert told(*args)["prewarming"]["peaks"] == 0, "one site has them in its hot class"
    plain = CliRunner().invoke(cli, args)
    assert "pre-warming: 0 of 0 peaks met" in plain.output


def test_a_daily_trace_has_no_peaks_and_says_so(tmp_path):
    lines = [f"{(MONDAY + day * DAY).date()},a,{GB}" for day in range(60)]
    (tmp_path / "daily.csv").write_text("\n".join(["date,object,bytes", *lines]) + "\n")
    report = tmp_path / "out.html"
    document = told("replay", str(tmp_path / "daily.csv"), "--report", str(report))
    assert document["prewarming"] is None
    assert "days, not hours" in document["notes"]["prewarming"]
    assert "days, not hours" in report.read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--sla-ms", "50"], "PROVIDER:REGION@MS"),
        (["--sites", "aws:a@10", "--sites", "gcp:b", "--sla-ms", "50"], "PROVIDER:REGION@MS"),
        (["--sites", "aws:a@fast"], "number of milliseconds"),
        (["--sla-ms", "0"], "sla-ms"),
    ],
)
def test_a_bad_latency_is_told_in_one_line(tmp_path, arguments, said):
    trace_of(tmp_path, [])
    ran = CliRunner().invoke(cli, ["replay", str(tmp_path / "trace.csv"), *arguments])
    assert ran.exit_code != 0
    assert said in ran.output + str(ran.exception or "")


def told(*arguments: str) -> dict:
    ran = CliRunner().invoke(cli, [*arguments, "--json"])
    assert ran.exit_code == 0, ran.output
    return json.loads(ran.stdout)
