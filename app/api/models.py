"""Models: their versions beside their baselines, training, and predictions by the version that serves."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Annotated, Any

from flask import Response
from pydantic import Field
from sqlalchemy.orm import Session

from app.api import computed, general_models, submit
from app.api.etags import etag
from app.api.events import NDJSON
from app.api.general_models import EventsTrainIn, TrainQuery
from app.api.pages import PageQuery, page
from app.api.router import Router, parse, reply
from app.api.schemas import MAX_ID, In, JobOut, Json, Page
from app.api.submit import Started
from app.db import drift, model_files, models
from app.db.session import session_scope
from app.db.tables import ModelVersion
from app.domain.general_models import RESERVED
from app.domain.roles import Role
from app.domain.states import ModelState
from app.domain.tasks import TaskName
from app.errors import ArtifactRefused, FieldError, Invalid, NotFound, TooLarge, pointer_to

if TYPE_CHECKING:
    from ml.serving import Packed

router = Router("models")
TRAINED = ("tier", "demand", "placement")
"""The models that there is a task for."""
SCORED = "tier"
"""The one of them that scores rows of features."""
MAX_ROWS = 1000
EVALUATION = ("version", "state", "algorithm", "is_baseline", "data", "rows", "metrics", "baselines", "gate", "reason")
Feature = Annotated[float, Field(ge=0, le=1e30, allow_inf_nan=False, strict=True)]


class PredictIn(In):
    """Rows of features by name; one that is left out counts as the model says, and is named in the reply."""

    rows: list[dict[str, float | str | bool | None]] = Field(min_length=1)


class TierRowsIn(In):
    """Rows of features of objects."""

    rows: list[dict[str, Feature]]


class VersionQuery(In):
    """Which version; the one that serves unless told otherwise."""

    version: int | None = Field(None, ge=1, le=MAX_ID)


class Serving:
    """What serves of each model, unpacked and checked once a version and calibration.

    What stands in for a refused file is opened each time.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._kept: dict[str, tuple[tuple[object, ...], model_files.Serving[Packed]]] = {}

    def of(self, name: str) -> model_files.Serving[Packed]:
        """The version that serves and its form. Raises NotFound before the first, ArtifactRefused."""
        with session_scope() as session:
            champion = models.champion(session, name)
            found = self._found(session, name, champion) if champion else None
        if found is None:
            raise NotFound(f"no version of model {name} serves yet; train it: foretide models train")
        if isinstance(found, ArtifactRefused):
            raise found
        return found

    def _found(
        self, session: Session, name: str, champion: ModelVersion
    ) -> model_files.Serving[Packed] | ArtifactRefused | None:
        with self._lock:
            kept = self._kept.get(name)
            forms = (model_files.PACKED, model_files.CALIBRATION)
            now = (champion.id, *(model_files.mark(session, champion, form) for form in forms))
            if kept is not None and kept[0] == now:
                return kept[1]
            found = model_files.serving(session, name, computed.packed)
            if isinstance(found, model_files.Serving) and not found.refused:
                found = model_files.renewed(session, found, computed.recalibrated)
                self._kept[name] = (now, found)
            return found


serving = Serving()


@router.get("/models", Role.VIEWER, answer=Page)
def list_models() -> dict[str, Any]:
    """Every model by the version that serves, or its newest before one does."""
    with session_scope() as session:
        found = [_standing(session, name) for name in models.names(session)]
        return {"items": [models.describe(version) for version in found], "next_cursor": None}


@router.get("/models/<name:name>", Role.VIEWER)
def get_model(name: str) -> Response:
    """Who serves, who is shadow and who waits; the ETag is what each change of its life takes."""
    with session_scope() as session:
        _standing(session, name)
        found = {row.state: models.describe(row) for row in models.living(session, name)[::-1]}
        shown = (ModelState.CHAMPION, ModelState.SHADOW, ModelState.CANDIDATE)
        body = {"name": name, **{state.value: found.get(state) for state in shown}}
        return reply(body, headers=etag(models.revision(session, name)))


@router.get("/models/<name:name>/versions", Role.VIEWER, query=PageQuery, answer=Page)
def list_versions(name: str, query: PageQuery) -> dict[str, Any]:
    """Versions of a model, the newest first."""
    return _page(name, query, None)


@router.get("/models/<name:name>/versions/<id:number>", Role.VIEWER)
def get_version(name: str, number: int) -> Response:
    """One version: what it learned from, its metrics beside its baselines, its files, where it is in its life."""
    with session_scope() as session:
        version = models.get(session, name, number)
        body = {**models.describe(version), "files": model_files.listing(session, version)}
        return reply(body, headers=etag(models.revision(session, name)))


