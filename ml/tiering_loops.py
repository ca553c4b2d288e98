"""Plays rules day by day, object by object: what they would have done, what they would have cost.

Compiled, since each object's state depends on its day before. A rule sees a day's beginning, never the day.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from ml.tiering_fees import managed_days, stay
from ml.tiering_types import (
    COMPONENTS,
    DELETED,
    EARLY,
    FOLLOW,
    HEAT,
    IDLE_BINS,
    LEAST_OBJECT_DAYS,
    MOVE,
    RATE,
    RATE_BINS,
    RECENT_BINS,
    REQUESTS,
    RETRIEVAL,
    STAY,
    STORAGE,
    TIMEOUTS,
    VALUES,
    WRITTEN,
    Bytes,
    Floats,
    Grid,
    Ints,
    Ladder,
    Rates,
    Rule,
    Signals,
)

HELD_DAYS = 30
"""An object that overpaid reads brought back is not demoted again for so many days."""
REGRET_FADES = 0.95
"""What a day's overpaid reads still count for on the next: fifteen days of memory for the promotion out of regret."""


@njit(cache=True, fastmath=True, error_model="numpy", inline="always")
def by_timeouts(
    idle: int, recent: int, warm: float, cold: float, promote: float, c: int, base: int, coldest: int
) -> int:
    """The class after so many idle days; back when it was read on `promote` of the last seven."""
    wanted = base
    if idle >= cold:
        wanted = coldest
    elif idle >= warm:
        wanted = 1
    if wanted == base or (c != base and wanted < c):
        wanted = c
    if c != base and idle <= 1 and idle < min(warm, cold) and promote > 0 and recent >= promote:
        wanted = base
    return wanted


@njit(cache=True, fastmath=True, error_model="numpy")
def _by_heat(reads: float, coldest: int) -> int:
    """Source 004's rule: heat = min(1, ln(1 + reads of the last day) / ln 1001); hot above 0.7, cold below 0.3."""
    heat = min(1.0, math.log1p(reads) / math.log1p(1000.0))
    if heat > 0.7:
        return 0
    return coldest if heat < 0.3 else 1


@njit(cache=True, fastmath=True, error_model="numpy")
def expected_usd(ladder: Ladder, i: int, b: int, full: float, reads: float, idle: float, days: float) -> float:
    """$ for so many days in a class at these reads a day; idle: days since the managed class saw one."""
    usd = managed_days(ladder, i, reads, idle, days) if b == ladder.managed else days * ladder.day[b, i]
    return float(usd + days * (full * ladder.full[b, i] + reads * ladder.get[b]))


@njit(cache=True, fastmath=True, error_model="numpy")
def by_rate(
    ladder: Ladder, rates: Rates, rule: Rule, k: int, i: int, t: int, c: int, left: int, idle: float, base: int
) -> int:
    """The class of least expected cost over the horizon, the change with its margin included."""
    memory = int(rule.promote[k])
    full, reads, days = rates.full[memory, i, t], rates.reads[memory, i, t], rule.warm[k]
    best, wanted = 1e300, c
    for b in range(len(ladder.get)):
        if b in (c, base) or ladder.may[b, i]:
            usd = expected_usd(ladder, i, b, full, reads, idle if b == c else 0.0, days)
            if b != c:
                usd += rule.cold[k] * (ladder.change[c, b] + ladder.full[c, i] + left * ladder.day[c, i])
            if usd < best:
                best, wanted = usd, b
    return wanted


@njit(cache=True, fastmath=True, error_model="numpy", inline="always")
def worth(table: Floats, cell: int, b: int, fill: float) -> float:
    """The value of a class over the base one, $ a GB, with this share of its minimum days left."""
    return float(table[cell, 2 * b - 2] + (table[cell, 2 * b - 1] - table[cell, 2 * b - 2]) * fill)


