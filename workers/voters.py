"""Lets voters learn from how objects were read, in a job of their own before a plan (step: learn).

The same code as the replay: what is learned and asked is ml's, what classes cost is app/lab/ladders.py's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from sqlalchemy.orm import Session

from app.db import accesses, daily, jobs, model_files, models, opinions
from app.db import placement as store
from app.db.opinions import LEAST_DAYS, NAME
from app.db.placement import World
from app.db.session import session_scope
from app.db.tables import Json
from app.domain.placement_problem import SiteOption
from app.domain.price_documents import fingerprint
from app.domain.states import JOB_FINAL
from app.domain.votes import Speaker, patience
from app.errors import NotEnoughData
from app.lab.ladders import classes, ladder, managed_class
from app.queue import TaskName
from ml.tiering_past import Past
from ml.tiering_types import REFIT_DAYS
from workers import features
from workers.base import JobContext, ring_all
from workers.bench import FORM, Bench

if TYPE_CHECKING:
    from ml.tiering_votes import Panel, Voters

SEED = 20_260_101
HORIZON_DAYS = 90.0
"""At least the longest minimum duration of a class that answers at once."""
WAIT_S = 30.0
"""A plan looks again after this long even if nobody woke it."""
LIBRARIES = ("numpy", "numba")


def due(session: Session, world: World) -> str:
    """Why the voters should learn before the next plan; empty when they need not, or cannot yet."""
    if accesses.known_days(session, world.now) < LEAST_DAYS or not any(map(_learnable, world.options)):
        return ""
    champion = models.champion(session, NAME)
    if champion is None or champion.data_to is None:
        return "they have not learned yet"
    if not model_files.has(session, champion, FORM):
        return "what they learned is gone"
    if champion.params["prices"] != _prices(world):
        return "prices or classes changed"
    return "a month has passed" if world.now - champion.data_to >= timedelta(days=REFIT_DAYS) else ""


class Lesson(NamedTuple):
    """What a plan waits for before it asks the voters, and why it goes on although they should learn; "" if not."""

    waits: str = ""
    unlearned: str = ""


def lesson(session: Session, job: JobContext, world: World) -> Lesson:
    """Whether the voters learn first: where it is due, once for a plan, and not soon after lessons that failed."""
    mine = [child for child in jobs.children(session, job.id) if child.kind == TaskName.TRAIN]
    if mine and mine[-1].state not in JOB_FINAL:
        return Lesson(waits=f"the voters learn in job {mine[-1].id}")
    why = due(session, world)
    failed = opinions.failed_lessons(session) if why else []
    again = failed[0].finished_at + patience(len(failed)) if failed and failed[0].finished_at else None
    if again and (mine or again > datetime.now(UTC)):
        error, times = failed[0].error or {}, f", and {len(failed) - 1} before it" if len(failed) > 1 else ""
        told = f"{why}, but job {failed[0].id} failed{times}: {error.get('detail') or failed[0].reason}"
        return Lesson(unlearned=f"{told}; plans let the voters learn again from {again:%Y-%m-%d %H:%M} UTC")
    return Lesson(waits=f"the voters learn first: {why}" if why and not mine else "")


def learn_first(job: JobContext, why: str) -> None:
    """Lets the voters learn in a job of their own, unless they do already; the plan goes on when it has ended."""
    with job.postponing(why, WAIT_S) as session:
        known = [child for child in jobs.children(session, job.id) if child.kind == TaskName.TRAIN]
        args = {"model": NAME} | {name: job.args[name] for name in ("as_of",) if name in job.args}
        child = (
            None
            if known
            else jobs.submit(
                session, TaskName.TRAIN, args, actor=job.actor, request_id=job.request_id, parent_id=job.id
            )
        )
        bell = jobs.bell(child) if child else None
    ring_all([bell])


def learn(job: JobContext) -> Json:
    """Learns which rule speaks at each site, what each voter goes by, and the cohorts' means."""
    now = features.as_of(job)
    with session_scope() as session:
        world = store.world(session, now)
        lessons = Lessons.of(session, now)
    if lessons.past.today < LEAST_DAYS or not lessons.sizes:
        days = lessons.past.today
        raise NotEnoughData(f"{days} days of accesses are known; voters learn from {LEAST_DAYS} at least")
    voters, metrics = _teach(job, world, lessons)
    result: Json = {}
    with job.finishing(result) as session:
        result |= _save(session, world, voters, metrics, lessons.past.today, job.id)
    return result


class Lessons(NamedTuple):
    """What voters learn from: the days of a sample of objects, their sizes, and the cohorts' names."""

    past: Past
    sizes: Sequence[int]
    groups: Sequence[str]

    @classmethod
    def of(cls, session: Session, now: datetime) -> Lessons:
        """Read from the access history."""
        subjects = daily.sample(session)
        groups = sorted({subject.group for subject in subjects})
        return cls(daily.past(session, now, subjects, groups), [subject.size for subject in subjects], groups)

    def times(self, k: float) -> Lessons:
        """The same with k times as many reads."""
        return self._replace(past=self.past.times(k))


