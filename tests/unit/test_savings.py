import pytest

from app.domain.price_books import AWS
from app.domain.prices import GB, Place
from app.domain.saving_costs import Home, egress, fee, kept_days, owed, spent
from app.domain.savings import EVERYWHERE, Days, Judged, is_demotion, stopped

IA, IR, HOT, MANAGED = "STANDARD_IA", "GLACIER_IR", "STANDARD", "INTELLIGENT_TIERING"


def days(*reads, size=GB, idle=0.0):
    return Days(reads, [count * size for count in reads], idle)


def test_a_class_costs_what_a_bill_would_say():
    """Three days, one of them with two reads of a GB."""
    busy = days(0, 2, 0)
    assert spent(AWS, HOT, GB, busy) == pytest.approx(3 * 0.023 / 30 + 2 * 0.0004 / 1000)
    assert spent(AWS, IA, GB, busy) == pytest.approx(3 * 0.0125 / 30 + 2 * (0.001 / 1000 + 0.01))


def test_a_managed_class_costs_by_idle_days():
    found = spent(AWS, MANAGED, GB, days(0, 0, 1, idle=28))
    assert found == pytest.approx((0.023 + 0.0125 + 0.023) / 30 + 3 * 0.0025 / 1000 / 30 + 0.0004 / 1000)


def home(name, site="aws-us", book=AWS, region="us-east-1"):
    return Home(site, book, Place(book.provider, region), name)


def test_a_change_costs_its_requests_and_what_leaving_early_costs():
    assert fee(home(HOT), home(IR), GB, 5) == pytest.approx((0.02 + 0.0004 + 0.01) / 1000)
    left = 60 * 0.004 / 30
    assert fee(home(IR), home(HOT), GB, 30) == pytest.approx((0.005 + 0.01 + 0.0004) / 1000 + 0.03 + left)
    assert owed(AWS.storage_class(IR), GB, 30) == pytest.approx(left)


def test_leaving_early_is_no_part_of_the_fee_where_another_account_counts_it():
    """Out of IA after 10 days: the transition (0.02 + 0.001 + 0.01)/1000 and 0.01 of retrieval, not 20 days of IA."""
    assert fee(home(IA), home(IR), GB, 10, is_owed=True) == pytest.approx(0.010031)
    assert fee(home(IA), home(IR), GB, 10) == pytest.approx(0.010031 + 20 * 0.0125 / 30)


def test_a_move_between_sites_costs_a_copy_even_within_a_region():
    """A GB in 128 parts and 2 requests around them: 130 PUTs, 3 + 2 looks, a thousandth of a LIST; no egress."""
    made = fee(home(HOT), home(HOT, "other"), GB, 5)
    assert made == pytest.approx((130 * 0.005 + 5 * 0.0004 + 0.005 / 1000) / 1000)


def test_egress_goes_by_where_the_readers_are():
    """3 GB: one within the region, one to another region of the provider, one to nobody knows where."""
    regions = {"eu-west-1": Place("aws", "eu-west-1"), "us-east-1": Place("gcp", "us-east-1")}
    read = {"us-east-1": GB, "eu-west-1": GB, "": GB}
    assert egress(home(HOT), regions, read) == pytest.approx(0 + 0.02 + 0.09)


@pytest.mark.parametrize(
    ("since", "until", "stands", "prepaid", "days"),
    [(0, 10, 2.5, 0, 2.5), (2, 10, 2.5, 0, 0.5), (3, 10, 2.5, 0, 0), (0, 10, 15, 10, 0), (8, 20, 15, 10, 5)],
)
def test_what_a_change_leaves_counts_while_it_stands_and_is_not_paid_for(since, until, stands, prepaid, days):
    assert kept_days(since, until, stands, prepaid) == pytest.approx(days)


def test_what_is_cheaper_to_store_is_a_demotion():
    assert is_demotion(AWS, HOT, IR)
    assert not is_demotion(AWS, IR, IA)


def test_cohorts_that_lost_demote_no_more_and_all_of_them_past_a_share():
    assert stopped({"a": Judged(-5.0, 100.0), "b": Judged(-1.0, 10.0)}) == {}
    one = stopped({"a": Judged(-5.0, 100.0), "b": Judged(1.0, 10.0)})
    assert list(one) == ["b"]
    assert "$1" in one["b"]
    assert EVERYWHERE in stopped({"a": Judged(0.39, 50.0), "b": Judged(0.02, 50.0)})
    assert EVERYWHERE not in stopped({"a": Judged(0.37, 50.0), "b": Judged(0.02, 50.0)})