@njit(cache=True, fastmath=True, error_model="numpy")
def by_values(
    ladder: Ladder, signals: Signals, rule: Rule, k: int, i: int, t: int, c: int, left: int, gb: float, base: int
) -> int:
    """The class of the least fitted value, the change to it included."""
    wanted, fit, cell = c, signals.fit_at[t], signals.cell[i, t]
    if fit >= 0:
        least = 0.0
        if c != 0 and c != ladder.managed:
            least = worth(signals.tables[fit], cell, c, min(1.0, left / max(ladder.min_days[c] - 1, 1)))
        for b in range(len(ladder.get)):
            if b != c and (b == base or (ladder.may[b, i] and b != 0 and b != ladder.managed)):
                usd = rule.cold[k] * (ladder.change[c, b] + ladder.full[c, i] + left * ladder.day[c, i]) / gb
                if b != base:
                    usd += worth(signals.tables[fit], cell, b, 1.0)
                if usd < least:
                    least, wanted = usd, b
    return wanted


@njit(cache=True, fastmath=True, error_model="numpy")
def by_panel(
    grid: Grid, ladder: Ladder, signals: Signals, rule: Rule, k: int, i: int, t: int, c: int, left: int,
    idle: float, gb: float, by: Rule, base: int, coldest: int,
) -> int:  # fmt: skip
    """Where a RATE, VALUES or VOTE wants an object. by: the rules that the voters of a VOTE stand for."""
    if rule.kind[k] == RATE:
        return by_rate(ladder, signals.rates, rule, k, i, t, c, left, idle, base)
    three = by_values(ladder, signals, rule, k, i, t, c, left, gb, base)
    if rule.kind[k] == VALUES:
        return three
    k = signals.rate_at[t]
    one = by_rate(ladder, signals.rates, by, k, i, t, c, left, idle, base) if by.kind[k] == RATE else c
    k, two = signals.timeouts_at[t], c
    if by.kind[k] == TIMEOUTS:
        two = by_timeouts(grid.idle[i, t], grid.recent[i, t], by.warm[k], by.cold[k], by.promote[k], c, base, coldest)
    if one in (two, three):
        return one
    return two if two == three else c


@njit(cache=True, fastmath=True, error_model="numpy", inline="always")
def overdue(ladder: Ladder, factor: float, i: int, c: int, base: int, left: int, regret: float) -> bool:
    """Whether reads in a colder class have cost `factor` times what coming back takes; 0: it is never asked."""
    back = factor * (ladder.change[c, base] + ladder.full[c, i] + left * ladder.day[c, i])
    return c not in (0, base) and factor > 0 and regret > back


@njit(cache=True, fastmath=True, error_model="numpy", inline="always")
def settled(wanted: int, c: int, base: int, may: bool, back: bool, rested: bool) -> int:
    """Where an object goes. may: the class wanted can pay; back: it is overdue; rested: it was not so of late."""
    if not may and wanted != base:
        wanted = c
    if back:
        wanted = base
    if wanted not in (c, base) and not rested:
        wanted = c
    return wanted


@njit(cache=True, fastmath=True, error_model="numpy", inline="always")
def regretted(regret: float, overpaid: float, parts: int) -> float:
    """What reads in a colder class have cost too much after one more of so many columns of a day."""
    return max(0.0, regret * (REGRET_FADES if parts == 1 else REGRET_FADES ** (1.0 / parts)) + overpaid)


