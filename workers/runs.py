"""A run of the whole cycle: starts each step as a job of its own and waits for it."""

from __future__ import annotations

from sqlalchemy.orm import Session

from app.db import jobs, migration_plans, plans, policies
from app.db.tables import Job, Json
from app.domain.runs import Next, PlanView, Step, next_step, steps_between
from app.domain.states import JobState, PlanState
from app.errors import Permanent
from app.queue import TaskName
from workers.base import JobContext, job_task, ring_all

KINDS = {
    Step.INGEST: TaskName.SCAN,
    Step.FEATURES: TaskName.ROLLUP,
    Step.TRAIN: TaskName.TRAIN,
    Step.PREDICT: TaskName.PREDICT,
    Step.PLAN: TaskName.PLAN,
    Step.MIGRATE: TaskName.MIGRATE,
    Step.ROUTE: TaskName.ROUTE,
}
WAIT_S = 30.0
"""A run looks again after this long even if nobody woke it."""


@job_task(TaskName.RUN)
def run(job: JobContext) -> Json | None:
    """Does the next thing: starts a step, waits, or ends."""
    steps = steps_between(job.args.get("from"), job.args.get("to"))
    with job.saving() as session:
        children = {Step(child.args["step"]): child for child in jobs.children(session, job.id)}
        plan = _plan(session, children.get(Step.PLAN))
        states = {step: JobState(child.state) for step, child in children.items()}
        then = next_step(steps, states, policies.mode(session), plan)
    job.progress(len(states), len(steps), "steps")
    if then.failed:
        child = children[then.failed]
        why = (child.error or {}).get("detail") or child.state
        raise Permanent(f"step {then.failed} did not succeed: {why} (job {child.id})", reason=child.reason)
    if then.ended:
        return {"ended": then.ended, "plan_id": plan.id if plan else None}
    _go_on(job, then, plan)
    return None


def _plan(session: Session, child: Job | None) -> PlanView | None:
    if child is None or not child.result or child.result.get("plan_id") is None:
        return None
    plan = plans.get(session, child.result["plan_id"])
    return PlanView(plan.id, PlanState(plan.state), plan.moves)


def _go_on(job: JobContext, then: Next, plan: PlanView | None) -> None:
    with job.postponing(then.wait or f"waiting for step {then.start}", WAIT_S) as session:
        child = _start(session, job, then.start, plan) if then.start else None
        bell = jobs.bell(child) if child else None
    ring_all([bell])


def _start(session: Session, job: JobContext, step: Step, plan: PlanView | None) -> Job:
    args = {name: value for name, value in job.args.items() if name not in ("from", "to")} | {"step": step}
    if step is Step.MIGRATE and plan:
        return migration_plans.apply(
            session, plan.id, actor=job.actor, request_id=job.request_id, parent_id=job.id, args=args
        )
    return jobs.submit(session, KINDS[step], args, actor=job.actor, request_id=job.request_id, parent_id=job.id)
