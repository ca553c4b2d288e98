"""The `train` task: learns a model from the history, and where the new version stands in its life (step: learn)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import structlog
from sqlalchemy.orm import Session

from app.db import accesses, model_files, models, observations, opinions
from app.db.model_files import BASELINE, PACKED, SKOPS, Serving
from app.db.session import session_scope
from app.db.tables import Json, ModelVersion
from app.domain.model_life import SHADOWED, Verdict, enter, judge
from app.domain.states import ModelState
from app.errors import ArtifactRefused, NotFound
from app.queue import TaskName
from ml import artifacts, dataset, drift, importances, judging, recalibration, tiers
from ml.dataset import Dataset, Part
from ml.drift import Recent
from ml.evaluation import Outcome
from ml.features import NAMES
from ml.history import Floats
from ml.recalibration import Known
from ml.serving import Calibration, Packed
from ml.tiers import Trained
from workers import demand, features, general_models, voters
from workers.base import JobContext, job_task

log = structlog.get_logger()
NAME = "tier"
SEED = 20_260_101
LEARN_OBJECTS = 20_000
"""A model learns from about so many objects: every n-th of a larger catalogue."""
LIBRARIES = ("numpy", "scikit-learn", "skops")


@dataclass(frozen=True)
class Learned:
    """What a training hands over to the model's life; `values` are columns of ModelVersion."""

    values: Mapping[str, Any]
    files: Mapping[str, bytes]
    beside: int | None
    """The version that it was compared with; None when nothing served that can be."""
    found: Json | None
    """That comparison, of ml.judging."""
    mends: int | None = None
    """The champion whose file is refused: anything sound may take its place at once."""


@job_task(TaskName.TRAIN)
def train(job: JobContext) -> Json:
    """Trains {"model": name}, by default the tiers; the version serves at once only where nothing sound serves yet.

    With a recipe a user's model is trained on the events that were sent.
    """
    if "recipe" in job.args:
        return general_models.learn(job)
    name = job.args.get("model", NAME)
    learn = LEARNERS.get(name)
    if learn is None:
        raise NotFound(f"there is no model {name} to train; there are {', '.join(LEARNERS)}")
    return learn(job)


