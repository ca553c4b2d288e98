"""The `train` task: learns a model from the history, the one of tiers itself (step: learn)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.metadata import version

import structlog
from sqlalchemy.orm import Session

from app.db import accesses, model_files, models, observations, opinions
from app.db.model_files import BASELINE, OUTCOMES, PACKED, SKOPS, Serving
from app.db.session import session_scope
from app.db.tables import Json, ModelVersion
from app.errors import ArtifactRefused, NotFound
from app.queue import TaskName
from ml import artifacts, dataset, drift, importances, judging, recalibration, tiers
from ml.dataset import Dataset, Part, Rows
from ml.evaluation import Outcome
from ml.features import NAMES, FeatureBuilder
from ml.history import Floats, Ints
from ml.recalibration import Known, Past
from ml.serving import Calibration, Packed
from ml.tiers import AREAS, Trained
from workers import demand, features, general_models, voters
from workers.base import JobContext, job_task
from workers.model_life import Learned, keep

log = structlog.get_logger()
NAME = "tier"
SEED = 20_260_101
LEARN_OBJECTS = 20_000
"""A model learns from about so many objects: every n-th of a larger catalogue."""
LIBRARIES = ("numpy", "scikit-learn", "skops")


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
        past = past_of(session, champion, packed) if champion and packed else None
    rows = dataset.build(observed.history, observed.catalogue, accesses.microseconds(until), SEED)
    trained = tiers.train(rows, SEED, packed, job.progress)
    test = rows.parts[Part.TEST]
    found = None
    if packed is not None and past is not None:
        p = _in_service(packed, past, rows, observed.ids)
        found = judging.compare(Outcome(test.y, test.object), trained.p, p, SEED)
    builder = FeatureBuilder(observed.history, observed.catalogue)
    seen = drift.recent(builder, accesses.microseconds(until), rows.horizon, SEED)
    learned = Learned(
        values=_values(trained, rows, seen),
        files=_files(trained, observed.ids),
        beside=champion.version if champion and packed else None,
        found=found,
        mends=champion.version if champion and not packed else None,
        told=_told(trained),
    )
    job.check()
    return keep(job, NAME, learned)


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


def past_of(session: Session, version: ModelVersion, packed: Packed) -> Past:
    """What the version's calibration is renewed from; its curve alone where nothing sound was kept."""
    try:
        return Past.from_bytes(model_files.read(session, version, OUTCOMES))
    except ArtifactRefused:
        model_files.refusal(session, version)  # which raises the alert
    except NotFound:
        log.info("no outcomes were kept", model=version.name, version=version.version)
    return Past.without_rows(packed.calibration)


def _in_service(packed: Packed, past: Past, rows: Dataset, ids: Ints) -> Floats:
    """What the champion said of the test part, its calibration renewed as in service and as the newcomer's is."""
    parts = (rows.parts[Part.CALIBRATE], rows.parts[Part.TEST])
    since, test = (Known(packed.raw(part.X), part.y, ids[part.object], part.cut) for part in parts)
    newest = past.known.cut.max(initial=-1)
    known = past.known.where(past.known.cut < test.cut.min()).joined(since.where(since.cut > newest))
    return recalibration.rolled(past.curve, known, test, rows.horizon)


def _values(trained: Trained, rows: Dataset, seen: Rows) -> Json:
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


def _told(trained: Trained) -> Json:
    areas = {name: {area: told.get(area) for area in AREAS} for name, told in trained.baselines.items()}
    return {**{area: trained.metrics.get(area) for area in AREAS}, "baselines": areas}


def _files(trained: Trained, ids: Ints) -> dict[str, bytes]:
    known = trained.past.known
    past = replace(trained.past, known=replace(known, object=ids[known.object]))
    files = {
        OUTCOMES: past.to_bytes(),
        PACKED: trained.serving.packed.to_bytes(),
        BASELINE: trained.fallback.packed.to_bytes(),
    }
    if trained.serving.estimator is not None:
        files[SKOPS] = artifacts.dump_estimator(trained.serving.estimator)
    return files


LEARNERS: Mapping[str, Callable[[JobContext], Json]] = {
    NAME: learn_tiers,
    demand.NAME: demand.learn,
    opinions.NAME: voters.learn,
}
"""How each model is trained."""
