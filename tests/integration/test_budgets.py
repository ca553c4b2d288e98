"""Budgets of moves: never overspent, free again when a move comes to nothing, settled exactly at the switch."""

from datetime import UTC, datetime
from decimal import Decimal

from app.db import budgets
from app.db.budgets import Cost
from app.db.tables import Budget

NOW = datetime(2026, 5, 1, 23, tzinfo=UTC)
COST = Cost.of(100, Decimal("0.0000000004"), requests=9)
LIMITS = {"bytes_per_day": 250}


def rows(session):
    session.expire_all()
    return {row.unit: (row.reserved, row.spent) for row in session.query(Budget)}


def refused(session, limits, *costs):
    return [bool(refusal) for refusal in budgets.reserve(session, NOW, costs, limits).refusals]


def test_a_limit_is_never_passed(session):
    assert refused(session, LIMITS, COST, COST) == [False, False]
    (refusal,) = budgets.reserve(session, NOW, [COST], LIMITS).refusals
    assert refusal.retry_after_s == 3600
    assert rows(session)["bytes"] == (200, 0)


def test_of_several_those_that_fit_are_reserved(session):
    large = Cost.of(200, Decimal(0), requests=9)
    assert refused(session, LIMITS, COST, large, COST, COST) == [False, True, False, True]
    assert rows(session)["bytes"] == (200, 0)
    assert rows(session)["moves"] == (2, 0)


def test_money_is_rounded_up_to_nano_dollars(session):
    limits = {"usd_per_day": "0.000000001"}
    reserved = budgets.reserve(session, NOW, [COST], limits)
    assert refused(session, limits, COST) == [True]
    budgets.settle(session, NOW, [(reserved.day, COST)])
    assert rows(session)["nano_usd"] == (0, 1)


def test_requests_are_limited_too(session):
    assert refused(session, {"requests_per_day": 17}, COST, COST) == [False, True]


def test_what_is_given_back_is_free_again_and_what_is_settled_is_not(session):
    day = budgets.reserve(session, NOW, [COST], LIMITS).day
    budgets.give_back(session, day, COST)
    assert rows(session)["bytes"] == (0, 0)
    day = budgets.reserve(session, NOW, [COST], LIMITS).day
    budgets.settle(session, NOW, [(day, COST)])
    assert rows(session) == {"bytes": (0, 100), "moves": (0, 1), "nano_usd": (0, 1), "requests": (0, 9)}


def test_without_a_limit_only_what_is_spent_is_counted(session):
    assert budgets.reserve(session, NOW, [COST], {"bytes_per_day": None}).day is None
    budgets.settle(session, NOW, [(None, COST)])
    assert rows(session)["moves"] == (0, 1)
