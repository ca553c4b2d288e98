"""A trace by day, and which moves of a replay paid back."""

import numpy as np
import pytest

from app.domain.price_books import AWS
from app.domain.prices import GB
from app.lab.days import Days, by_day
from app.lab.ladders import ladder
from app.lab.payback import paid_back
from app.lab.traces import OPS, Trace
from ml.tiering_grid import prepare
from ml.tiering_types import DELETED, WRITTEN

HOUR = 3_600_000_000


def trace(*rows: tuple[int, str, int]) -> Trace:
    """Rows of hour, op and bytes of one object."""
    hours, ops, sizes = zip(*rows, strict=True)
    n = len(rows)
    return Trace(
        keys=["a"], object=np.zeros(n, np.int64), ts=np.array(hours, np.int64) * HOUR,
        op=np.array([OPS.index(op) for op in ops], np.int8), bytes_read=np.array(sizes, np.int64),
        size=np.zeros(n, np.int64), region=np.zeros(n, np.int32), regions=[""], partial_upload=np.zeros(n, bool),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("one", "other", "stands"), [("PUT", "DELETE", DELETED), ("DELETE", "PUT", WRITTEN), ("PUT", "PUT", WRITTEN)]
)
def test_the_last_of_a_days_events_stands(one, other, stands):
    days = by_day(trace((0, "PUT", 9), (50, one, 9), (60, other, 9), (100, "GET", 9)))
    assert days.grid.event[0].tolist() == [WRITTEN, 0, stands, 0, 0]


def made(reads: list[float], event: dict[int, int] | None = None) -> Days:
    marks = np.zeros((1, len(reads)), np.int8)
    for day, mark in (event or {}).items():
        marks[0, day] = mark
    table = np.array([reads], float)
    return Days.made(prepare(table, table.copy(), marks, np.zeros(1, np.int64)), np.array([GB]))


def judged(days: Days, where: list[int]) -> tuple[int, int]:
    return paid_back(days.grid, ladder(AWS, days.size), np.array([where], np.int8), 0, days.days)


def test_a_move_pays_back_once_the_class_has_saved_more_than_it_cost():
    """1 GB in Standard-IA saves .00035 a day and is owed 30 days of .000417; the change costs .0000114."""
    assert judged(made([0.0] * 40), [0] * 4 + [1] * 36) == (1, 1)
    assert judged(made([0.0] * 20), [0] * 4 + [1] * 16) == (0, 1), "half of its minimum days are still owed"
    assert judged(made([0.0] * 10 + [1.0] * 2 + [0.0] * 28), [0] * 4 + [1] * 36) == (0, 1), "reads ate it up"


def test_each_move_is_judged_until_the_next_and_what_owners_do_is_no_move():
    reads = [0.0] * 50 + [1.0] * 10
    there_and_back = [0] + [1] * 49 + [0] * 10
    assert judged(made(reads), there_and_back) == (2, 2), "the way back pays: ten reads are not retrieved"
    assert judged(made([0.0] * 60, {50: WRITTEN}), [0] + [1] * 49 + [0] * 10) == (1, 1)
    assert judged(made([0.0] * 60, {50: DELETED}), [0] + [1] * 49 + [0] * 10) == (1, 1)
