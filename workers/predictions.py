"""The `predict` task: scores every object with the champion and expects its demand (step: predict)."""

from __future__ import annotations

import numpy as np

from app.db import features as stored_features
from app.db import prediction_batches
from app.db.model_files import Serving
from app.db.prediction_batches import Predicted
from app.db.session import session_scope
from app.db.tables import Json
from app.errors import ArtifactRefused
from app.queue import TaskName
from ml.demand_forecast import Forecast, Forecaster, Past
from ml.serving import TIERS, Floats, Scores, tier_of
from workers import demand, features, models, scoring, shadow, shadowed
from workers.base import JobContext, job_task
from workers.features import Vectors
from workers.shadow import Beside

AT_ONCE = 50_000


@job_task(TaskName.PREDICT)
def predict(job: JobContext) -> Json:
    """Writes the predictions that changed, with the features that they were made from."""
    with session_scope() as session:
        serving = models.load_serving(session)
        forecaster = demand.load_serving(session)
    if serving is None:
        return {"objects": 0, "written": 0, "reason": "no model serves yet"}
    if isinstance(serving, ArtifactRefused):
        raise serving
    version, packed = serving.version, serving.opened
    moment = features.as_of(job)
    vectors = features.of_all(moment)
    observed = vectors.observed
    scores = scoring.score(packed, vectors.X)
    tiers = tier_of(scores.p_hot)
    past = demand.past(moment) if isinstance(forecaster, Serving) else None
    ahead = _ahead(forecaster, vectors, past)
    expected = _columns(ahead)
    demand_version = forecaster.version if isinstance(forecaster, Serving) else None
    written = 0
    for start in range(0, len(observed.ids), AT_ONCE):
        block = slice(start, start + AT_ONCE)
        columns = {name: values[block] for name, values in expected.items()}
        demand_id = demand_version.id if demand_version else None
        part = Predicted(observed.ids[block], _part(scores, block), columns, demand_id)
        with job.saving() as session:
            changed = prediction_batches.save(session, part, tiers[block], version.id, vectors.as_of)
            rows = np.searchsorted(observed.ids, np.sort(changed))
            stored_features.save(session, observed.ids[rows], vectors.X[rows], vectors.as_of)
        written += len(changed)
        job.progress(min(start + AT_ONCE, len(observed.ids)), len(observed.ids), "objects")
    counts = dict(zip(TIERS, np.bincount(tiers, minlength=len(TIERS)).tolist(), strict=True))
    told: Json = {"refused": serving.refused, "serves": serving.form} if serving.refused else {}
    told |= {"demand_version": demand_version.version if demand_version else None}
    if refused := _refused(forecaster):
        told |= {"demand_refused": refused}
    if isinstance(forecaster, Serving) and past:
        if forecaster.refused:
            told |= {"demand_serves": forecaster.form}
        beside = Beside(forecaster, lambda horizon: ahead[horizon.days].quantiles)
        told |= _judged("demand_shadow", shadow.attend(job, shadowed.demand_by(past), beside, vectors))
    told |= _judged(
        "shadow", shadow.attend(job, shadowed.TIER, Beside(serving, lambda _: scores.p_hot[:, None]), vectors)
    )
    return {"objects": len(observed.ids), "written": written, "model_version": version.version, "tiers": counts, **told}


def _ahead(
    forecaster: Serving[Forecaster] | ArtifactRefused | None, vectors: Vectors, past: Past | None
) -> dict[int, Forecast]:
    """What is expected of each object by days; Gamma–Poisson says it where no version can."""
    opened = forecaster.opened if isinstance(forecaster, Serving) else Forecaster(())
    observed = vectors.observed
    return opened.forecast(observed.history, observed.catalogue, vectors.as_of, vectors.X, past)


def _columns(ahead: dict[int, Forecast]) -> dict[str, Floats]:
    """Reads and bytes of each object by their columns."""
    columns = {f"reads_{days}d": found.reads for days, found in ahead.items()}
    columns |= {f"bytes_{days}d": found.bytes for days, found in ahead.items()}
    longest = max(ahead)
    return columns | {f"reads_{longest}d_low": ahead[longest].low, f"reads_{longest}d_high": ahead[longest].high}


def _judged(name: str, judged: str | None) -> Json:
    return {name: judged} if judged else {}


def _refused(forecaster: Serving[Forecaster] | ArtifactRefused | None) -> str:
    if isinstance(forecaster, ArtifactRefused):
        return forecaster.detail
    return forecaster.refused if forecaster else ""


def _part(scores: Scores, block: slice) -> Scores:
    return Scores(scores.p_raw[block], scores.p_hot[block], scores.p_low[block], scores.p_high[block])
