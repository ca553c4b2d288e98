"""Which hours of the week are a recurring peak, when it comes next, and whether a copy for its time is worth it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from app.domain.peaks import HOUR, WEEK, WEEKS, Hour, joined, next_peaks, told
from app.domain.placement_limits import roomy, rushes_of
from app.domain.placement_problem import Held
from app.domain.prewarming import begins, prewarm
from app.domain.prices import GB
from app.domain.states import MoveKind
from tests.unit.placement_cases import AWS, AZURE, DIRECT, GCP, ROUTED, item

NOW = datetime(2026, 6, 3, 9, 20, tzinfo=UTC)
"""A Wednesday."""
MONDAY = datetime(2026, 6, 8, 8, tzinfo=UTC)
"""The next one, at eight."""
BERLIN, KOLKATA = ZoneInfo("Europe/Berlin"), ZoneInfo("Asia/Kolkata")


def weekly(first, hours=2, reads=200, weeks=WEEKS, region="eu-west-1", size=GB):
    """Reads in the hours from `first` on, in so many weeks before."""
    return [
        Hour(first - week * WEEK + step * HOUR, region, reads, reads * size)
        for week in range(1, weeks + 1)
        for step in range(hours)
    ]


def found(hours, now=NOW, within=WEEK, background=0.0):
    mean = sum(hour.reads for hour in hours) / (WEEKS * 168) + background
    return next_peaks(hours, mean, now, within)


def test_a_weekly_peak_is_expected_at_its_next_time_with_its_mean():
    (peak,) = found(weekly(MONDAY))
    assert (peak.begins, peak.ends, peak.weeks, peak.hours) == (MONDAY, MONDAY + 2 * HOUR, 4, 2)
    assert peak.reads == pytest.approx(400)
    assert peak.demand.bytes == pytest.approx(400 * GB * 12)
    assert [entry.region for entry in peak.demand.regions] == ["eu-west-1"]


def test_three_weeks_of_four_are_enough_and_two_are_not():
    (peak,) = found(weekly(MONDAY, weeks=3))
    assert (peak.weeks, peak.reads) == (3, pytest.approx(300))
    assert found(weekly(MONDAY, weeks=2)) == []


def test_a_daily_peak_is_seven_and_the_next_one_is_tomorrow():
    hours = [hour for day in range(7) for hour in weekly(MONDAY + timedelta(days=day), hours=1)]
    peaks = sorted(found(hours), key=lambda peak: peak.begins)
    assert len(peaks) == 7
    assert peaks[0].begins == datetime(2026, 6, 4, 8, tzinfo=UTC)
    assert [peak.begins for peak in found(hours, within=timedelta(days=1))] == [peaks[0].begins]


def test_a_peak_over_the_end_of_the_week_is_one():
    sunday = datetime(2026, 6, 7, 22, tzinfo=UTC)
    (peak,) = found(weekly(sunday, hours=5))
    assert (peak.begins, peak.ends, peak.weeks) == (sunday, sunday + 5 * HOUR, 4)


def test_what_is_always_read_has_no_peak():
    hours = weekly(MONDAY - 5 * timedelta(days=1), hours=168, reads=50)
    assert found(hours) == []
    assert found(weekly(MONDAY, reads=40), background=40) == []


def test_the_hour_that_goes_on_is_neither_seen_nor_planned_for():
    hours = weekly(NOW.replace(minute=0), hours=1)
    (peak,) = next_peaks([*hours, Hour(NOW.replace(minute=0), "x", 10**6, 0)], 1.2, NOW, WEEK + HOUR)
    assert peak.begins == NOW.replace(minute=0) + WEEK


def test_what_comes_later_changes_nothing():
    hours = weekly(MONDAY)
    later = [Hour(NOW + 5 * HOUR + step * HOUR, "eu-west-1", 1000, 0) for step in range(100)]
    assert next_peaks([*hours, *later], 1.0, NOW, WEEK) == next_peaks(hours, 1.0, NOW, WEEK)


def test_weeks_that_differ_make_the_peak_less_sure():
    (same,) = found(weekly(MONDAY))
    mixed = [replace(hour, reads=hour.reads * (4 if hour.begins < NOW - 2 * WEEK else 1)) for hour in weekly(MONDAY)]
    (other,) = found(mixed)
    assert other.demand.shape < same.demand.shape


def test_peaks_that_follow_one_another_are_one_with_the_reads_of_both():
    other = weekly(MONDAY + 4 * HOUR, reads=100, region="us-east-1")
    two = found([*weekly(MONDAY), *other])
    assert joined(two, 2 * HOUR) == two, "two hours lie between them"
    (one,) = joined(two[::-1], 2 * HOUR + timedelta(seconds=1))
    assert (one.begins, one.ends) == (MONDAY, MONDAY + 6 * HOUR)
    assert one.reads == pytest.approx(sum(peak.reads for peak in two)) == pytest.approx(600)
    assert [(entry.region, entry.bytes * 6 / 24) for entry in one.demand.regions] == [
        ("eu-west-1", pytest.approx(400 * GB)), ("us-east-1", pytest.approx(200 * GB)),
    ]  # fmt: skip


def best(*given):
    """The way that saves most; None where there is none."""
    return next(iter(prewarm(*given)), None)


def peak_of(region, reads=200, size=GB):
    return found(weekly(MONDAY, reads=reads, region=region, size=size))[0]


def test_a_copy_near_the_readers_is_made_before_the_peak_and_removed_after_it():
    at_gcp = item(size=GB)
    peak = peak_of("europe-west1")
    decision = best((AWS, AZURE, GCP), at_gcp, peak, NOW)
    copy, remove = decision.moves
    assert (copy.kind, copy.from_site, copy.to_site, copy.to_class) == (MoveKind.COPY, "aws-eu", "gcp-eu", "STANDARD")
    assert (remove.kind, remove.from_site) == (MoveKind.REMOVE, "gcp-eu")
    assert copy.times.not_before == begins(peak, GB) < copy.times.ready_by == peak.begins < copy.times.useful_until
    assert remove.times.not_before == peak.ends == copy.times.useful_until
    # 400 GB from AWS to another cloud at $0.09, of which one is paid all the same, for the copy
    assert decision.today_cost.egress == pytest.approx(36.0, rel=0.01)
    assert decision.cost.total < 0.2
    assert "Mon 08 Jun 08:00 to 10:00 UTC, 400 reads expected, busy in 4 of 4 weeks" in decision.reason


def test_a_peak_that_does_not_pay_its_copy_changes_nothing():
    assert best((AWS, AZURE, GCP), item(size=GB), peak_of("europe-west1", size=GB // 1000), NOW) is None


def test_readers_who_go_to_the_address_gain_nothing_from_a_copy_elsewhere():
    assert best((AWS, AZURE, GCP), item(size=GB, rules=DIRECT), peak_of("europe-west1"), NOW) is None


def test_a_class_without_retrieval_fees_for_the_time_of_the_peak_and_back():
    cold = item(size=GB, rules=DIRECT, held=(Held("aws-eu", "GLACIER_IR", 200.0, True),))
    decision = best((AWS,), cold, peak_of("eu-west-1"), NOW)
    there, back = decision.moves
    assert (there.kind, there.to_class, back.kind, back.to_class) == (
        MoveKind.CLASS, "STANDARD", MoveKind.CLASS, "GLACIER_IR",
    )  # fmt: skip
    assert back.times.not_before == there.times.useful_until
    assert decision.cost.total < decision.today_cost.total / 10


def test_residency_and_diversity_hold_for_a_copy_of_an_hour_too():
    kept = replace(ROUTED, sites=frozenset({"aws-eu", "azure-we"}))
    decision = best((AWS, AZURE, GCP), item(size=GB, rules=kept), peak_of("europe-west1"), NOW)
    assert decision is None or decision.moves[0].to_site == "azure-we"


def test_what_cannot_be_there_in_time_is_not_begun():
    peak = peak_of("europe-west1")
    assert best((AWS, AZURE, GCP), item(size=GB), peak, peak.begins - timedelta(minutes=30)) is not None
    assert best((AWS, AZURE, GCP), item(size=5000 * GB), peak, peak.begins - timedelta(hours=3)) is None


def test_local_hours_stay_peaks_when_the_clocks_change():
    """Eight o'clock in Berlin: 06:00 UTC in summer time, which ends on 25 October 2026, 07:00 after it."""
    mondays = [datetime(2026, 10, day, 6, tzinfo=UTC) for day in (5, 12, 19)]
    mondays += [datetime(2026, 10, 26, 7, tzinfo=UTC), datetime(2026, 11, 2, 7, tzinfo=UTC)]
    hours = [Hour(monday + step * HOUR, "eu-west-1", 200, 200 * GB) for monday in mondays for step in range(2)]
    before, after = (datetime(2026, 10, day, 9, tzinfo=UTC) for day in (20, 30))

    (peak,) = next_peaks(hours[:6], 1.0, before, WEEK, BERLIN)
    assert (peak.begins, peak.ends) == (mondays[3], mondays[3] + 2 * HOUR), "an hour later than a week after the last"
    assert "Mon 26 Oct 08:00 to 10:00 Europe/Berlin, 300 reads" in told(peak)
    (by_utc,) = next_peaks(hours[:6], 1.0, before, WEEK)
    assert by_utc.begins == mondays[3] - HOUR

    (peak,) = next_peaks(hours[:8], 1.0, after, WEEK, BERLIN)
    assert (peak.begins, peak.weeks, peak.reads) == (mondays[4], 4, pytest.approx(400))
    assert peak.demand.shape == pytest.approx(1600), "weeks that are all the same, though one is another hour"
    (by_utc,) = next_peaks(hours[2:10], 1.0, mondays[4] + 3 * HOUR, WEEK) or (None,)
    assert by_utc.begins == mondays[4] + WEEK, "only the hour that both have is seen"
    assert by_utc.hours == 1