@router.get("/models/<name:name>/evaluations", Role.VIEWER, query=PageQuery, answer=Page)
def list_evaluations(name: str, query: PageQuery) -> dict[str, Any]:
    """What each version was measured at, on later data than it saw, beside its baselines and its champion."""
    return _page(name, query, EVALUATION)


@router.get("/models/<name:name>/importances", Role.VIEWER, query=VersionQuery)
def get_importances(name: str, query: VersionQuery) -> Json:
    """Which features a version goes by: what is lost when one is shuffled, and what its estimator says."""
    with session_scope() as session:
        version = models.get(session, name, query.version) if query.version else _standing(session, name)
        return {"name": name, "version": version.version, "algorithm": version.algorithm, **version.importances}


@router.get("/models/<name:name>/drift", Role.VIEWER)
def get_drift(name: str) -> Json:
    """How far what the serving version sees is from what it saw when it was trained, and whether it comes true."""
    with session_scope() as session:
        version = models.champion(session, name)
        if version is None:
            raise NotFound(f"no version of model {name} serves yet; train it: foretide models train")
        found = drift.newest(session, version)
    nothing: Json = {"features": [], "calibration": None, "coverage": None, "over": []}
    told = {"as_of": found.as_of.isoformat(), **found.report} if found else {"as_of": None, **nothing}
    return {"name": name, "version": version.version, **told}


@router.post(
    "/models/<name:name>:train",
    Role.OPERATOR,
    query=TrainQuery,
    answer=JobOut,
    status=202,
    starts_work=True,
    reads=("application/json", NDJSON),
    reads_as=EventsTrainIn,
)
def train(name: str, query: TrainQuery) -> Response:
    """Trains a new version; it serves only when it beats what it must.

    A name of your own is trained over your own events: in the body as JSON, or as NDJSON with the rest in the query.
    """
    if name not in RESERVED or general_models.is_own(query):
        return general_models.train(name, query)

    def begin(session: Session) -> Started:
        if name not in TRAINED:
            raise NotFound(f"there is no model {name}; there are {', '.join(TRAINED)}")
        return Started(submit.job(session, TaskName.TRAIN, {"model": name}))

    return submit.start_with(begin)


@router.post("/models/<name:name>:predict", Role.VIEWER, body=PredictIn)
def predict(name: str, body: PredictIn) -> Json:
    """Calibrated probabilities that objects with these features are hot; of a user's model what it was trained for."""
    if len(body.rows) > MAX_ROWS:
        raise TooLarge(f"at most {MAX_ROWS} rows are taken at once; foretide models predict-batch takes more")
    if name not in RESERVED:
        return general_models.predict(name, body.rows)
    if name != SCORED:
        raise NotFound(f"model {name} scores no rows of features; {SCORED} does")
    rows = parse(TierRowsIn, {"rows": body.rows}).rows  # type: ignore[attr-defined]  # what parse was given
    found = serving.of(name)
    check_names(rows, found.opened.names)
    missing = [feature for feature in found.opened.names if any(feature not in row for row in rows)]
    return {
        "model": name,
        "version": found.version.version,
        "predictions": computed.predictions(found.opened, rows, found.version.reference),
        "counted_as_zero": missing,
        **({"refused": found.refused, "serves": found.form} if found.refused else {}),
    }


def check_names(rows: list[dict[str, float]], names: tuple[str, ...]) -> None:
    """Raises Invalid, naming up to twenty features that the model does not know."""
    unknown = [
        FieldError(pointer_to("rows", number, name), f"there is no such feature; there are {', '.join(names)}")
        for number, row in enumerate(rows)
        for name in row
        if name not in names
    ]
    if unknown:
        raise Invalid(errors=tuple(unknown[:20]))


def _standing(session: Session, name: str) -> ModelVersion:
    """The version that serves, else the newest. Raises NotFound before the first."""
    found = models.champion(session, name) or next(iter(models.versions(session, name, 1)), None)
    if found is None:
        raise NotFound(f"there is no model {name} yet; train it: foretide models train")
    return found


def _page(name: str, query: PageQuery, fields: tuple[str, ...] | None) -> dict[str, Any]:
    def show(version: ModelVersion) -> Json:
        told = models.describe(version)
        return {field: told[field] for field in (*fields, "created_at")} if fields else told

    with session_scope() as session:
        _standing(session, name)
        rows = models.versions(session, name, query.limit + 1, before=query.after_id())
        return page(rows, query.limit, show, lambda version: version.version)
