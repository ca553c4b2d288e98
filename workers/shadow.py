"""Lets a shadow score a sample beside the champion, and judges it on what then happened (step: predict)."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import structlog
from sqlalchemy.orm import Session

from app.db import accesses, model_files, models, shadows
from app.db.model_files import PACKED, Serving
from app.db.session import session_scope
from app.db.shadows import Outcomes
from app.db.tables import ModelVersion
from app.domain.model_life import ShadowStep, ShadowTime, judge, shadow_step
from app.domain.states import ModelState
from app.errors import ArtifactRefused
from app.settings import get_settings
from ml import judging
from ml.dataset import step_of
from ml.evaluation import Outcome
from ml.features import NAMES
from ml.history import HOUR
from ml.serving import Floats, Packed
from workers.base import JobContext
from workers.features import Vectors
from workers.models import SEED, open_packed, recalibrated

log = structlog.get_logger()
MOST_ROWS = 40_000
"""Scores that are kept of a shadow over its time: at each step of the training a sample of the objects."""
EVER_READ = NAMES.index("access_total")


def attend(job: JobContext, serving: Serving[Packed], vectors: Vectors, p_champion: Floats) -> str | None:
    """The shadow's turn in a pass of predictions; what became of it, if anything. vectors: of all objects.

    Nothing is done while the champion's own file is refused: the comparison would be with something else.
    """
    name = serving.version.name
    with session_scope() as session:
        shadow = models.shadow(session, name)
        packed = _opened(session, shadow) if shadow else None
    if shadow is None or packed is None or serving.refused:
        return None
    _score(job, serving.version, shadow, packed, vectors, p_champion)
    return _judge(job, serving.version, shadow, vectors.as_of)


def _opened(session: Session, shadow: ModelVersion) -> Packed | None:
    if refusal := model_files.refusal(session, shadow):
        log.warning("the shadow does not score", detail=refusal.detail)
        return None
    try:
        packed = open_packed(model_files.read(session, shadow, PACKED))
        return model_files.renewed(session, Serving(shadow, PACKED, packed), recalibrated).opened
    except ArtifactRefused as error:  # of other features than there are now
        models.retire(session, shadow, error.detail)
        return None


def _score(
    job: JobContext,
    champion: ModelVersion,
    shadow: ModelVersion,
    packed: Packed,
    vectors: Vectors,
    p_champion: Floats,
) -> None:
    step = _step(shadow)
    moment = _moment(vectors.as_of)
    with session_scope() as session:
        told = shadows.told(session, shadow.id)
    if told.rows >= MOST_ROWS or (told.last is not None and moment - told.last < step):
        return
    steps = max(1, round(timedelta(seconds=get_settings().shadow_s) / step))
    known = np.flatnonzero(vectors.X[:, EVER_READ] > 0)
    most = max(1, MOST_ROWS // steps)
    rng = np.random.default_rng((SEED, vectors.as_of))
    chosen = np.sort(rng.choice(known, most, replace=False)) if len(known) > most else known
    p = packed.score(vectors.X[chosen]).p_hot
    with job.saving() as session:
        if _still(session, champion, shadow):
            shadows.add(session, shadow.id, moment, vectors.observed.ids[chosen], p, p_champion[chosen])


def _judge(job: JobContext, champion: ModelVersion, shadow: ModelVersion, now: int) -> str | None:
    settings = get_settings()
    limits = ShadowTime(timedelta(seconds=settings.shadow_s), settings.shadow_outcomes)
    horizon = timedelta(hours=int(shadow.metrics["horizon_h"]))
    with session_scope() as session:
        told = shadows.told(session, shadow.id)
        known = min(_moment(now), accesses.clock(session) or _moment(now))
        ripe = shadows.told(session, shadow.id, known - horizon).rows
        if told.first is None or (known - told.first < limits.time and ripe < limits.outcomes):
            return None
        came = shadows.outcomes(session, shadow.id, known - horizon, horizon)
        watched = known - told.first
    step = shadow_step(watched, len(came.read), int(came.read.sum()), limits)
    if step is ShadowStep.WAIT:
        return None
    if step is ShadowStep.GIVE_UP:
        days = watched / timedelta(days=1)
        why = f"in {days:.1f} days too little happened to judge it: {came.read.sum()} of {len(came.read)} were read"
        return _end(job, champion, shadow, passes=False, reason=why, found=None)
    found = _compared(came)
    verdict = judge(found)
    return _end(job, champion, shadow, passes=verdict.passes, reason=f"as shadow {verdict.reason}", found=found)


def _compared(came: Outcomes) -> judging.Comparison:
    return judging.compare(Outcome(came.read > 0, came.object), came.p, came.p_champion, SEED)


def _end(
    job: JobContext,
    champion: ModelVersion,
    shadow: ModelVersion,
    *,
    passes: bool,
    reason: str,
    found: judging.Comparison | None,
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


def _step(shadow: ModelVersion) -> timedelta:
    """Between two scores, as between two cuts of the training."""
    return timedelta(microseconds=step_of(int(shadow.metrics["horizon_h"]) * HOUR, daily=False))


def _moment(microseconds: int) -> datetime:
    return accesses.EPOCH + timedelta(microseconds=microseconds)