def test_clocks_that_go_forward_or_back_in_a_peak_make_it_an_hour_shorter_or_longer():
    """Berlin's clocks go from 2 to 3 on 28 March 2027, and from 3 to 2 on 25 October 2026."""
    for day, length in ((datetime(2027, 3, 28, 1, tzinfo=BERLIN), 3), (datetime(2026, 10, 25, 1, tzinfo=BERLIN), 5)):
        starts = [(day - week * WEEK).astimezone(UTC) for week in range(WEEKS + 1)]  # one o'clock on Sundays
        hours = [Hour(start + step * HOUR, "eu-west-1", 100, GB) for start in starts[1:] for step in range(4)]
        (peak,) = next_peaks(hours, 1.0, starts[0] - timedelta(days=2), WEEK, BERLIN)
        assert (peak.begins, peak.hours) == (starts[0], length)
        assert peak.demand.reads == pytest.approx(100 * 24), "as many an hour as ever"


def test_hours_of_a_zone_with_half_hours_and_of_a_now_in_another_zone_are_those_of_the_sums():
    (peak,) = next_peaks(weekly(MONDAY), 1.0, NOW.astimezone(KOLKATA), WEEK, KOLKATA)
    assert (peak.begins, peak.ends, peak.reads) == (MONDAY, MONDAY + 2 * HOUR, pytest.approx(400))


