"""Lets a shadow score a sample beside the champion, and judges it on what then happened (step: predict)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic, TypeVar

import numpy as np
import structlog
from sqlalchemy.orm import Session

from app.db import accesses, model_files, models, shadows
from app.db.model_files import Serving
from app.db.session import session_scope
from app.db.shadows import Outcomes
from app.db.tables import ModelVersion
from app.domain.model_life import ShadowStep, ShadowTime, judge, shadow_step
from app.domain.states import ModelState
from app.errors import ArtifactRefused
from app.settings import get_settings
from ml.dataset import step_of
from ml.features import NAMES
from ml.history import Floats, Ints
from ml.judging import Comparison
from workers.base import JobContext
from workers.features import Vectors

log = structlog.get_logger()
SEED = 20_260_101
MOST_ROWS = 40_000
"""Scores that are kept of a shadow over its time: at each step of the training a sample of the objects."""
EVER_READ = NAMES.index("access_total")


T = TypeVar("T")


@dataclass(frozen=True)
class Kind(Generic[T]):
    """What differs between the models of which versions are shadows."""

    horizon: Callable[[ModelVersion], timedelta]
    """After which is known whether what a version said came true."""
    open: Callable[[Session, ModelVersion], T]
    """The scorer of a version whose files are sound. Raises ArtifactRefused for one of other features."""
    say: Callable[[T, Vectors, Ints, timedelta], Floats]
    """What it says of some objects, (objects × numbers)."""
    numbers: int
    """That it says of an object."""
    rarest: Callable[[Ints], int]
    """Of objects by how often they were read: how many are of the kind of which there are fewest."""
    compare: Callable[[Outcomes], Comparison]


@dataclass(frozen=True)
class Beside(Generic[T]):
    """What serves, and what it says of all objects for a horizon, (objects × numbers)."""

    serving: Serving[T]
    said: Callable[[timedelta], Floats]


def attend(job: JobContext, kind: Kind[T], beside: Beside[T], vectors: Vectors) -> str | None:
    """The shadow's turn in a pass of predictions; what became of it, if anything. vectors: of all objects.

    Nothing is done while the champion's own file is refused: the comparison would be with something else.
    """
    champion = beside.serving.version
    with session_scope() as session:
        shadow = models.shadow(session, champion.name)
        opened = _opened(session, kind, shadow) if shadow else None
    if shadow is None or opened is None or beside.serving.refused:
        return None
    chosen = _chosen(kind, shadow, vectors)
    if chosen is not None:
        horizon = kind.horizon(shadow)
        said = kind.say(opened, vectors, chosen, horizon), beside.said(horizon)[chosen]
        with job.saving() as session:
            if _still(session, champion, shadow):
                shadows.add(session, shadow.id, _moment(vectors.as_of), vectors.observed.ids[chosen], *said)
    return _judge(job, kind, champion, shadow, vectors.as_of)


def _opened(session: Session, kind: Kind[T], shadow: ModelVersion) -> T | None:
    if refusal := model_files.refusal(session, shadow):
        log.warning("the shadow does not score", detail=refusal.detail)
        return None
    try:
        return kind.open(session, shadow)
    except ArtifactRefused as error:  # of other features than there are now
        models.retire(session, shadow, error.detail)
        return None


def _chosen(kind: Kind[T], shadow: ModelVersion, vectors: Vectors) -> Ints | None:
    """The objects of which the shadow says something now; None where it is not time."""
    step = _step(kind.horizon(shadow))
    with session_scope() as session:
        told = shadows.told(session, shadow.id)
    if told.rows >= MOST_ROWS or (told.last is not None and _moment(vectors.as_of) - told.last < step):
        return None
    steps = max(1, round(timedelta(seconds=get_settings().shadow_s) / step))
    known = np.flatnonzero(vectors.X[:, EVER_READ] > 0)
    most = max(1, MOST_ROWS // steps)
    rng = np.random.default_rng((SEED, vectors.as_of))
    return np.sort(rng.choice(known, most, replace=False)) if len(known) > most else known


def _judge(job: JobContext, kind: Kind[T], champion: ModelVersion, shadow: ModelVersion, now: int) -> str | None:
    settings = get_settings()
    limits = ShadowTime(timedelta(seconds=settings.shadow_s), settings.shadow_outcomes)
    horizon = kind.horizon(shadow)
    with session_scope() as session:
        told = shadows.told(session, shadow.id)
        known = min(_moment(now), accesses.clock(session) or _moment(now))
        ripe = shadows.told(session, shadow.id, known - horizon).rows
        if told.first is None or (known - told.first < limits.time and ripe < limits.outcomes):
            return None
        came = shadows.outcomes(session, shadow.id, known - horizon, horizon, kind.numbers)
        watched = known - told.first
    step = shadow_step(watched, len(came.reads), kind.rarest(came.reads), limits)
    if step is ShadowStep.WAIT:
        return None
    if step is ShadowStep.GIVE_UP:
        days = watched / timedelta(days=1)
        read = (came.reads > 0).sum()
        why = f"in {days:.1f} days too little happened to judge it: {read} of {len(came.reads)} were read"
        return _end(job, champion, shadow, passes=False, reason=why, found=None)
    found = kind.compare(came)
    verdict = judge(found)
    return _end(job, champion, shadow, passes=verdict.passes, reason=f"as shadow {verdict.reason}", found=found)


def _end(
    job: JobContext,
    champion: ModelVersion,
    shadow: ModelVersion,
    *,
    passes: bool,
    reason: str,
    found: Comparison | None,
) -> str:
    """Promotes or retires the shadow, unless someone has changed either meanwhile; the next candidate follows."""
    with job.saving() as session:
        if not _still(session, champion, shadow):
            return "changed by hand meanwhile"
        row = models.get(session, shadow.name, shadow.version)
        if found is not None:
            row.gate = {**row.gate, "shadow": found}
        if passes:
            models.promote(session, row, reason)
        else:
            models.retire(session, row, reason)
        waiting = models.in_state(session, shadow.name, ModelState.CANDIDATE)
        if waiting:
            models.put_in_shadow(session, waiting[0], f"version {shadow.version} was judged; {waiting[0].reason}")
    return f"version {shadow.version} {row.state}: {reason}"


def _still(session: Session, champion: ModelVersion, shadow: ModelVersion) -> bool:
    """Whether both stand where they stood; nobody changes that until the transaction ends."""
    models.lock(session, champion.name)
    now = models.champion(session, champion.name), models.shadow(session, champion.name)
    return [row.id if row else None for row in now] == [champion.id, shadow.id]


def _step(horizon: timedelta) -> timedelta:
    """Between two scores, as between two cuts of the training."""
    microsecond = timedelta(microseconds=1)
    return step_of(horizon // microsecond, daily=False) * microsecond


def _moment(microseconds: int) -> datetime:
    return accesses.EPOCH + timedelta(microseconds=microseconds)