def learn_tiers(job: JobContext) -> Json:
    """Trains beside the baselines on hourly history, and compares with the champion on the same later rows."""
    until = accesses.floor_hour(features.as_of(job))
    with session_scope() as session:
        part = max(1, observations.count_objects(session) // LEARN_OBJECTS)
        observed = observations.observe_hours(session, until, (0, part))
        champion = models.champion(session, NAME)
        packed = _own_file(session, champion)
    rows = dataset.build(observed.history, observed.catalogue, accesses.microseconds(until), SEED)
    trained = tiers.train(rows, SEED, packed, job.progress)
    test = rows.parts[Part.TEST]
    found = None
    if packed is not None:
        found = judging.compare(Outcome(test.y, test.object), trained.p, _in_service(packed, rows), SEED)
    end = accesses.microseconds(until)
    seen = drift.recent(observed.history, observed.catalogue, end, rows.horizon, end, SEED)
    learned = Learned(
        values=_values(trained, rows, seen),
        files=_files(trained),
        beside=champion.version if champion and packed else None,
        found=found,
        mends=champion.version if champion and not packed else None,
    )
    job.check()
    return keep(job, NAME, learned)


def keep(job: JobContext, name: str, learned: Learned) -> Json:
    """Saves the new version and gives it its place, in the transaction that ends the job; returns the job's result."""
    result: Json = {}
    with job.finishing(result) as session:
        models.lock(session, name)
        champion = models.champion(session, name)
        served = champion.version if champion else None
        gate = {"training": learned.found} if learned.found else {}
        added = models.add(session, name, **learned.values, parent=served, gate=gate, job_id=job.id)
        for form, body in learned.files.items():
            model_files.add(session, added, form, body)
        _place(session, added, _verdict(learned, served))
        metrics = learned.values["metrics"]
        result |= {
            "name": f"{name} {added.algorithm}-{added.version}",
            "version": added.version,
            "state": added.state,
            "reason": added.reason,
            "auc": metrics.get("auc"),
            "pr_auc": metrics.get("pr_auc"),
            "baselines": {
                other: {"auc": told.get("auc"), "pr_auc": told.get("pr_auc")}
                for other, told in learned.values["baselines"].items()
            },
        }
    return result


def _verdict(learned: Learned, served: int | None) -> Verdict | None:
    """Of the gate against the champion that serves now; None where nothing sound serves."""
    if served is None or served == learned.mends:
        return None
    if learned.found is None or served != learned.beside:
        return Verdict(True, f"version {served} began to serve while it was trained, and is compared with it as shadow")
    return judge(learned.found)


def _place(session: Session, added: ModelVersion, gate: Verdict | None) -> None:
    learned = added.reason
    state, reason = enter(
        gate, shadowed=added.name in SHADOWED, has_shadow=models.shadow(session, added.name) is not None
    )
    told = f"{reason}; {learned}"
    if state is ModelState.CHAMPION:
        models.promote(session, added, told)
    elif state is ModelState.SHADOW:
        models.put_in_shadow(session, added, told)
    elif state is ModelState.RETIRED:
        models.retire(session, added, told)
    else:
        added.reason = told
        for older in models.in_state(session, added.name, ModelState.CANDIDATE):
            if older is not added:
                models.retire(session, older, f"version {added.version} waits in its place")


def load_serving(session: Session) -> Serving[Packed] | ArtifactRefused | None:
    """What scores now, or None before the first. A refusal is raised by the caller, after its transaction."""
    found = model_files.serving(session, NAME, open_packed)
    return model_files.renewed(session, found, recalibrated) if isinstance(found, Serving) else found


def open_packed(npz: bytes) -> Packed:
    """The scorer of a file whose seal was checked. Raises ArtifactRefused for one of other features."""
    packed = Packed.from_bytes(npz)
    if packed.names != NAMES:
        raise ArtifactRefused(f"it was trained on other features; train it anew: foretide models train {NAME}")
    return packed


def recalibrated(packed: Packed, npz: bytes) -> Packed:
    """The scorer with the calibration of a file whose seal was checked."""
    return packed.recalibrated(Calibration.from_bytes(npz))


def _own_file(session: Session, champion: ModelVersion | None) -> Packed | None:
    """The champion's own scorer, unless it is refused: then training anew mends it."""
    if champion is None:
        return None
    try:
        return open_packed(model_files.read(session, champion, PACKED))
    except (ArtifactRefused, NotFound) as error:
        log.warning("the champion cannot be compared", detail=error.detail)
        return None


def _in_service(packed: Packed, rows: Dataset) -> Floats:
    """What the champion said of the test part, its calibration renewed as the newcomer's is."""
    parts = (rows.parts[Part.CALIBRATE], rows.parts[Part.TEST])
    past, test = (Known(packed.raw(part.X), part.y, part.object, part.cut) for part in parts)
    return recalibration.rolled(packed.calibration, past, test, rows.horizon)


def _values(trained: Trained, rows: Dataset, seen: Recent) -> Json:
    serving, test = trained.serving, rows.parts[Part.TEST]
    lost = importances.permutation(serving.packed, serving.features, test.X, Outcome(test.y, test.object), SEED)
    return {
        "algorithm": serving.algorithm,
        "data_from": rows.span[0],
        "data_to": rows.span[1],
        "rows": {part.value: len(some.y) for part, some in rows.parts.items()},
        "features": list(serving.features),
        "params": {**serving.params, "seed": SEED},
        "metrics": {**trained.metrics, "candidates": trained.candidates, "champion": trained.champion},
        "baselines": trained.baselines,
        "importances": {
            "permutation": lost,
            "built_in": importances.built_in(serving.estimator, serving.features),
        },
        "reference": drift.reference(seen.X, seen.object, serving.features),
        "libraries": {name: version(name) for name in LIBRARIES},
        "reason": trained.reason,
    }


def _files(trained: Trained) -> dict[str, bytes]:
    files = {PACKED: trained.serving.packed.to_bytes(), BASELINE: trained.fallback.packed.to_bytes()}
    if trained.serving.estimator is not None:
        files[SKOPS] = artifacts.dump_estimator(trained.serving.estimator)
    return files


LEARNERS: Mapping[str, Callable[[JobContext], Json]] = {
    NAME: learn_tiers,
    demand.NAME: demand.learn,
    opinions.NAME: voters.learn,
}
"""How each model is trained."""