@njit(cache=True, fastmath=True, error_model="numpy")
def _life(
    grid: Grid, ladder: Ladder, signals: Signals, gb: float, rule: Rule, rule_at: Ints, by: Rule, i: int,
    begin: int, last: int, marks: Ints, at_marks: Floats, where: Bytes, usd: Floats,
) -> int:  # fmt: skip
    """Plays, on each day t, rule `rule_at[t]` with one object that stands in class 0 on day `begin`; returns its moves.

    Adds to usd [components], without what is owed on day `last`; sets at_marks [marks] to what had been spent before
    the day of each mark and was owed then, and where [T] if it has that length. The state is kept in plain numbers:
    this loop runs a billion times.
    """
    base, coldest = ladder.base[i], len(ladder.get) - 1 - (ladder.managed == len(ladder.get) - 1)
    day, full, may = ladder.day[:, i].copy(), ladder.full[:, i].copy(), ladder.may[:, i].copy()
    storage, requests, retrieval, move, early = 0.0, 0.0, 0.0, 0.0, 0.0
    rest = HELD_DAYS * ladder.parts
    c, left, since, regret, held, alive, moves, mark = 0, 0, begin, 0.0, -rest, True, 0, 0
    while mark < len(marks) and marks[mark] <= begin:
        mark += 1
    for t in range(begin, last):
        written = grid.event[i, t] == WRITTEN and t > grid.birth[i]
        if written:
            early += left * day[c]
            requests += ladder.put
            c, left, since, regret, alive = 0, 0, t, 0.0, True
        if alive:
            idle = min(grid.idle[i, t], t - since)
            if grid.birth[i] < t and not written:
                k = rule_at[t]
                kind, wanted = rule.kind[k], base if c == 0 else c
                if kind == TIMEOUTS:
                    wanted = by_timeouts(
                        grid.idle[i, t], grid.recent[i, t], rule.warm[k], rule.cold[k], rule.promote[k],
                        wanted, base, coldest,
                    )  # fmt: skip
                elif kind == FOLLOW:
                    wanted = signals.cell[i, t]
                elif kind == HEAT:
                    wanted = _by_heat(grid.reads[i, max(0, t - ladder.parts) : t].sum(), coldest)
                elif kind != STAY:
                    wanted = by_panel(
                        grid, ladder, signals, rule, k, i, t, wanted, left, float(idle), gb, by, base, coldest
                    )
                back = overdue(ladder, rule.regret[k], i, c, base, left, regret)
                if back:
                    held = t
                wanted = settled(wanted, c, base, kind == FOLLOW or may[wanted], back, t - held >= rest)
                if wanted != c:
                    move += ladder.change[c, wanted] + full[c]
                    early += left * day[c]
                    c, left, since, regret, idle = wanted, ladder.min_days[wanted], t, 0.0, 0
                    moves += 1
            reads = grid.reads[i, t]
            asked, taken = reads * ladder.get[c], grid.share[i, t] * full[c]
            storage += day[c] if c != ladder.managed else stay(ladder, i, c, 0.0 if reads > 0 else float(idle))
            requests += asked
            retrieval += taken
            if c not in (0, ladder.managed):
                overpaid = asked + taken - reads * ladder.get[0] - (day[0] - day[c])
                regret = regretted(regret, overpaid, ladder.parts)
            left = max(0, left - 1)
            if grid.event[i, t] == DELETED:
                early += left * day[c]
                c, left, alive = 0, 0, False
        if len(where):
            where[t] = c
        if mark < len(marks) and marks[mark] == t + 1:
            at_marks[mark] = storage + requests + retrieval + move + early + left * day[c]
            mark += 1
    usd[STORAGE] += storage
    usd[REQUESTS] += requests
    usd[RETRIEVAL] += retrieval
    usd[MOVE] += move
    usd[EARLY] += early + left * day[c]
    return moves


@njit(cache=True, fastmath=True, error_model="numpy")
def play(
    grid: Grid, ladder: Ladder, signals: Signals, size_gb: Floats, rule: Rule, rule_at: Ints, by: Rule,
    first: int, last: int, usd: Floats, daily: Floats, moves: Ints, where: Bytes,
) -> None:  # fmt: skip
    """Plays, on each day t from `first` to before `last`, rule `rule_at[t]`; every object begins in class 0.

    Adds to usd [n, components], what is owed at the end included, to daily [T] (what was spent and owed by each day's
    end, added up) and moves [n]; sets where [n, T].
    """
    marks = np.arange(first + 1, last + 1)
    for i in range(len(size_gb)):
        at_marks, begin = np.zeros(len(marks)), max(first, grid.birth[i])
        if begin < last:
            moves[i] += _life(
                grid, ladder, signals, size_gb[i], rule, rule_at, by, i, begin, last, marks, at_marks, where[i], usd[i]
            )
            daily[first:last] += at_marks


