"""Users' models: the part of the tasks `train` and `predict-batch` that works on what users have sent (step: learn)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import numpy as np

from app.db import batch_pages, event_pages, model_files, models
from app.db.model_files import PACKED
from app.db.session import session_scope
from app.db.tables import Json
from app.domain.general_models import Missing, Recipe, judged
from app.domain.states import ModelState
from app.errors import ArtifactRefused, FieldError, NotEnoughData, NotFound, pointer_to
from ml import general
from ml.general import Trained, Wanted
from ml.general_parts import Learned
from ml.general_rows import EPOCH, Reader, Table
from ml.serving import Sums
from ml.serving_models import BadCell, Forest, General, Isolation
from workers.base import JobContext

LIBRARIES = ("numpy", "scikit-learn")
PARTS = 100
"""Reading the events is the first tenth of these parts of a training, growing what is trained the rest."""
READING = 10


def learn(job: JobContext) -> Json:
    """Trains {"model": name, "recipe": …} on the pages that were sent; the result tells what was found of it."""
    name, recipe = str(job.args["model"]), Recipe.of(job.args["recipe"])
    reader = Reader(recipe.features, recipe.target, recipe.time, recipe.missing is Missing.DROP)
    table = _read(job, reader)

    def tell(done: int, total: int) -> None:
        job.progress(READING + done * (PARTS - READING) // total, PARTS, "parts")

    wanted = Wanted(
        recipe.algorithm,
        recipe.features,
        recipe.task,
        recipe.scale,
        recipe.missing,
        recipe.params,
        recipe.seed,
        recipe.time,
    )
    number, serving, seen = _serving(name, recipe)
    with job.stoppable():
        trained = general.train(table, wanted, tell, serving, seen)
    return _keep(job, name, recipe, trained, number, reader, table)


def _serving(name: str, recipe: Recipe) -> tuple[int | None, General | None, Learned | None]:
    """The version that serves, and where it tells what the recipe asks for its model and what that learned from."""
    with session_scope() as session:
        champion = models.champion(session, name)
        if champion is None or recipe.target is None or champion.params.get("target") != recipe.target:
            return champion.version if champion else None, None, None
        found = model_files.serving(session, name, General.from_bytes)
    opened = found.opened if isinstance(found, model_files.Serving) and not found.refused else None
    return champion.version, opened, Learned.of(champion.params)


def _read(job: JobContext, reader: Reader) -> Table:
    total = max(int(job.args["events"]), 1)
    for lines in event_pages.read(job.id):
        reader.add(event_pages.decoded(lines))
        job.progress(READING * reader.count // total, PARTS, "parts")
    if reader.count and reader.left_out == reader.count:
        raise NoGoodEvents(reader.errors)
    return reader.table()


class NoGoodEvents(NotEnoughData):
    """None of the events can be learned from."""

    def __init__(self, errors: list[FieldError]) -> None:
        super().__init__(f"none of the events can be learned from; the first: {errors[0].pointer} {errors[0].detail}")
        self.errors = tuple(errors)


def _keep(
    job: JobContext,
    name: str,
    recipe: Recipe,
    trained: Trained,
    beside: int | None,
    reader: Reader,
    table: Table,
) -> Json:
    """Saves the version; it serves as it was judged. beside: the version that it was compared with."""
    times = [EPOCH.fromtimestamp(int(t) / 1e6, EPOCH.tzinfo) for t in table.times[[0, -1]]] if len(table.times) else []
    result: Json = {}
    with job.finishing(result) as session:
        models.lock(session, name)
        champion = models.champion(session, name)
        newer = champion is not None and champion.version != beside
        against = {} if newer or champion is None else dict(trained.against or {})
        added = models.add(
            session,
            name,
            algorithm=recipe.algorithm.value,
            data_from=times[0] if times else None,
            data_to=times[1] if times else None,
            rows={**trained.rows, "left_out": reader.left_out},
            features=list(recipe.features),
            params={
                **recipe.as_json(),
                "task": trained.task,
                "split": trained.split,
                "learned": trained.learned.as_json(),
                "general": True,
            },
            metrics={**trained.metrics, "beats_baseline": trained.beats},
            baselines=dict(trained.baselines),
            gate={"training": against} if against else {},
            importances=dict(trained.importances),
            libraries={library: version(library) for library in LIBRARIES},
            parent=champion.version if champion else None,
            reason=trained.reason,
            job_id=job.id,
        )
        model_files.add(session, added, PACKED, trained.model.to_bytes())
        verdict = judged(
            name,
            added.version,
            champion.version if champion else None,
            (trained.beats, champion.metrics.get("beats_baseline") if champion else None),
            against or None,
            newer=newer,
        )
        added.reason = trained.reason + verdict.said
        if verdict.serves:
            models.promote(session, added, added.reason)
        result |= {
            "name": name,
            "version": added.version,
            "state": ModelState(added.state).value,
            "algorithm": recipe.algorithm.value,
            "task": trained.task,
            "reason": added.reason,
            "beats_baseline": trained.beats,
            "rows": {**trained.rows, "left_out": reader.left_out},
            "metrics": dict(trained.metrics),
            "baselines": dict(trained.baselines),
            "errors": [vars(error) for error in reader.errors],
            **trained.details,
        }
    return result


def predict_batch(job: JobContext) -> Json:
    """Scores the rows that were sent with the version that serves; a row that cannot be has an error in its line."""
    name, total = str(job.args["model"]), max(int(job.args["events"]), 1)
    with session_scope() as session:
        serving = model_files.serving(session, name, General.from_bytes)
    if serving is None:
        raise NotFound(f"no version of model {name} serves yet")
    if isinstance(serving, ArtifactRefused):
        raise serving
    sums = _compiled(serving.opened)
    done = page = failed = 0
    for page, lines in enumerate(event_pages.read(job.id), 1):
        told = _scored(serving.opened, event_pages.decoded(lines), sums)
        failed += sum("error" in line for line in told)
        with job.saving() as session:
            batch_pages.put(session, job.id, page, [json.dumps(line).encode() for line in told])
        done += len(lines)
        job.progress(done, total, "rows")
    first = f"/v1/models/{name}/batches/{job.id}/pages/1"
    return {
        "model": name, "version": serving.version.version, "lines": done, "failed": failed, "pages": page, "page": first
    }  # fmt: skip


def _scored(model: General, rows: list[Any], sums: Sums | None) -> list[Json]:
    """A line a row, in their order."""
    good, errors = [], {}
    for number, row in enumerate(rows):
        try:
            good.append(model.matrix([row if isinstance(row, Mapping) else _not_a_row(number)]))
        except BadCell as bad:
            errors[number] = {"error": {"pointer": pointer_to(bad.name) if bad.name else "", "detail": bad.detail}}
    X = np.concatenate(good) if good else np.zeros((0, len(model.names)))
    told = iter(model.told(model.predict(X, sums)))
    return [errors[number] if number in errors else next(told) for number in range(len(rows))]


def _not_a_row(number: int) -> Json:
    raise BadCell(number, "", "is no JSON object")


def _compiled(model: General) -> Sums | None:
    """Sums over a forest's trees by compiled loops."""
    if not isinstance(model.body, Forest | Isolation):
        return None
    from ml.serving_jit import Compiled

    compiled = Compiled(model.body.trees)
    return lambda _, X: compiled.sums(X)
