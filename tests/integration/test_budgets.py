"""Budgets of moves: never overspent, free again when a move comes to nothing, settled exactly at the switch."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from app.db import budgets
from app.db.budgets import Cost
from app.db.tables import Budget
from app.errors import OverBudget

NOW = datetime(2026, 5, 1, 23, tzinfo=UTC)
COST = Cost(100, Decimal("0.0000000004"))
LIMITS = {"bytes_per_day": 250}


def rows(session):
    session.expire_all()
    return {row.unit: (row.reserved, row.spent) for row in session.query(Budget)}


def test_a_limit_is_never_passed(session):
    for _ in range(2):
        budgets.reserve(session, NOW, COST, LIMITS)
    with pytest.raises(OverBudget) as caught:
        budgets.reserve(session, NOW, COST, LIMITS)
    assert caught.value.retry_after_s == 3600
    assert rows(session)["bytes"] == (200, 0)


def test_money_is_rounded_up_to_nano_dollars(session):
    day = budgets.reserve(session, NOW, COST, {"usd_per_day": "0.000000001"})
    with pytest.raises(OverBudget):
        budgets.reserve(session, NOW, COST, {"usd_per_day": "0.000000001"})
    budgets.settle(session, day, NOW, COST)
    assert rows(session)["nano_usd"] == (0, 1)


def test_what_is_given_back_is_free_again_and_what_is_settled_is_not(session):
    day = budgets.reserve(session, NOW, COST, LIMITS)
    budgets.give_back(session, day, COST)
    assert rows(session)["bytes"] == (0, 0)
    day = budgets.reserve(session, NOW, COST, LIMITS)
    budgets.settle(session, day, NOW, COST)
    assert rows(session) == {"bytes": (0, 100), "moves": (0, 1), "nano_usd": (0, 1)}


def test_without_a_limit_only_what_is_spent_is_counted(session):
    assert budgets.reserve(session, NOW, COST, {"bytes_per_day": None}) is None
    budgets.settle(session, None, NOW, COST)
    assert rows(session)["moves"] == (0, 1)