def _teach(job: JobContext, world: World, lessons: Lessons) -> tuple[Voters, Json]:
    """What is learned at each site, and what its rules would have cost."""
    from ml.tiering_grid import whole
    from ml.tiering_past import Means
    from ml.tiering_votes import Voters

    grid, size = whole(lessons.past), np.array([max(size, 1) for size in lessons.sizes], np.int64)
    panels: dict[str, Panel] = {}
    metrics: Json = {}
    options = [option for option in world.options if _learnable(option)]
    for number, option in enumerate(options):
        job.progress(number, len(options), "sites")
        twin = next((o.name for o in options[:number] if _digest(o) == _digest(option)), None)
        if twin is not None:
            panels[option.name], metrics[option.name] = panels[twin], metrics[twin]
        else:
            panels[option.name], metrics[option.name] = _learn_site(grid, option, size)
    return Voters(panels, Means.of(lessons.past, lessons.groups), HORIZON_DAYS), metrics


def supposing(job: JobContext, world: World, times: float) -> Bench | None:
    """Voters who have learned what is supposed: the world's prices, and so many times the reads. Nothing is kept.

    None where nobody speaks of things as they are, or too little is known to learn from.
    """
    with session_scope() as session:
        who, lessons = opinions.voting(session, world.now), Lessons.of(session, world.now)
    if who.model_id is None or lessons.past.today < LEAST_DAYS or not lessons.sizes:
        return None
    voters, _ = _teach(job, world, lessons.times(times))
    speakers = {
        name: Speaker(panel.speaker, panel.votes, panel.stands_for, panel.coldest)
        for name, panel in voters.panels.items()
    }
    return Bench(replace(who, speakers=speakers), voters)


def _learn_site(grid: Any, option: SiteOption, size: Any) -> tuple[Panel, Json]:
    """What was learned of a site's classes, and what its rules would have cost of late, on days unseen by them."""
    from ml.tiering import learn as learn_rules
    from ml.tiering import tried_since
    from ml.tiering_votes import Panel

    offered = set(option.classes)
    managed = managed_class(option.book, offered)
    steps = ladder(option.book, size, managed is not None, offered)
    names = tuple(entry.name for entry in [*classes(option.book, offered), *([managed] if managed else [])])
    today = grid.reads.shape[1] - 1
    gb = size / 2**30
    known = learn_rules(grid, steps, gb, today, HORIZON_DAYS, SEED)
    costs = known.unseen(grid, steps, gb, tried_since(today), today)
    panel = Panel.of(known.guarded(grid, steps, gb, today), names, today, managed is not None)
    return panel, {**costs, "speaks": panel.speaker}


def _save(session: Session, world: World, voters: Voters, metrics: Json, days: int, job_id: int) -> Json:
    sites = {
        name: {
            "name": panel.speaker, "voting": panel.votes, "stands_for": list(panel.stands_for),
            "coldest": panel.coldest, "classes": list(panel.classes),
        }
        for name, panel in voters.panels.items()
    }  # fmt: skip
    spoken = sum(entry["learned"] for entry in metrics.values())
    stayed = sum(entry["stay"] for entry in metrics.values())
    reason = f"over days it had not seen it cost {spoken / stayed:.1%} of staying" if stayed else "nothing to compare"
    added = models.add(
        session,
        NAME,
        algorithm="vote of three",
        data_from=world.now - timedelta(days=days),
        data_to=world.now,
        features=["idle days", "read days in seven", "faded reads", "faded bytes", "days left", "overpaid reads"],
        params={"sites": sites, "prices": _prices(world), "horizon_days": HORIZON_DAYS, "seed": SEED},
        metrics=metrics,
        baselines={
            name: {"stay": entry["stay"], "lifecycle_30_90": entry["lifecycle_30_90"]}
            for name, entry in metrics.items()
        },
        libraries={name: version(name) for name in LIBRARIES},
        reason=reason,
        job_id=job_id,
    )
    model_files.add(session, added, FORM, voters.to_bytes())
    models.promote(session, added, reason)
    return {
        "name": f"{NAME} {added.version}",
        "version": added.version,
        "state": added.state,
        "reason": reason,
        "sites": metrics,
    }


def _learnable(option: SiteOption) -> bool:
    """Whether a site offers two classes at least that answer at once."""
    offered = set(option.classes)
    several = {entry.min_days for entry in option.book.classes if entry.name in offered and not entry.archive}
    return len(several | {option.book.classes[0].min_days}) > 1


def _prices(world: World) -> Json:
    return {option.name: _digest(option) for option in world.options if _learnable(option)}


def _digest(option: SiteOption) -> str:
    said = f"{option.book.as_of} {fingerprint(option.book)} {sorted(option.classes)}"
    return hashlib.sha256(said.encode()).hexdigest()[:16]
