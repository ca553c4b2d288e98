"""What each rule would have cost over the history, played in shadow, and which of them speaks from each mark on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ml.tiering_loops import shadow
from ml.tiering_types import Floats, Grid, Ints, Ladder, Rule, Signals

ANCHOR_DAYS = 60
WINDOW_DAYS = 180
GROUPS = 64
ERRORS = 0.5
"""Standard errors by which a rule must beat staying."""
ERRORS_AGAINST_VOTE = 1.0
"""And by which another must beat the vote."""
LEAST_HISTORY_DAYS = 60
"""Before, nothing moves: neither a month of idle days nor what early deletion costs can have been seen."""
LEAST_GAIN = 0.01
PLAIN_GAIN = 0.1
"""Shares of what staying costs that a rule must have saved to begin: the first where it is two standard errors, the
second where it is less, since of many rules one is always lucky. A managed class already follows the reads: to leave it
takes the second. What has begun goes on while it saves anything: to and fro costs more than either."""
ERRORS_TO_BEGIN = 2.0


@dataclass(frozen=True)
class Trials:
    """Dollars that each rule would have spent from each of some days on: [anchor][rule, mark, group]."""

    anchors: Ints
    marks: Ints
    spent: tuple[Floats, ...]

    def before(self, number: int) -> Floats:
        """[rule, group] $ over the window that ends at a mark: from the newest anchor that is old enough."""
        begin = _window_begins(self.marks[number])
        anchor = int(np.searchsorted(self.anchors, begin, side="right")) - 1
        return self.spent[anchor][:, number]

    def beside(self, other: Trials) -> Trials:
        """The trials of more rules."""
        spent = tuple(np.concatenate(pair) for pair in zip(self.spent, other.spent, strict=True))
        return Trials(self.anchors, self.marks, spent)


def _window_begins(marks: Ints) -> Ints:
    """The day from which the window that ends at a mark counts: half of what is known, but the last half year."""
    return np.maximum(0, np.minimum(marks - WINDOW_DAYS, marks // 2))


def try_rules(
    grid: Grid, ladder: Ladder, signals: Signals, size_gb: Floats, tried: Rule, by: Rule, group: Ints, marks: Ints
) -> Trials:
    """Plays every rule from each anchor on, all objects in their first class then, as far as marks need it."""
    begins = _window_begins(marks)
    anchors = np.arange(0, begins[-1] + 1, ANCHOR_DAYS)
    spent = []
    for number, anchor in enumerate(anchors):
        following = anchors[number + 1] if number + 1 < len(anchors) else np.inf
        needed = np.flatnonzero((begins >= anchor) & (begins < following) & (marks > anchor))
        out = np.zeros((len(tried.kind), len(marks), GROUPS))
        if len(needed):
            part = np.zeros((len(tried.kind), len(needed), GROUPS))
            shadow(grid, ladder, signals, size_gb, tried, by, group, anchor, marks[needed], part)
            out[:, needed] = part
        spent.append(out)
    return Trials(anchors, marks, tuple(spent))


def best(trials: Trials, candidates: Ints, voting: Ints) -> Ints:
    """[marks] which candidate to follow from each mark on; the first candidate is staying.

    The vote of three, if it beats staying by half a standard error over the groups of objects; but what would have been
    cheaper than that by a whole one. voting: those of the candidates that are votes; none: any candidate may begin.
    """
    chosen = np.full(len(trials.marks), candidates[0])
    first = voting if len(voting) else candidates
    for number in range(len(trials.marks)):
        cost = trials.before(number)
        stay = cost[candidates[0]]
        score = _score(cost[first] - stay, ERRORS)
        default = int(first[np.argmin(score)]) if score.min() < 0 else int(candidates[0])
        chosen[number] = default
        if len(voting):
            score = _score(cost[candidates] - cost[default], ERRORS_AGAINST_VOTE)
            chosen[number] = candidates[np.argmin(score)] if score.min() < 0 else default
    return chosen


def steady(trials: Trials, wanted: Ints, *, managed: bool) -> Ints:
    """[marks] what speaks from each mark on. wanted: what would by costs alone; rule 0 is staying.

    Nothing begins in a short history, or for too little; what speaks is not silenced while it saves anything. managed:
    a managed class is on offer.
    """
    least = PLAIN_GAIN if managed else LEAST_GAIN
    chosen = wanted.copy()
    for number, mark in enumerate(trials.marks):
        cost = trials.before(number)
        total, rule = cost.sum(axis=1), wanted[number]
        held = chosen[number - 1] if number else 0
        sure = _score((cost[rule] - cost[0])[None], ERRORS_TO_BEGIN)[0] < 0
        enough = total[0] - total[rule] >= (least if sure else PLAIN_GAIN) * total[0]
        if mark < LEAST_HISTORY_DAYS or (held == 0 and not enough):
            chosen[number] = 0
        elif held and rule == 0 and total[held] < total[0]:
            chosen[number] = held
    return chosen


def _score(saved: Floats, errors: float) -> Floats:
    """[rules] dollars more than what they are compared with, and so many standard errors on top; negative: better."""
    spread = saved - saved.mean(axis=1, keepdims=True)
    return np.asarray(saved.sum(axis=1) + errors * np.sqrt((spread**2).sum(axis=1)))


def spread(chosen: Ints, marks: Ints, days: int) -> Ints:
    """[days] what was chosen at the newest mark up to each day; 0 before the first."""
    at = np.searchsorted(marks, np.arange(days), side="right") - 1
    return np.where(at >= 0, chosen[np.maximum(at, 0)], 0)
