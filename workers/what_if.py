"""The what-if task: decides the same objects as they are and under a scenario, and saves nothing but its answer."""

from __future__ import annotations

from dataclasses import replace

from app.db import placement as store
from app.db.session import session_scope
from app.db.tables import Json
from app.domain.comparisons import Comparison, Tally
from app.domain.placement_problem import Problem
from app.domain.what_if import read, words
from app.queue import TaskName
from workers.base import JobContext, job_task
from workers.placement import BLOCK, Draft, check_found, decide_block, read_scope, within_budget

SCOPE = ("prefix", "keys", "horizon_days", "as_of")


@job_task(TaskName.WHAT_IF)
def what_if(job: JobContext) -> Json:
    """Loads, decides twice and tells the difference. Raises Invalid for a scenario that cannot be, and NotFound."""
    selection, horizon, now = read_scope({name: job.args[name] for name in SCOPE if name in job.args})
    with session_scope() as session:
        world = store.world(session, now)
        total = store.count(session, selection)
    check_found(selection, total)
    scenario = read(job.args, [site.name for site in world.options], world.policies)
    base = selection.prefix or ""
    current, other = Tally(base=base), Tally(base=base)
    today = Draft(world, horizon, totals=current)
    changed = replace(world, options=scenario.sites(world.options), policies=scenario.policies)
    then = Draft(changed, horizon, totals=other)
    compared = Comparison(current, other)
    after: int | None = 0
    while after is not None:
        job.progress(min(current.objects, total), total, "objects")
        with session_scope() as session:
            block = store.block(session, world, selection, after, BLOCK)
        if block.items:
            problem = scenario.asked(Problem(world.options, block.items, horizon))
            decide_block(today, problem)
            otherwise, gone = scenario.apply(problem)
            decided = decide_block(then, otherwise) if otherwise.items else []
            compared.note(problem.items, otherwise.items, gone, decided)
        after = block.last_id
    within_budget(today)
    within_budget(then)
    told = {"scenario": words(job.args), "horizon_days": horizon, "as_of": now.isoformat()}
    return told | compared.document((today.changes, today.infeasible), (then.changes, then.infeasible))
