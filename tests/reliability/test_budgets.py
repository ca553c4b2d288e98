"""I14: budgets beside a model, through random reservations, settlements, races and crashes: never overspent."""

from __future__ import annotations

import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime, timedelta

from sqlalchemy import select

from app.db import budgets
from app.db.budgets import LIMITS, NANO, NOTHING, Cost
from app.db.session import session_scope
from app.db.tables import Budget
from tests.reliability.mortal import Mortal

STEPS, RUNS, RACERS = 30, 1000, 3
FIRST_DAY = datetime(2030, 1, 1, tzinfo=UTC)


@dataclass
class Model:
    """Two days' budgets, as they must stand in the database."""

    chance: random.Random
    begins: datetime
    limits: dict[str, object]
    held: list[tuple[date, Cost]] = field(default_factory=list)
    spent: Counter[tuple[date, str]] = field(default_factory=Counter)
    crashes: int = 0

    def moment(self) -> datetime:
        return self.begins + timedelta(hours=self.chance.uniform(0, 48))

    def costs(self) -> list[Cost]:
        one = self.chance.randrange
        return [Cost(one(100), one(5), one(20)) for _ in range(one(1, 5))]

    def step(self) -> None:
        self.chance.choice([self.reserve, self.reserve, self.settle, self.give_back, self.race])()
        self.check()

    def reserve(self) -> None:
        now, costs = self.moment(), self.costs()

        def act() -> list[tuple[date, Cost]]:
            with session_scope() as session:
                reserved = budgets.reserve(session, now, costs, self.limits)
                pairs = zip(costs, reserved.refusals, strict=True)
                return [(reserved.day, cost) for cost, refusal in pairs if not refusal]

        self.held += self.perhaps_die(act) or []

    def settle(self) -> None:
        taken = self.some_held()

        def act() -> bool:
            with session_scope() as session:
                budgets.settle(session, self.moment(), taken)
            return True

        if self.perhaps_die(act):
            for day, cost in taken:
                self.held.remove((day, cost))
                self.spent.update({(day, unit): amount for unit, amount in asdict(cost).items()})

    def give_back(self) -> None:
        taken = self.some_held()

        def act() -> bool:
            with session_scope() as session:
                for day, cost in taken:
                    budgets.give_back(session, day, cost)
            return True

        if self.perhaps_die(act):
            for pair in taken:
                self.held.remove(pair)

    def race(self) -> None:
        """Several workers reserve on the same day at once: what fits is set aside, never more."""
        now = self.moment()
        wanted = [self.costs() for _ in range(RACERS)]

        def act(costs: list[Cost]) -> list[tuple[date, Cost]]:
            with session_scope() as session:
                reserved = budgets.reserve(session, now, costs, self.limits)
                pairs = zip(costs, reserved.refusals, strict=True)
                return [(reserved.day, cost) for cost, refusal in pairs if not refusal]

        with ThreadPoolExecutor(RACERS) as pool:
            for taken in pool.map(act, wanted):
                self.held += taken

    def some_held(self) -> list[tuple[date, Cost]]:
        return self.chance.sample(self.held, min(len(self.held), self.chance.randrange(4)))

    def perhaps_die(self, act):
        """What the worker returned; None when it died before its transaction was committed."""
        worker, answers = Mortal(statements=self.chance.randrange(1, 12)), []
        self.crashes += worker.run(lambda: answers.append(act()))
        return answers[0] if answers else None

    def check(self) -> None:
        days = {self.begins.date(), self.begins.date() + timedelta(days=1)}
        with session_scope() as session:
            rows = session.scalars(select(Budget).where(Budget.day.in_(days))).all()
        reserved = {day: sum((cost for held_on, cost in self.held if held_on == day), NOTHING) for day in days}
        for row in rows:
            wanted = (asdict(reserved[row.day])[row.unit], self.spent[row.day, row.unit])
            assert (row.reserved, row.spent) == wanted, (row.day, row.unit)
            limit = self.limits.get(LIMITS[row.unit])
            most = None if limit is None else limit * (NANO if row.unit == "nano_usd" else 1)
            assert most is None or row.reserved + row.spent <= most, "overspent"


def test_budgets_are_never_overspent(clean_database, rounds, seed, figure):
    first = random.randrange(10**9) if seed is None else seed
    runs = crashes = 0
    for number in rounds(RUNS):
        chance = random.Random(first + number)
        limits = {
            "bytes_per_day": chance.choice([None, 300, 2000]),
            "moves_per_day": chance.choice([None, 5, 40]),
            "requests_per_day": chance.choice([None, 100]),
            "usd_per_day": 1e-8,
        }
        model = Model(chance, FIRST_DAY + timedelta(days=2 * number), limits)
        try:
            for _ in range(STEPS):
                model.step()
        except AssertionError:
            print(f"pytest tests/reliability/test_budgets.py --seed {first + number}")
            raise
        runs, crashes = runs + 1, crashes + model.crashes
    figure("I14", f"never overspent in runs of {STEPS} steps, {crashes:,} of them crashes, from seed {first}", runs)
