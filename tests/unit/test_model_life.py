"""Where a trained version goes, when a shadow is judged, and which way."""

from __future__ import annotations

from datetime import timedelta
from itertools import product
from typing import Any

import pytest

from app.domain.model_life import (
    LEAST_OF_EACH,
    MARGIN,
    ShadowStep,
    ShadowTime,
    Verdict,
    enter,
    judge,
    retrain_is_due,
    shadow_step,
)
from app.domain.states import MODEL_TRANSITIONS, ModelState, check_transition
from app.errors import Conflict

DAY = timedelta(days=1)
LIMITS = ShadowTime(2 * DAY, 1000)


def compared(**intervals: tuple[float, float]) -> dict[str, Any]:
    """A comparison in which each measure that is not named is equal, within chance."""
    measures = {"auc": (-0.01, 0.01), "pr_auc": (-0.01, 0.01), "log_loss": (-0.01, 0.01), **intervals}
    return {"n": 100, **{name: {"gain": sum(pair) / 2, "interval": list(pair)} for name, pair in measures.items()}}


@pytest.mark.parametrize(("old", "new"), list(product(ModelState, ModelState)))
def test_each_transition_is_allowed_or_refused_by_the_table(old: ModelState, new: ModelState):
    allowed = {
        ("candidate", "shadow"), ("candidate", "champion"), ("candidate", "retired"), ("shadow", "champion"),
        ("shadow", "retired"), ("champion", "retired"), ("retired", "shadow"), ("retired", "champion"),
    }  # fmt: skip
    if (old, new) in allowed:
        check_transition(MODEL_TRANSITIONS, old, new)
    else:
        with pytest.raises(Conflict, match=f"model cannot go from {old} to {new}"):
            check_transition(MODEL_TRANSITIONS, old, new)


def test_equal_within_chance_and_better_pass():
    assert judge(compared()).passes
    better = judge(compared(auc=(0.01, 0.03)))
    assert better.passes
    assert "AUC +0.0200 (+0.0100 to +0.0300)" in better.reason


@pytest.mark.parametrize("measure", ["auc", "pr_auc", "log_loss"])
def test_surely_worse_in_one_measure_does_not_pass_however_good_the_others(measure: str):
    verdict = judge(
        compared(**{"auc": (0.1, 0.2), "pr_auc": (0.1, 0.2), "log_loss": (0.1, 0.2), measure: (-0.2, -0.1)})
    )
    assert not verdict.passes
    assert "worse than the champion on 100 later rows" in verdict.reason


def test_a_model_may_be_judged_by_measures_of_its_own():
    found = {"n": 50, "coverage": {"gain": -0.1, "interval": [-0.2, -0.05]}}
    assert "coverage -0.1000" in judge(found).reason
    assert not judge(found).passes


def test_a_loss_within_the_margin_is_none():
    assert judge(compared(log_loss=(-MARGIN, -MARGIN / 2))).passes
    assert not judge(compared(log_loss=(-MARGIN * 3, -MARGIN * 1.1))).passes


def test_where_a_new_version_goes():
    passed, failed = Verdict(True, "no worse"), Verdict(False, "worse")
    assert enter(None, shadowed=True, has_shadow=False)[0] is ModelState.CHAMPION
    assert enter(failed, shadowed=True, has_shadow=False) == (ModelState.RETIRED, "worse")
    assert enter(passed, shadowed=True, has_shadow=False) == (ModelState.SHADOW, "no worse")
    assert enter(passed, shadowed=True, has_shadow=True)[0] is ModelState.CANDIDATE
    assert enter(passed, shadowed=False, has_shadow=False) == (ModelState.CHAMPION, "no worse")
    assert enter(failed, shadowed=False, has_shadow=False)[0] is ModelState.RETIRED


@pytest.mark.parametrize(
    ("watched", "outcomes", "rarest", "expected"),
    [
        (DAY, 900, 100, ShadowStep.WAIT),
        (2 * DAY, 900, 100, ShadowStep.JUDGE),
        (DAY, 1000, 100, ShadowStep.JUDGE),
        (DAY, 1000, LEAST_OF_EACH - 1, ShadowStep.WAIT),
        (2 * DAY, 1000, LEAST_OF_EACH - 1, ShadowStep.WAIT),
        (6 * DAY, 1000, LEAST_OF_EACH - 1, ShadowStep.GIVE_UP),
        (6 * DAY, 0, 0, ShadowStep.GIVE_UP),
    ],
)
def test_when_a_shadow_is_judged(watched: timedelta, outcomes: int, rarest: int, expected: ShadowStep):
    assert shadow_step(watched, outcomes, rarest, LIMITS) is expected


def test_drift_rings_one_training_at_a_time_and_not_too_often():
    assert retrain_is_due(None, False, DAY)
    assert retrain_is_due(DAY, False, DAY)
    assert not retrain_is_due(DAY / 2, False, DAY)
    assert not retrain_is_due(2 * DAY, True, DAY)
