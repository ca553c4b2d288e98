"""Learns from history which rule moves objects between classes best: a vote of three, each of its voters, or staying.

Every rule is played in shadow over the history; on each mark the one that would have cost least speaks until the next,
if it beats staying (ml/tiering_trials.py; design: economics.md, "Which class, when"). A choice at a mark uses nothing
of its day or later.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ml.tiering_loops import cells, expected, play
from ml.tiering_optimum import backward
from ml.tiering_trials import GROUPS, best, spread, steady, try_rules
from ml.tiering_types import (
    CELLS,
    COMPONENTS,
    HALF_LIVES_DAYS,
    IDLE_BINS,
    NEVER,
    PRIOR_DAYS,
    RATE,
    RATE_BINS,
    RECENT_BINS,
    REFIT_DAYS,
    STAY,
    TIMEOUTS,
    VALUES,
    VOTE,
    Floats,
    Grid,
    Ints,
    Ladder,
    Rates,
    Rule,
    Signals,
)

HORIZON_DAYS = 90.0
WORSE = 1.01
"""Rules that would have cost so many times as much as staying do not speak."""
TRIED_DAYS = 90
STAYING = 0
"""The place of staying among the rules of `families`."""
MARK_DAYS = 14
FIT_DAYS = 60
FIRST_FIT_DAYS = 180
"""Before, the third voter has seen too little to be heard."""
TAIL_DAYS = 60
"""The last days of a history only end the sums of the values: what follows them is not known."""
SAMPLE = 1000
"""Objects that rules are tried on; more add time and little knowledge."""
ITERATIONS = 4
PSEUDO_OBJECTS = 30
NOBODY = np.zeros(0, np.int64)
IDLE_DAYS = (1.0, 7.0, 14.0, 30.0, 60.0, 90.0, 180.0, NEVER)


@dataclass(frozen=True)
class Learned:
    """What is known as of each day: the rules, which of them speaks, and what the voters go by."""

    rule: Rule
    rule_at: Ints
    """[T] index into `rule` of the one that speaks."""
    by: Rule
    signals: Signals

    def unseen(self, grid: Grid, ladder: Ladder, size_gb: Floats, first: int, last: int) -> dict[str, float]:
        """$ over some days under the rules as they spoke then, beside staying and the lifecycle of 30 and 90 days.

        The rules of a day have learned from the days before it alone.
        """
        now = np.zeros(grid.reads.shape[1], np.int64)
        tried = {
            "learned": (self.rule, self.rule_at),
            "stay": (rules((STAY, NEVER, NEVER, 0, 0)), now),
            "lifecycle_30_90": (rules((TIMEOUTS, 30, 90, 0, 0)), now),
        }
        n, spent = len(size_gb), {}
        for name, (rule, at) in tried.items():
            usd, daily, moves = np.zeros((n, COMPONENTS)), np.zeros(len(now)), np.zeros(n, np.int64)
            where = np.zeros((n, len(now)), np.int8)
            play(grid, ladder, self.signals, size_gb, rule, at, self.by, first, last, usd, daily, moves, where)
            spent[name] = float(usd.sum())
        return spent

    def guarded(self, grid: Grid, ladder: Ladder, size_gb: Floats, first: int) -> Learned:
        """The same, but what would have cost more than staying of late is not followed.

        It is tried on `first` and every REFIT_DAYS after, on the days from `tried_since` on; where it fails, staying
        speaks until the next trial.
        """
        rule_at = self.rule_at.copy()
        for t in range(first, len(rule_at), REFIT_DAYS):
            if is_worse(self.unseen(grid, ladder, size_gb, tried_since(t), t)):
                rule_at[t : t + REFIT_DAYS] = STAYING
        return replace(self, rule_at=rule_at)

    def name(self, t: int) -> str:
        """What speaks on a day, in words."""
        return describe(self.rule, int(self.rule_at[t]))


def tried_since(t: int) -> int:
    """The first of the days before `t` on which rules are tried: the last three months, in a short history its half."""
    return max(t // 2, t - TRIED_DAYS)


def is_worse(spent: dict[str, float]) -> bool:
    """Whether what was learned cost so much more than staying, over days unseen by it, that it must not speak."""
    return spent["learned"] > WORSE * spent["stay"]


def describe(rule: Rule, k: int) -> str:
    """A rule in words, for explanations."""
    kind = int(rule.kind[k])
    if kind == TIMEOUTS:
        steps = (("warm", rule.warm[k]), ("cold", rule.cold[k]))
        parts = [f"{name} after {days:g} idle days" for name, days in steps if days < NEVER]
        back = {1: ", back on a read", 2: ", back on two read days in seven"}.get(int(rule.promote[k]), "")
        return ", ".join(parts) + back + (", back when reads overpay" if rule.regret[k] else "")
    names = {STAY: "stay", RATE: "rate", VALUES: "values", VOTE: "vote of three"}
    return names[kind]


def rules(*entries: tuple[int, float, float, float, float]) -> Rule:
    """Rules from rows of kind, warm, cold, promote, regret."""
    table = np.array(entries, float).reshape(-1, 5).T.copy()
    return Rule(table[0].astype(np.int64), table[1], table[2], table[3], table[4])


def together(one: Rule, other: Rule) -> Rule:
    """The rules of both."""
    return Rule(
        kind=np.concatenate([one.kind, other.kind]),
        warm=np.concatenate([one.warm, other.warm]),
        cold=np.concatenate([one.cold, other.cold]),
        promote=np.concatenate([one.promote, other.promote]),
        regret=np.concatenate([one.regret, other.regret]),
    )


def only(rule: Rule, k: int) -> Rule:
    """One of the rules as rules of one."""
    at = slice(k, k + 1)
    return Rule(rule.kind[at], rule.warm[at], rule.cold[at], rule.promote[at], rule.regret[at])


def families(horizon_days: float = HORIZON_DAYS) -> Rule:
    """Staying, every pair of timeouts in its ways back, and the rates with each memory and margin."""
    pairs = [(warm, cold) for warm in IDLE_DAYS for cold in IDLE_DAYS if min(warm, cold) < NEVER]
    ways = [(0, 2), (0, 1), (2, 1)]
    timeouts = [(TIMEOUTS, warm, cold, way, regret) for warm, cold in pairs for way, regret in ways]
    timeouts += [(TIMEOUTS, warm, cold, 1, 1) for warm, cold in pairs if min(warm, cold) >= 30]
    rates = [
        (RATE, horizon_days, margin, memory, regret) for memory in (0, 1) for margin in (1, 2) for regret in (2, 1)
    ]
    return rules((STAY, NEVER, NEVER, 0, 1), *timeouts, *rates)


def learn(
    grid: Grid, ladder: Ladder, size_gb: Floats, first: int, horizon_days: float = HORIZON_DAYS, seed: int = 0
) -> Learned:
    """Learns as of every mark, of which day `first` is one. seed: of the sample, its groups and folds."""
    n, days = grid.reads.shape
    chance = np.random.default_rng(seed)
    signals = _signals(grid)
    sample = np.sort(chance.permutation(n)[:SAMPLE])
    part, steps, sizes = _of(grid, sample), _ladder_of(ladder, sample), size_gb[sample]
    group, fold = chance.integers(0, GROUPS, len(sample)), chance.integers(0, 2, len(sample))
    marks = np.arange(first % MARK_DAYS or MARK_DAYS, days, MARK_DAYS)
    by = families(horizon_days)
    own = Signals(_rates_of(signals.rates, sample), signals.cell[sample], *signals[2:])
    spent = try_rules(part, steps, own, sizes, by, by, group, marks)
    voters = [best(spent, np.flatnonzero(np.isin(by.kind, (STAY, kind))), NOBODY) for kind in (RATE, TIMEOUTS)]
    tables, fit_at = _values(part, steps, own.cell, sizes, fold, marks, days)
    rate_at, timeouts_at = (spread(one, marks, days) for one in voters)
    signals = signals._replace(tables=tables, fit_at=fit_at, rate_at=rate_at, timeouts_at=timeouts_at)
    own = own._replace(tables=tables, fit_at=fit_at, rate_at=rate_at, timeouts_at=timeouts_at)
    ways = [(margin, regret) for margin in (1.0, 1.5) for regret in (2, 1)]
    panel = rules(*((kind, 0, margin, 0, regret) for kind in (VALUES, VOTE) for margin, regret in ways))
    spent = spent.beside(try_rules(part, steps, own, sizes, panel, by, group, marks))
    every = together(by, panel)
    wanted = best(spent, np.arange(len(every.kind)), np.flatnonzero(every.kind == VOTE))
    chosen = steady(spent, wanted, managed=ladder.managed >= 0)
    return Learned(every, spread(chosen, marks, days), by, signals)


def _signals(grid: Grid) -> Signals:
    n, days = grid.reads.shape
    rates = Rates(np.zeros((len(PRIOR_DAYS), n, days)), np.zeros((len(PRIOR_DAYS), n, days)))
    expected(grid, 0.5 ** (1 / np.array(HALF_LIVES_DAYS)), np.array(PRIOR_DAYS), rates)
    cell = np.zeros((n, days), np.int64)
    cells(grid, rates, cell)
    none = np.full(days, -1, np.int64)
    return Signals(rates, cell, np.zeros((1, CELLS, 2)), none, np.zeros(days, np.int64), np.zeros(days, np.int64))


def _of(grid: Grid, chosen: Ints) -> Grid:
    return Grid(
        reads=grid.reads[chosen],
        share=grid.share[chosen],
        event=grid.event[chosen],
        birth=grid.birth[chosen],
        idle=grid.idle[chosen],
        recent=grid.recent[chosen],
        cohort=grid.cohort[chosen],
    )


def _rates_of(rates: Rates, chosen: Ints) -> Rates:
    """Of some objects, laid out as the whole is (so does `take`): the loops are compiled anew for every layout."""
    return Rates(full=rates.full.take(chosen, axis=1), reads=rates.reads.take(chosen, axis=1))


def _ladder_of(ladder: Ladder, chosen: Ints) -> Ladder:
    return ladder._replace(
        day=ladder.day.take(chosen, axis=1),
        full=ladder.full.take(chosen, axis=1),
        may=ladder.may.take(chosen, axis=1),
        base=ladder.base[chosen],
        steps_day=ladder.steps_day.take(chosen, axis=1),
    )


def _values(
    grid: Grid, ladder: Ladder, cell: Ints, size_gb: Floats, fold: Ints, marks: Ints, days: int
) -> tuple[Floats, Ints]:
    """Value tables fitted at some of the marks, and which of them is the newest as of each day."""
    some = marks[:: FIT_DAYS // MARK_DAYS]
    when = [int(mark) for mark in some if mark >= FIRST_FIT_DAYS]
    tables = [fit_values(grid, ladder, cell, size_gb, fold, mark) for mark in when]
    at = np.searchsorted(np.array(when, np.int64), np.arange(days), side="right") - 1
    none = np.zeros((1, CELLS, _width(ladder)))
    return np.array(tables) if tables else none, at.astype(np.int64)


def _width(ladder: Ladder) -> int:
    """Two values for each class but the base one and the managed one."""
    return 2 * (len(ladder.get) - 1 - (ladder.managed >= 0))


def fit_values(grid: Grid, ladder: Ladder, cell: Ints, size_gb: Floats, fold: Ints, now: int) -> Floats:
    """[CELLS, 2·(k−1)] what each class is worth over the base class, $ a GB, from the days before `now`.

    Fitted policy iteration: from the clairvoyant's values on, each pass prices the policy of the pass before, on
    objects that its table has not seen.
    """
    trusted = now - min(TAIL_DAYS, now // 3)
    tables = np.zeros((2, CELLS, _width(ladder)))
    little = PSEUDO_OBJECTS * float(np.mean(np.sqrt(size_gb)))
    for iteration in range(ITERATIONS):
        sums, weights = np.zeros_like(tables), np.zeros((2, CELLS))
        backward(grid, ladder, cell, size_gb, fold, tables, iteration == 0, 0, now, trusted, sums, weights)
        tables = np.stack([_smoothed(sums[half], weights[half], little) for half in (0, 1)])
    return _smoothed(sums.sum(axis=0), weights.sum(axis=0), little)


def _smoothed(sums: Floats, weights: Floats, little: float) -> Floats:
    """Means by cell, each drawn towards the one of its idle days and rate, that towards its rate's, that to all's."""
    shape = (IDLE_BINS, RATE_BINS, RECENT_BINS)
    total, weight = sums.reshape(*shape, -1), weights.reshape(*shape, 1)
    overall = total.sum((0, 1, 2)) / max(float(weight.sum()), 1e-12)
    by_rate = (total.sum((0, 2)) + little * overall) / (weight.sum((0, 2)) + little)
    by_idle = (total.sum(2) + little * by_rate) / (weight.sum(2) + little)
    return np.asarray((total + little * by_idle[:, :, None]) / (weight + little)).reshape(CELLS, -1)
