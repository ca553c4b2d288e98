"""What each voter says of objects as they stand today: the replay's own decisions, asked for one day.

What was learned of a site's classes is a Panel; all panels with the cohorts' means are one file, Voters.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt
from numba import njit

from ml.serving import pack, unpacked
from ml.tiering import Learned, describe, only, together
from ml.tiering_grid import Now
from ml.tiering_loops import by_panel, by_rate, by_timeouts, by_values, expected_usd, overdue, regretted, settled, worth
from ml.tiering_past import Means, Past
from ml.tiering_types import (
    CELLS,
    RATE,
    STAY,
    TIMEOUTS,
    VALUES,
    VOTE,
    Floats,
    Grid,
    Ints,
    Ladder,
    Rule,
    Signals,
)

VOTERS = ("rate", "timeouts", "values")
SPOKEN, REST = 3, 4
"""Columns of Votes.target behind the voters' own: what is decided, and where an uncertain object goes."""


@dataclass(frozen=True)
class Panel:
    """What was learned of one site's classes."""

    classes: tuple[str, ...]
    """As the arrays of a Ladder are ordered."""
    rule: Rule
    """The one rule that speaks."""
    by: Rule
    """What the voters go by, in the order of VOTERS."""
    table: Floats
    """[CELLS, 2·(k−1)] values of the classes over the first; [0, 0] before the third voter has learned."""
    managed: bool = False
    """Whether the last class is the managed one."""

    @classmethod
    def of(cls, learned: Learned, classes: tuple[str, ...], day: int, managed: bool = False) -> Self:
        """As of the beginning of a day."""
        signals, rule = learned.signals, only(learned.rule, int(learned.rule_at[day]))
        margin = rule if rule.kind[0] in (VALUES, VOTE) else rule._replace(cold=np.ones(1))
        voters = [only(learned.by, int(at[day])) for at in (signals.rate_at, signals.timeouts_at)]
        by = together(together(*voters), margin._replace(kind=np.array([VALUES])))
        fit = int(signals.fit_at[day])
        return cls(classes, rule, by, signals.tables[fit] if fit >= 0 else np.zeros((0, 0)), managed)

    @property
    def votes(self) -> bool:
        """Whether the vote of three decides; else the rule that history showed to be cheaper than it."""
        return int(self.rule.kind[0]) == VOTE

    @property
    def speaker(self) -> str:
        """What decides, in words."""
        return describe(self.rule, 0)

    @property
    def coldest(self) -> str:
        """The last of the classes that are not managed."""
        return self.classes[-2 if self.managed else -1]

    @property
    def stands_for(self) -> tuple[str, str, str]:
        """What each voter goes by, in words."""
        rate, timeouts = (int(kind) for kind in self.by.kind[:2])
        memory = f"reads of some {(60, 15)[int(self.by.promote[0])]} days"
        values = "what classes were worth to objects like it" if len(self.table) else "it has not learned yet"
        idle = describe(self.by, 1) if timeouts == TIMEOUTS else ABSTAINS
        return memory if rate == RATE else ABSTAINS, idle, values


ABSTAINS = "none of its rules would have saved money, so it stays"


class Standing(NamedTuple):
    """How objects stand in their classes today; one element each."""

    c: Ints
    """Class."""
    left: Ints
    """Days left of its minimum."""
    since: Ints
    """Days in it."""
    regret: Floats
    """$ that reads in it have cost beyond the first class, faded."""
    rested: npt.NDArray[np.bool_]
    """Whether it was not brought back out of regret of late."""


@dataclass(frozen=True)
class Votes:
    """target [n, 5]: the class of each voter, of what is decided and of uncertain objects; gain [n, 4]: $ expected.

    A gain is what a voter, or what decides, expects to save over the horizon, the change paid; back [n]: reads have
    cost enough to bring it back, which every voter does.
    """

    target: Ints
    gain: Floats
    back: npt.NDArray[np.bool_]


BELIEF = np.array([0 if kind == RATE else 2 if kind == VALUES else 1 for kind in range(VOTE + 1)])
"""Whose belief a kind of rule shares when it decides alone; a vote has those of its voters."""


def ask(panel: Panel, today: Now, ladder: Ladder, size_gb: Floats, standing: Standing, horizon_days: float) -> Votes:
    """Every voter's class for each object."""
    fit = len(panel.table) > 0
    signals = Signals(
        rates=today.rates,
        cell=today.cell,
        tables=panel.table[None] if fit else np.zeros((1, CELLS, 2)),
        fit_at=np.array([0 if fit else -1]),
        rate_at=np.array([0]),
        timeouts_at=np.array([1]),
    )
    n = len(size_gb)
    votes = Votes(np.zeros((n, 5), np.int64), np.zeros((n, 4)), np.zeros(n, np.bool_))
    _ask(
        today.grid, ladder, signals, size_gb, panel.rule, panel.by, standing, horizon_days,
        votes.target, votes.gain, votes.back,
    )  # fmt: skip
    return votes


