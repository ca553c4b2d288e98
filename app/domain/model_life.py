"""Decides where a trained version goes and what becomes of a shadow (step: learn).

What is compared stands in plain documents of ml/judging.py: of each measure the gain over the champion on the same
later rows, positive where the newcomer is better, with its paired bootstrap interval.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any

from app.domain.states import ModelState

SHADOWED = frozenset({"tier", "demand"})
"""The models of which a version scores beside the champion before it may replace it."""
WORDS: Mapping[str, str] = {"log_loss": "log loss", "auc": "AUC", "pr_auc": "PR-AUC"}
MARGIN = 0.002
"""A loss that is surely smaller than this in each measure is no reason to keep what is older."""
LEAST_OF_EACH = 10
"""Outcomes of each kind that a judgement needs: read, and not read; where counts are said, read."""
PATIENCE = 3
"""A shadow of which too little has happened is given up after so many times its time."""

Comparison = Mapping[str, Any]


@dataclass(frozen=True)
class Verdict:
    """Whether a newcomer may replace what it was compared with, and why."""

    passes: bool
    reason: str


def judge(found: Comparison) -> Verdict:
    """Passes unless a measure's whole interval says that the newcomer is worse than the champion by the margin."""
    measures = [name for name, gain in found.items() if isinstance(gain, Mapping)]
    worse = [name for name in measures if found[name]["interval"][1] < -MARGIN]
    told = ", ".join(_told(name, found[name]) for name in worse or measures)
    if worse:
        return Verdict(False, f"worse than the champion on {found['n']} later rows: {told}")
    return Verdict(True, f"no worse than the champion on {found['n']} later rows: {told}")


def _told(name: str, gain: Mapping[str, Any]) -> str:
    low, high = gain["interval"]
    return f"{WORDS.get(name, name.replace('_', ' '))} {gain['gain']:+.4f} ({low:+.4f} to {high:+.4f})"


def enter(gate: Verdict | None, *, shadowed: bool, has_shadow: bool) -> tuple[ModelState, str]:
    """Where a trained version goes. gate: None where nothing that can be compared serves.

    shadowed: whether versions of this model are judged as shadows; else the gate alone decides.
    """
    if gate is None:
        return ModelState.CHAMPION, "nothing served before it"
    if not gate.passes:
        return ModelState.RETIRED, gate.reason
    if not shadowed:
        return ModelState.CHAMPION, gate.reason
    if has_shadow:
        return ModelState.CANDIDATE, f"waits until the shadow is judged; {gate.reason}"
    return ModelState.SHADOW, gate.reason


class ShadowStep(StrEnum):
    """What is done with a shadow now."""

    WAIT = "wait"
    """Too little has happened."""
    JUDGE = "judge"
    """Enough has happened."""
    GIVE_UP = "give_up"
    """Too little has happened for so long that it is no use to wait."""


@dataclass(frozen=True)
class ShadowTime:
    """How long a shadow scores: until its time is over, or sooner once so many outcomes are known."""

    time: timedelta
    outcomes: int


def shadow_step(watched: timedelta, outcomes: int, rarest: int, limits: ShadowTime) -> ShadowStep:
    """watched: since its first score; outcomes: of its scores whose horizon is over.

    rarest: of these, those of the kind of which there are fewest: read or not read; where counts are said, read.
    """
    if rarest < LEAST_OF_EACH:
        return ShadowStep.GIVE_UP if watched >= PATIENCE * limits.time else ShadowStep.WAIT
    return ShadowStep.JUDGE if watched >= limits.time or outcomes >= limits.outcomes else ShadowStep.WAIT


def retrain_is_due(since_last: timedelta | None, training: bool, every: timedelta) -> bool:
    """Whether drift may ring a training: none is under way, and the last one began long enough ago."""
    return not training and (since_last is None or since_last >= every)
