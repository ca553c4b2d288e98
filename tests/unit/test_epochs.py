"""How often a replay decides."""

import numpy as np
import pytest

from app.domain.price_books import AWS
from app.domain.prices import GB
from app.errors import Invalid
from app.lab.days import by_day
from app.lab.epochs import BY_DAY, Epoch
from app.lab.ladders import ladder
from app.lab.replay import NOTHING
from ml.tiering import rules
from ml.tiering_loops import play
from ml.tiering_types import COMPONENTS, HEAT, NEVER, RATE, TIMEOUTS
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


def class_by_column(parts, *rows, regret):
    """Where an object lies that goes to Standard-IA after two idle days, and back once reads there cost too much."""
    epoch = Epoch(parts=parts)
    days = by_day(trace((0, "PUT", GB), *rows, (24 * 119, "PUT", GB)), epoch=epoch)
    columns, rule = days.days * parts, epoch.rule(rules((TIMEOUTS, 2, NEVER, 0, regret)))
    steps, where = epoch.ladder(ladder(AWS, days.size)), np.zeros((1, columns), np.int8)
    sums = np.zeros((1, COMPONENTS)), np.zeros(columns), np.zeros(1, np.int64)
    at = np.zeros(columns, np.int64)
    play(days.fine, steps, NOTHING, days.size / GB, rule, at, rule, 0, columns, *sums, where)
    return where[0].tolist()


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_what_came_back_rests_for_thirty_days_however_long_a_column_is(parts):
    reads = [(24 * 40, "GET", GB)] * 20
    where = class_by_column(parts, *reads, regret=1)
    back = where.index(0, 10 * parts)
    assert back == 40 * parts + 1
    assert where.index(1, back) == back + 30 * parts


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_reads_that_cost_too_much_are_remembered_for_days_and_not_for_columns(parts):
    """The second read is too much only together with what is left of the first one after ten days."""
    once, twice = [(24 * 50, "GET", GB)], [(24 * 40, "GET", GB), (24 * 50, "GET", GB)]
    assert 0 not in class_by_column(parts, *once, regret=1.2)[10 * parts : 110 * parts]
    assert class_by_column(parts, *twice, regret=1.2).index(0, 10 * parts) == 50 * parts + 1


@pytest.mark.parametrize("parts", [1, 4])
def test_heat_is_the_reads_of_the_last_day_however_long_a_column_is(parts):
    """Two hundred reads at midnight keep an object hot for a day: ln 201 over ln 1001 is 0.77."""
    epoch = Epoch(parts=parts)
    days = by_day(trace((0, "PUT", GB), *[(24 * 40, "GET", GB)] * 200, (24 * 50, "PUT", GB)), epoch=epoch)
    columns, rule = days.days * parts, rules((HEAT, 0, 0, 0, 0))
    where, at = np.zeros((1, columns), np.int8), np.zeros(columns, np.int64)
    sums = np.zeros((1, COMPONENTS)), np.zeros(columns), np.zeros(1, np.int64)
    steps = epoch.ladder(ladder(AWS, days.size))
    play(days.fine, steps, NOTHING, days.size / GB, rule, at, rule, 0, columns, *sums, where)
    hot = [column for column in range(10 * parts, 50 * parts) if where[0, column] == 0]
    assert hot == list(range(40 * parts + 1, 41 * parts + 1))
