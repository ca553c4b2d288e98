import pytest

from app.domain.price_books import AWS
from app.domain.prices import GB
from app.domain.saving_costs import fee, owed, spent
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


def test_a_change_costs_its_requests_and_what_leaving_early_costs():
    assert fee(AWS, HOT, IR, GB, 5) == pytest.approx((0.02 + 0.0004 + 0.01) / 1000)
    left = 60 * 0.004 / 30
    assert fee(AWS, IR, HOT, GB, 30) == pytest.approx((0.005 + 0.01 + 0.0004) / 1000 + 0.03 + left)
    assert owed(AWS.storage_class(IR), GB, 30) == pytest.approx(left)


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