@njit(cache=True, fastmath=True, error_model="numpy")
def shadow(
    grid: Grid, ladder: Ladder, signals: Signals, size_gb: Floats, rule: Rule, by: Rule, group: Ints,
    first: int, marks: Ints, out: Floats,
) -> None:  # fmt: skip
    """Plays every rule from a day on, as if it had held since, and adds up what it has cost at each mark.

    marks: days after `first`, ascending; out [rules, marks, groups]: $ spent before the day of the mark and owed then.
    """
    nowhere, usd = np.zeros(0, np.int8), np.zeros(COMPONENTS)
    at_marks = np.zeros(len(marks))
    for k in range(len(rule.kind)):
        rule_at = np.full(marks[-1], k)
        for i in range(len(size_gb)):
            begin = max(first, grid.birth[i])
            if begin < marks[-1]:
                at_marks[:] = 0.0
                _life(
                    grid, ladder, signals, size_gb[i], rule, rule_at, by, i, begin, marks[-1], marks, at_marks,
                    nowhere, usd,
                )  # fmt: skip
                out[k, :, group[i]] += at_marks


@njit(cache=True, fastmath=True, error_model="numpy")
def expected(grid: Grid, fades: Floats, prior_days: Floats, out: Rates) -> None:
    """Gamma–Poisson rates as of each day's beginning, for several memories: (a + p·m) / (b + p), m the cohort's mean.

    A cohort watched for fewer than 200 object-days goes by the mean of all objects. fades [memories]: what a day's
    reads count for on the next. Half a read over twenty days is added to the mean
    (Jeffreys' prior), so that silence in a short log is not taken for certainty.
    """
    n, days = grid.reads.shape
    cohorts = grid.cohort.max() + 1
    for memory in range(len(fades)):
        a, r, b = np.zeros(n), np.zeros(n), np.zeros(n)
        prior, fade = prior_days[memory], fades[memory]
        full, reads, watched = np.zeros(cohorts + 1), np.zeros(cohorts + 1), np.zeros(cohorts + 1)
        for t in range(days):
            full[:], reads[:], watched[:] = 0.0, 0.0, 0.0
            for i in range(n):
                for group in (grid.cohort[i], cohorts):
                    full[group] += a[i]
                    reads[group] += r[i]
                    watched[group] += b[i]
            for i in range(n):
                group = grid.cohort[i] if watched[grid.cohort[i]] >= LEAST_OBJECT_DAYS else cohorts
                mean_full = (full[group] + 0.5) / (watched[group] + 20.0)
                mean_reads = (reads[group] + 0.5) / (watched[group] + 20.0)
                out.full[memory, i, t] = (a[i] + prior * mean_full) / (b[i] + prior)
                out.reads[memory, i, t] = (r[i] + prior * mean_reads) / (b[i] + prior)
                if grid.birth[i] <= t:
                    a[i] = a[i] * fade + grid.share[i, t]
                    r[i] = r[i] * fade + grid.reads[i, t]
                    b[i] = b[i] * fade + 1.0


@njit(cache=True, fastmath=True, error_model="numpy")
def idle_and_recent(grid: Grid) -> None:
    """Fills grid.idle and grid.recent from the reads."""
    n, days = grid.reads.shape
    for i in range(n):
        last = grid.birth[i]
        for t in range(grid.birth[i], days):
            grid.idle[i, t] = t - last
            for day in range(max(0, t - 7), t):
                grid.recent[i, t] += grid.reads[i, day] > 0
            if grid.reads[i, t] > 0 or grid.event[i, t] == WRITTEN:
                last = t


@njit(cache=True, fastmath=True, error_model="numpy")
def cells(grid: Grid, rates: Rates, out: Ints) -> None:
    """The cell of each object on each day: idle days and rate in powers of two, and whether it was read this week."""
    n, days = grid.reads.shape
    for i in range(n):
        for t in range(grid.birth[i], days):
            idle = min(int(math.log2(max(grid.idle[i, t], 1)) * 1.5 + 0.5), IDLE_BINS - 1)
            rate = math.floor(math.log2(max(rates.full[0, i, t] * 30.0, 1e-6)) + 5)
            rate = min(max(rate, 0), RATE_BINS - 1)
            out[i, t] = (idle * RATE_BINS + rate) * RECENT_BINS + min(grid.recent[i, t], RECENT_BINS - 1)
