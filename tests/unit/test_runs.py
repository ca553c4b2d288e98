import pytest

from app.domain.runs import Next, PlanView, Step, next_step, steps_between
from app.domain.states import JobState, Mode, PlanState
from app.errors import Invalid

ALL = steps_between(None, None)
DONE = JobState.SUCCEEDED
PLANNED = dict.fromkeys(ALL[:5], DONE)
PLAN = PlanView(3, PlanState.READY, moves=7)


def test_steps_start_one_after_the_other() -> None:
    assert next_step(ALL, {}, Mode.AUTO, None) == Next(start=Step.INGEST)
    assert next_step(ALL, {Step.INGEST: JobState.RUNNING}, Mode.AUTO, None) == Next(wait="waiting for step ingest")
    assert next_step(ALL, {Step.INGEST: DONE}, Mode.AUTO, None) == Next(start=Step.FEATURES)
    assert next_step(ALL, dict.fromkeys(ALL, DONE), Mode.AUTO, PLAN) == Next(ended="complete")


@pytest.mark.parametrize("state", [JobState.FAILED, JobState.DEAD, JobState.CANCELLED])
def test_a_failed_step_fails_the_run(state: JobState) -> None:
    assert next_step(ALL, {Step.INGEST: state}, Mode.AUTO, None) == Next(failed=Step.INGEST)


def test_the_mode_decides_how_far_a_run_goes() -> None:
    assert next_step(ALL, PLANNED, Mode.AUTO, PLAN) == Next(start=Step.MIGRATE)
    assert next_step(ALL, PLANNED, Mode.OBSERVE, PLAN).ended == "mode observe: plan 3 is not applied"
    assert next_step(ALL, PLANNED, Mode.PAUSED, PLAN).ended == "mode paused: plan 3 is not applied"
    assert "waits for approval" in next_step(ALL, PLANNED, Mode.APPROVE, PLAN).wait
    approved = PlanView(3, PlanState.APPROVED, moves=7)
    assert next_step(ALL, PLANNED, Mode.APPROVE, approved) == Next(start=Step.MIGRATE)


def test_part_of_the_cycle_can_be_asked_for() -> None:
    assert steps_between("plan", "migrate") == [Step.PLAN, Step.MIGRATE]
    with pytest.raises(Invalid) as wrong:
        steps_between("plan", "dance")
    assert [e.pointer for e in wrong.value.errors] == ["/to"]
    with pytest.raises(Invalid):
        steps_between("route", "ingest")
