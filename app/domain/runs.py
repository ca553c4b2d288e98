"""The whole cycle as a list of steps: which comes next, given how the earlier ones ended and the mode."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from app.domain.states import JOB_FINAL, JobState, Mode, PlanState
from app.errors import FieldError, Invalid


class Step(StrEnum):
    """The steps of a run, in their order."""

    INGEST = "ingest"
    FEATURES = "features"
    TRAIN = "train"
    PREDICT = "predict"
    PLAN = "plan"
    MIGRATE = "migrate"
    ROUTE = "route"


@dataclass(frozen=True)
class PlanView:
    """What a run must know of the plan it made."""

    id: int
    state: PlanState
    moves: int


@dataclass(frozen=True)
class Next:
    """What the run does now: start a step, wait (`reason` says for what), or end (`reason` says why, if early)."""

    start: Step | None = None
    wait: str | None = None
    failed: Step | None = None
    ended: str | None = None


def steps_between(first: str | None, last: str | None) -> list[Step]:
    """The steps from `first` to `last`, both included; all of them by default. Raises Invalid with pointers."""
    steps = list(Step)
    wrong = [
        FieldError(pointer, f"must be one of {', '.join(steps)}")
        for pointer, name in (("/from", first), ("/to", last))
        if name is not None and name not in steps
    ]
    if wrong:
        raise Invalid("a run has no such step", errors=tuple(wrong))
    start = steps.index(Step(first)) if first else 0
    end = steps.index(Step(last)) if last else len(steps) - 1
    if start > end:
        raise Invalid("the run would end before it starts", errors=(FieldError("/to", f"comes before {first}"),))
    return steps[start : end + 1]


def next_step(steps: list[Step], states: Mapping[Step, JobState], mode: Mode, plan: PlanView | None) -> Next:
    """What to do when the steps started so far are in `states`."""
    for step in steps:
        state = states.get(step)
        if state is None:
            return _may_start(step, mode, plan)
        if state not in JOB_FINAL:
            return Next(wait=f"waiting for step {step}")
        if state is not JobState.SUCCEEDED:
            return Next(failed=step)
    return Next(ended="complete")


def _may_start(step: Step, mode: Mode, plan: PlanView | None) -> Next:
    if step is not Step.MIGRATE:
        return Next(start=step)
    if plan is None:
        return Next(ended="there is no plan to apply")
    if mode in (Mode.OBSERVE, Mode.PAUSED):
        return Next(ended=f"mode {mode}: plan {plan.id} is not applied")
    if plan.state is PlanState.INFEASIBLE:
        return Next(ended=f"plan {plan.id} is infeasible")
    if mode is Mode.APPROVE and plan.state is PlanState.READY and plan.moves:
        return Next(wait=f"plan {plan.id} waits for approval: foretide plan approve {plan.id}")
    return Next(start=step)
