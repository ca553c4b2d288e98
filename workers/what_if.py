"""The what-if task: decides the same objects as they are and under a scenario, and saves nothing but its answer."""

from __future__ import annotations

from dataclasses import dataclass, replace

from app.db import placement as store
from app.db.placement import World
from app.db.session import session_scope
from app.db.tables import Json
from app.domain.comparisons import Comparison, Tally
from app.domain.placement_problem import Item, Problem
from app.domain.what_if import Scenario, read, words
from app.queue import TaskName
from workers import voters
from workers.base import JobContext, job_task
from workers.bench import Bench, Known
from workers.drafts import Draft, decide_block, within_budget
from workers.placement import BLOCK, check_found, read_scope

LEARNED = "the voters have learned anew from what is supposed, for this answer alone"
SCOPE = ("prefix", "keys", "horizon_days", "as_of")


@job_task(TaskName.WHAT_IF)
def what_if(job: JobContext) -> Json:
    """Loads, decides twice and tells the difference. Raises Invalid for a scenario that cannot be, and NotFound."""
    selection, horizon, now = read_scope({name: job.args[name] for name in SCOPE if name in job.args})
    with session_scope() as session:
        world = store.world(session, now)
        total = store.count(session, selection)
        moving = store.moving(session, selection)
    check_found(selection, total)
    bench = Bench.open(world)
    scenario = read(job.args, [site.name for site in world.options], world.policies)
    pair = _Pair.of(world, scenario, horizon, selection.prefix or "", bench)
    pair.today.moving = moving
    if bench and scenario.is_unheard_of:
        supposed = voters.supposing(job, pair.then.world, scenario.reads_times)
        pair.supposing = replace(supposed, alarms=bench.alarms) if supposed else None
    after: int | None = 0
    while after is not None:
        job.progress(min(pair.today.totals.objects, total), total, "objects")
        with session_scope() as session:
            rows = store.rows(session, world, selection, after, BLOCK, asked=bench is not None)
        block = rows.block()
        known = bench.look(now, block.items) if bench and block.items else None
        pair.today.leave_out(block.unplanned)
        if block.items:
            pair.decide(block.items, known)
        after = block.last_id
    job.progress(pair.today.totals.objects, total, "objects")
    told = {"scenario": words(job.args), "horizon_days": horizon, "as_of": now.isoformat()}
    return told | {"notes": pair.notes()} | pair.document()


@dataclass
class _Pair:
    """Two drafts of a plan: as things are, and as they would be."""

    scenario: Scenario
    today: Draft
    then: Draft
    compared: Comparison
    bench: Bench | None
    supposing: Bench | None = None
    """Voters who have learned what is supposed."""

    @classmethod
    def of(cls, world: World, scenario: Scenario, horizon: float, base: str, bench: Bench | None) -> _Pair:
        """Nothing decided yet; base: the prefix that was asked for."""
        changed = replace(world, options=scenario.sites(world.options), policies=scenario.policies)
        current, other = Tally(base=base), Tally(base=base)
        today, then = Draft(world, horizon, totals=current), Draft(changed, horizon, totals=other)
        return cls(scenario, today, then, Comparison(current, other), bench)

    def decide(self, items: tuple[Item, ...], known: Known | None) -> None:
        """Decides a block twice, each time by the voters who know the prices and reads that hold."""
        if self.bench and known:
            items, _ = self.bench.ask(self.today.world, items, known)
        problem = Problem(self.today.world.options, items, self.today.horizon_days)
        decide_block(self.today, problem)
        changed = self.scenario.items(items)
        if self.supposing and known:
            changed, _ = self.supposing.ask(self.then.world, changed, known.times(self.scenario.reads_times))
        otherwise, gone = self.scenario.apply(problem, changed)
        decided = decide_block(self.then, otherwise) if otherwise.items else []
        self.compared.note(problem.items, otherwise.items, gone, decided)

    def notes(self) -> list[str]:
        """What the answer does not say by itself: how voters learned, and how many objects are in neither plan."""
        left, first = self.today.left_out, self.today.unplanned[:1]
        said = [f"{left} objects are left out, such as {key}: {why}" for key, why in first]
        said += [f"{number} objects are left out: {why}" for why, number in self.today.moving.items()]
        return [LEARNED, *said] if self.supposing else said

    def document(self) -> Json:
        """The comparison, both within the day's budget."""
        within_budget(self.today)
        within_budget(self.then)
        ends = ((draft.changes, draft.infeasible) for draft in (self.today, self.then))
        return self.compared.document(*ends)