def test_a_copy_is_paid_until_its_grace_is_over():
    peak, grace = peak_of("europe-west1"), timedelta(days=30)
    at_once, later = (best((AWS, AZURE, GCP), item(size=GB), peak, NOW, wait) for wait in (timedelta(0), grace))
    assert later.cost.storage - at_once.cost.storage == pytest.approx(0.02 * 30 / 30.4375, rel=0.02)
    assert later.moves[1].times == at_once.moves[1].times, "it is removed at the same time"
    cold = item(size=GB, rules=DIRECT, held=(Held("aws-eu", "GLACIER_IR", 200.0, True),))
    there, back = (best((AWS,), cold, peak_of("eu-west-1"), NOW, wait).cost for wait in (timedelta(0), grace))
    assert there == back, "a class in place leaves nothing for its grace"


def busy_copy(key, reads, hour=0):
    busy = replace(item(size=GB), key=key)
    (peak,) = found(weekly(MONDAY + hour * HOUR, hours=1, reads=reads, region="europe-west1"))
    return best((AWS, AZURE, GCP), busy, peak, NOW)


def test_copies_for_peaks_keep_to_a_sites_request_rate_what_saves_most_first():
    """A site that may answer a thousand reads an hour, and answers 300 anyhow."""
    gcp = replace(GCP, max_request_rate=1000 / 3600)
    usual = {"gcp-eu": 300 / 3600, "aws-eu": 1e6}
    copies = [busy_copy("small", 200), busy_copy("large", 600), busy_copy("next", 600, hour=1)]
    assert {copy.moves[0].to_site for copy in copies} == {"gcp-eu"}

    def kept(site, usual, rushes=()):
        return sorted(copy.item.key for copy in roomy([[copy] for copy in copies], (AWS, site), usual, rushes))

    assert kept(GCP, usual) == ["large", "next", "small"], "it has no limit"
    assert kept(gcp, {}) == ["large", "next", "small"], "800 at the same time"
    assert kept(gcp, usual) == ["large", "next"], "one hour after the other"
    assert kept(gcp, usual, rushes_of(copies[1])) == ["next"], "which another plan brings already"
    assert kept(replace(gcp, max_request_rate=0.0), {}) == []


def test_a_class_for_a_peak_brings_its_site_no_reads():
    cold = item(size=GB, rules=DIRECT, held=(Held("aws-eu", "GLACIER_IR", 200.0, True),))
    decision = best((AWS,), cold, peak_of("eu-west-1"), NOW)
    full = replace(AWS, max_request_rate=0.01)
    assert roomy([[decision]], (full,), {"aws-eu": 1.0}, ()) == [decision]


def test_what_does_not_fit_at_the_best_site_goes_to_the_next_best():
    peak = peak_of("europe-west1")
    near = replace(GCP, name="gcp-2", latency_ms=70, capacity_bytes=0)
    ways = prewarm((AWS, AZURE, GCP, near), item(size=GB), peak, NOW)
    assert {way.moves[0].to_site for way in ways} >= {"gcp-eu", "gcp-2"}
    assert [way.cost.total for way in ways] == sorted(way.cost.total for way in ways)
    first = ways[0].moves[0].to_site
    slow = [replace(site, max_request_rate=0.0) if site.name == first else site for site in (AWS, AZURE, GCP, near)]
    (taken,) = roomy([ways], slow, {}, ())
    assert taken.moves[0].to_site not in (first, "gcp-2"), "that one is full"
    assert taken is next(way for way in ways if way.moves[0].to_site not in (first, "gcp-2"))
