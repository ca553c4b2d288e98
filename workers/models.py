"""The `train` task: learns the tier model from the history and lets it serve when it earns that (step: learn)."""

from __future__ import annotations

from datetime import datetime
from importlib.metadata import version

import structlog
from sqlalchemy.orm import Session

from app.db import accesses, models, observations, opinions
from app.db.session import session_scope
from app.db.tables import Json, ModelVersion
from app.errors import ArtifactRefused
from app.queue import TaskName
from ml import artifacts, dataset, tiers
from ml.features import NAMES
from ml.serving import Packed
from ml.tiers import Trained
from workers import features, voters
from workers.base import JobContext, job_task

log = structlog.get_logger()
NAME = "tier"
SEED = 20_260_101
LEARN_OBJECTS = 20_000
"""A model learns from about so many objects: every n-th of a larger catalogue."""
LIBRARIES = ("numpy", "scikit-learn", "skops")


@job_task(TaskName.TRAIN)
def train(job: JobContext) -> Json:
    """Trains beside the baselines; the result becomes champion unless the present one is better on the same rows.

    With {"model": "placement"} the voters learn instead.
    """
    if job.args.get("model") == opinions.NAME:
        return voters.learn(job)
    until = accesses.floor_hour(features.as_of(job))
    with session_scope() as session:
        part = max(1, observations.count_objects(session) // LEARN_OBJECTS)
        observed = observations.observe_hours(session, until, (0, part))
        champion = _comparable_champion(session)
    job.progress(1, 3, "steps")
    rows = dataset.build(observed.history, observed.catalogue, accesses.microseconds(until), SEED)
    job.progress(2, 3, "steps")
    trained = tiers.train(rows, SEED, champion)
    files = {"packed": trained.serving.packed.to_bytes()}
    if trained.serving.estimator is not None:
        files["skops"] = artifacts.dump_estimator(trained.serving.estimator)
    result: Json = {}
    with job.finishing(result) as session:
        result |= _save(session, trained, files, rows.span, job.id)
    return result


def load_champion(session: Session) -> tuple[ModelVersion, Packed] | None:
    """The serving version and its scorer, or None before the first. Raises ArtifactRefused for any tampering."""
    champion = models.champion(session, NAME)
    if champion is None:
        return None
    packed = Packed.from_bytes(models.artifact(session, champion, "packed"))
    if packed.names != NAMES:
        raise ArtifactRefused(f"{NAME} version {champion.version} was trained on other features; train it anew")
    return champion, packed


def _comparable_champion(session: Session) -> Packed | None:
    try:
        found = load_champion(session)
    except ArtifactRefused as error:
        log.warning("the champion cannot be compared", detail=error.detail)  # so that training anew mends it
        return None
    return found[1] if found else None


def _save(
    session: Session, trained: Trained, files: dict[str, bytes], span: tuple[datetime, datetime], job_id: int
) -> Json:
    added = models.add(
        session,
        NAME,
        algorithm=trained.serving.algorithm,
        data_from=span[0],
        data_to=span[1],
        features=list(trained.serving.features),
        params={**trained.serving.params, "seed": SEED},
        metrics={**trained.metrics, "candidates": trained.candidates, "champion": trained.champion},
        baselines=trained.baselines,
        libraries={name: version(name) for name in LIBRARIES},
        reason=trained.reason,
        job_id=job_id,
    )
    for form, body in files.items():
        models.add_artifact(session, added, form, body)
    if trained.takes_over:
        models.promote(session, added, trained.reason)
    return {
        "name": f"{NAME} {added.algorithm}-{added.version}",
        "version": added.version,
        "state": added.state,
        "reason": trained.reason,
        "auc": trained.metrics["auc"],
        "pr_auc": trained.metrics["pr_auc"],
        "baselines": {
            name: {"auc": metrics["auc"], "pr_auc": metrics["pr_auc"]} for name, metrics in trained.baselines.items()
        },
    }
