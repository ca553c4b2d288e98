"""The exact rest of a fleet: the few objects that small prices move, solved by HiGHS against the room that is left.

Loaded by workers and benchmarks only. Sets are brought in as the rows' prices ask for them (column generation), so the
program stays small; its prices are those of the linear program over all sets of these objects.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, linprog, milp
from scipy.sparse import csc_array, hstack

from app.domain.placement_kernel import Batch, Choice, Rows, account, cheapest
from app.domain.pricing import Floats

ROUNDS = 30
WIDER = (1.0, 30.0, 1e3, 1e5)
"""How much dearer each row is made in turn for more sets, where those at hand do not fit the room as wholes."""
TOLERANCE = 1e-6
"""What HiGHS takes for kept of a row near 1."""
PENALTY = 1e3
"""What exceeding a row by all of its room costs at first, in the mean cost of all objects together."""


@dataclass(frozen=True)
class Rest:
    """choices: None when nothing fits the room (as far as was found); prices of the linear program, 0 without one.

    short [row]: what the linear program lacks of room, all zero when it fits.
    """

    choices: tuple[Choice, ...] | None
    prices: Floats
    short: Floats


@dataclass
class _Sets:
    """The sets brought in so far: by round the choices, and of the new ones object, cost and usage."""

    batches: Sequence[Batch]
    rows: int
    rounds: list[tuple[Choice, ...]] = field(default_factory=list)
    objects: list[Rows] = field(default_factory=list)
    at_round: list[Rows] = field(default_factory=list)
    cost: list[Floats] = field(default_factory=list)
    usage: list[Floats] = field(default_factory=list)

    def bring(self, prices: Floats) -> int:
        """The sets that are cheapest at some prices; how many of them are new."""
        choices = tuple(cheapest(batch, prices) for batch in self.batches)
        new = [choice.placed for choice in choices]
        for earlier in self.rounds:
            new = [mask & choice.differs(old) for mask, choice, old in zip(new, choices, earlier, strict=True)]
        accounts = [account(batch, choice, self.rows) for batch, choice in zip(self.batches, choices, strict=True)]
        mask = np.concatenate(new)
        count = int(mask.sum())
        if count:
            self.objects.append(np.flatnonzero(mask))
            self.at_round.append(np.full(count, len(self.rounds)))
            self.cost.append(np.concatenate([cost for cost, _ in accounts])[mask])
            self.usage.append(np.concatenate([usage for _, usage in accounts], axis=1)[:, mask])
            self.rounds.append(choices)
        return count


@dataclass(frozen=True)
class _Linear:
    """A linear program's prices, what it lacks of room by row, and its cost in the program's unit."""

    prices: Floats
    short: Floats
    cost: float


@dataclass(frozen=True)
class _Program:
    """The sets as a program's columns, every number brought near 1."""

    objects: Rows
    at_round: Rows
    cost: Floats
    usage: Floats
    room: Floats
    money: float
    units: Floats

    @classmethod
    def over(cls, sets: _Sets, room: Floats) -> _Program:
        """A program over all sets brought in."""
        objects, usage = np.concatenate(sets.objects), np.concatenate(sets.usage, axis=1)
        cost = np.concatenate(sets.cost)
        least = np.full(int(objects.max()) + 1, np.inf)
        np.minimum.at(least, objects, cost)
        above = cost - least[objects]
        money = float(above.mean()) or 1.0
        units = np.maximum(np.abs(room), np.abs(usage).max(axis=1, initial=0.0))
        units = np.where(units > 0, units, 1.0)
        scaled = usage / units[:, None]
        return cls(objects, np.concatenate(sets.at_round), above / money, scaled, room / units, money, units)

    @property
    def once(self) -> Any:
        """[object, set] each object takes one set."""
        _, which = np.unique(self.objects, return_inverse=True)
        count = len(self.objects)
        return csc_array((np.ones(count), (which, np.arange(count))))

    def linear(self, penalty: float) -> _Linear:
        """The linear program; what a row lacks of room costs the penalty."""
        once, rows, count = self.once, len(self.room), len(self.objects)
        solved = linprog(
            np.concatenate([self.cost, np.full(rows, penalty)]),
            A_ub=hstack([csc_array(self.usage), csc_array(-np.eye(rows))], format="csc"),
            b_ub=self.room,
            A_eq=hstack([once, csc_array((once.shape[0], rows))], format="csc"),
            b_eq=np.ones(once.shape[0]),
            method="highs",
        )
        if solved.status != 0:  # numbers too far apart for the solver: as if it had found nothing
            return _Linear(np.zeros(rows), np.full(rows, np.inf), 0.0)
        prices = np.maximum(-solved.ineqlin.marginals, 0.0) * self.money / self.units
        return _Linear(prices, solved.x[count:] * self.units, float(self.cost @ solved.x[:count]))

    def whole(self, room: Floats, seconds: float, gap: float) -> Floats | None:
        """[set] 1 where it is taken; gap: what may be left, relative to the cost. None when nothing was found."""
        once = self.once
        solved = milp(
            self.cost,
            integrality=np.ones(len(self.cost)),
            bounds=Bounds(0, 1),
            constraints=[
                LinearConstraint(once, 1, 1),
                LinearConstraint(csc_array(self.usage), -np.inf, room / self.units),
            ],
            options={"time_limit": max(seconds, 0.1), "mip_rel_gap": gap},
        )
        taken: Floats | None = solved.x
        return taken