@njit(cache=True, fastmath=True, error_model="numpy")
def _ask(
    grid: Grid, ladder: Ladder, signals: Signals, size_gb: Floats, rule: Rule, by: Rule, standing: Standing,
    days: float, target: Ints, gain: Floats, back: npt.NDArray[np.bool_],
) -> None:  # fmt: skip
    coldest, kind = len(ladder.get) - 1 - (ladder.managed == len(ladder.get) - 1), rule.kind[0]
    for i in range(len(size_gb)):
        c, left, base, gb = standing.c[i], standing.left[i], ladder.base[i], size_gb[i]
        idle, recent, stay = grid.idle[i, 0], grid.recent[i, 0], base if c == 0 else c
        here = float(min(idle, standing.since[i]))
        wanted = np.full(5, stay)
        if by.kind[0] == RATE:
            wanted[0] = by_rate(ladder, signals.rates, by, 0, i, 0, stay, left, here, base)
        if by.kind[1] == TIMEOUTS:
            wanted[1] = by_timeouts(idle, recent, by.warm[1], by.cold[1], by.promote[1], stay, base, coldest)
        wanted[2] = by_values(ladder, signals, by, 2, i, 0, stay, left, gb, base)
        if kind == TIMEOUTS:
            wanted[3] = by_timeouts(idle, recent, rule.warm[0], rule.cold[0], rule.promote[0], stay, base, coldest)
        elif kind != STAY:
            wanted[3] = by_panel(grid, ladder, signals, rule, 0, i, 0, stay, left, here, gb, by, base, coldest)
        back[i] = overdue(ladder, rule.regret[0], i, c, base, left, standing.regret[i])
        for voter in range(5):
            at = wanted[voter]
            at = settled(at, c, base, ladder.may[at, i], back[i], standing.rested[i])
            target[i, voter] = at
            if voter < 4 and at != c:
                fee = ladder.change[c, at] + ladder.full[c, i] + left * ladder.day[c, i]
                whose = voter if voter < 3 else BELIEF[kind]
                gain[i, voter] = _gain(ladder, signals, by, i, whose, c, at, left, here, recent, gb, base, days) - fee


@njit(cache=True, fastmath=True, error_model="numpy")
def _gain(
    ladder: Ladder, signals: Signals, by: Rule, i: int, voter: int, c: int, at: int, left: int, idle: float,
    recent: int, gb: float, base: int, days: float,
) -> float:  # fmt: skip
    """$ that a voter expects to save by keeping an object in another class over the horizon, without the change's fee.

    The timeouts believe in no read of what has been idle, and in this week's reads of what they bring back.
    """
    memory = int(by.promote[0]) if by.kind[0] == RATE else 0
    full, reads = signals.rates.full[memory, i, 0], signals.rates.reads[memory, i, 0]
    known = signals.fit_at[0] >= 0 and at != ladder.managed and c != ladder.managed
    if voter == 2 and known:
        table, cell, saved = signals.tables[0], signals.cell[i, 0], 0.0
        if c != 0:
            saved = worth(table, cell, c, min(1.0, left / max(ladder.min_days[c] - 1, 1)))
        if at != 0:
            saved -= worth(table, cell, at, 1.0)
        return float(saved * gb)
    if voter == 1:
        seen = recent / 7.0 if at == base and c != 0 else 0.0
        full, reads = seen * full / max(reads, 1e-12), seen
    return float(
        expected_usd(ladder, i, c, full, reads, idle, days) - expected_usd(ladder, i, at, full, reads, 0.0, days)
    )


def regrets(past: Past, ladder: Ladder, c: Ints, since: Ints) -> Floats:
    """[n] $ that reads have cost beyond the first class, faded, in the days that objects have been in class `c`."""
    out = np.zeros(len(c))
    _regrets(past.object, past.day, past.reads, past.share, ladder, c, past.today - since, past.today, out)
    return out


@njit(cache=True, fastmath=True, error_model="numpy")
def _regrets(
    owner: Ints, day: Ints, reads: Floats, share: Floats, ladder: Ladder, c: Ints, begin: Ints, today: int, out: Floats
) -> None:
    row = 0
    for i in range(len(c)):
        while row < len(owner) and owner[row] == i and day[row] < begin[i]:
            row += 1
        for t in range(max(begin[i], 0), today if c[i] not in (0, ladder.managed) else 0):
            asked, taken = 0.0, 0.0
            if row < len(owner) and owner[row] == i and day[row] == t:
                asked = reads[row] * (ladder.get[c[i]] - ladder.get[0])
                taken = share[row] * ladder.full[c[i], i]
                row += 1
            out[i] = regretted(out[i], asked + taken - (ladder.day[0, i] - ladder.day[c[i], i]), ladder.parts)
        while row < len(owner) and owner[row] == i:
            row += 1


@dataclass(frozen=True)
class Voters:
    """Panels by the names of what they were learned for, and the means that rates lean on."""

    panels: Mapping[str, Panel]
    means: Means
    horizon_days: float

    def to_bytes(self) -> bytes:
        """An npz of plain arrays: nothing in it is ever unpickled."""
        named = {name: [list(panel.classes), panel.managed] for name, panel in self.panels.items()}
        about = {"horizon_days": self.horizon_days, "cohorts": list(self.means.cohorts), "classes": named}
        arrays: dict[str, npt.ArrayLike] = {
            "about": json.dumps(about),
            "full": self.means.full,
            "reads": self.means.reads,
        }
        for number, panel in enumerate(self.panels.values()):
            arrays |= {f"rule{number}": np.array(panel.rule, float), f"by{number}": np.array(panel.by, float)}
            arrays[f"table{number}"] = panel.table
        return pack(arrays)

    @classmethod
    def from_bytes(cls, npz: bytes) -> Self:
        """Check the signature first. Raises ArtifactRefused for bytes that are no voters."""
        with unpacked(npz, "what voters have learned") as arrays:
            about = json.loads(arrays["about"].item())
            panels = {
                name: Panel(
                    tuple(classes),
                    _rule(arrays[f"rule{number}"]),
                    _rule(arrays[f"by{number}"]),
                    arrays[f"table{number}"],
                    managed,
                )
                for number, (name, (classes, managed)) in enumerate(about["classes"].items())
            }
            means = Means(arrays["full"], arrays["reads"], tuple(about["cohorts"]))
            return cls(panels, means, float(about["horizon_days"]))


def _rule(rows: Floats) -> Rule:
    return Rule(rows[0].astype(np.int64), *rows[1:])
