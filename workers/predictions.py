"""The `predict` task: scores every object with the champion and expects its demand (step: predict)."""

from __future__ import annotations

import numpy as np

from app.db import features as stored_features
from app.db import prediction_batches
from app.db.prediction_batches import Predicted
from app.db.session import session_scope
from app.db.tables import Json
from app.errors import ArtifactRefused
from app.queue import TaskName
from ml import demand
from ml.serving import TIERS, Scores, tier_of
from workers import features, models, shadow
from workers.base import JobContext, job_task

AT_ONCE = 50_000
DAYS = 30


@job_task(TaskName.PREDICT)
def predict(job: JobContext) -> Json:
    """Writes the predictions that changed, with the features that they were made from."""
    with session_scope() as session:
        serving = models.load_serving(session)
    if serving is None:
        return {"objects": 0, "written": 0, "reason": "no model serves yet"}
    if isinstance(serving, ArtifactRefused):
        raise serving
    version, packed = serving.version, serving.opened
    vectors = features.of_all(features.as_of(job))
    observed = vectors.observed
    scores = packed.score(vectors.X)
    tiers = tier_of(scores.p_hot)
    reads, sizes = demand.expect(observed.history, observed.catalogue, vectors.as_of).within(DAYS)
    written = 0
    for start in range(0, len(observed.ids), AT_ONCE):
        block = slice(start, start + AT_ONCE)
        part = Predicted(observed.ids[block], _part(scores, block), reads[block], sizes[block])
        with job.saving() as session:
            changed = prediction_batches.save(session, part, tiers[block], version.id, vectors.as_of)
            rows = np.searchsorted(observed.ids, np.sort(changed))
            stored_features.save(session, observed.ids[rows], vectors.X[rows], vectors.as_of)
        written += len(changed)
        job.progress(min(start + AT_ONCE, len(observed.ids)), len(observed.ids), "objects")
    counts = dict(zip(TIERS, np.bincount(tiers, minlength=len(TIERS)).tolist(), strict=True))
    told = {"refused": serving.refused, "serves": serving.form} if serving.refused else {}
    judged = shadow.attend(job, serving, vectors, scores.p_hot)
    told |= {"shadow": judged} if judged else {}
    return {"objects": len(observed.ids), "written": written, "model_version": version.version, "tiers": counts, **told}


def _part(scores: Scores, block: slice) -> Scores:
    return Scores(scores.p_raw[block], scores.p_hot[block], scores.p_low[block], scores.p_high[block])