def solve_rest(batches: Sequence[Batch], room: Floats, prices: Sequence[Floats], until: float, gap: float) -> Rest:
    """The cheapest sets of these objects that keep to the room: exact over the sets that prices bring in.

    prices: to begin with, the first being the best known; until: when to stop, by time.perf_counter; gap: dollars
    by which the program may stay above its optimum. Objects without a feasible set are left out.
    """
    sets = _Sets(batches, len(room))
    for some in prices:
        sets.bring(some)
    if not sets.objects:
        return Rest(tuple(cheapest(batch, prices[0]) for batch in batches), prices[0], np.zeros(len(room)))
    penalty = PENALTY
    for _ in range(ROUNDS):
        program = _Program.over(sets, room)
        linear = program.linear(penalty * len(program.objects))
        if not sets.bring(linear.prices):
            if not (linear.short > 1e-7 * program.units).any() or penalty >= PENALTY * 1e6:
                break
            penalty *= 1e3
        if time.perf_counter() > until:
            break
    if (linear.short > 1e-6 * program.units).any():
        return Rest(None, linear.prices, linear.short)
    for factor in WIDER:
        program = _Program.over(sets, room)
        relative = float(np.clip(gap / program.money / max(linear.cost, 1e-9), 1e-9, 0.5))
        found = _within(sets, program, room, until, relative)
        if found is not None or time.perf_counter() > until:
            break
        units = program.money / program.units
        for row in range(len(room)):  # whole sets that spare one row, of which the linear program took but a part
            sets.bring(linear.prices + np.where(np.arange(len(room)) == row, factor * units, 0.0))
    return Rest(found, linear.prices, np.zeros(len(room)))


def _within(sets: _Sets, program: _Program, room: Floats, until: float, gap: float) -> tuple[Choice, ...] | None:
    """The program's sets: first with less room by its tolerance, then with all of it, each time again."""
    for tight in (room - TOLERANCE * program.units, room):
        for _ in range(2):
            taken = program.whole(tight, until - time.perf_counter(), gap)
            if taken is None:
                break
            chosen = np.flatnonzero(taken > 0.5)
            excess = (program.usage[:, chosen].sum(axis=1) - program.room) * program.units
            over = excess > 1e-10 * program.units
            if not over.any():
                return _read_off(sets, program, chosen)
            tight = tight - np.where(over, 2 * excess, 0.0)
    return None


def _read_off(sets: _Sets, program: _Program, chosen: Rows) -> tuple[Choice, ...]:
    """The sets taken, as choices of the batches."""
    objects, rounds = program.objects[chosen], program.at_round[chosen]
    result, start = [], 0
    for index, batch in enumerate(sets.batches):
        inside = (objects >= start) & (objects < start + batch.size)
        choice = sets.rounds[0][index]
        for number in np.unique(rounds[inside]):
            some = objects[inside & (rounds == number)] - start
            choice = choice.put(some, sets.rounds[number][index].take(some))
        result.append(choice)
        start += batch.size
    return tuple(result)
