"""How often a replay decides."""

import numpy as np
import pytest

from app.errors import Invalid
from app.lab.days import by_day
from app.lab.epochs import BY_DAY, Epoch
from ml.tiering import rules
from ml.tiering_types import NEVER, RATE, TIMEOUTS
from tests.unit.test_days import trace


@pytest.mark.parametrize(
    ("text", "every", "parts"), [("6h", 1, 4), ("12h", 1, 2), ("24h", 1, 1), ("1d", 1, 1), ("7d", 7, 1), ("90d", 90, 1)]
)
def test_an_epoch_is_a_part_of_a_day_or_whole_days(text, every, parts):
    assert Epoch.parse(text) == Epoch(every, parts)


@pytest.mark.parametrize("text", ["", "5h", "7h", "1h", "36h", "91d", "0d", "d", "1w", "-1d", "1.5d"])
def test_other_epochs_are_refused(text):
    with pytest.raises(Invalid, match="an epoch is"):
        Epoch.parse(text)


def test_epochs_are_counted_with_a_last_one_that_is_cut_off():
    assert [Epoch(every=7).count(15), Epoch(parts=4).count(3), BY_DAY.count(5)] == [3, 12, 5]


def test_between_decisions_nobody_speaks():
    rule, at = Epoch(every=3).at(rules((TIMEOUTS, 7, NEVER, 0, 0)), np.zeros(8, np.int64), 2)
    assert at.tolist() == [1, 1, 0, 1, 1, 0, 1, 1]
    assert rule.regret.tolist() == [0, 0]


def test_times_are_told_in_columns_and_margins_are_not():
    rule = Epoch(parts=4).rule(rules((TIMEOUTS, 7, NEVER, 2, 0), (TIMEOUTS, -1, -1, 0, 0), (RATE, 90, 2, 0, 1)))
    assert rule.warm.tolist() == [28, -4, 360]
    assert rule.cold.tolist() == [NEVER, -4, 2]


def test_columns_of_six_hours_know_what_was_read_earlier_that_day():
    days = by_day(trace((0, "GET", 8), (9, "GET", 4), (50, "GET", 8), (75, "PUT", 8)), epoch=Epoch(parts=4))
    assert days.days == 4
    assert days.fine.reads[0].tolist() == [1, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]
    assert days.fine.share[0][:2].tolist() == [1.0, 0.5]
    assert days.fine.recent[0].tolist() == [0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2]
    assert days.grid.recent[0].tolist() == [0, 1, 1, 2]
    assert days.fine.idle[0][:6].tolist() == [0, 1, 1, 2, 3, 4]
