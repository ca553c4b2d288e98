"""Source 003's routes of its model pipeline at the root: thin aliases of /v1/models with its fields and names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flask import Response, request
from pydantic import Field

from app.api import events, general_models, security
from app.api.general_models import Field_
from app.api.models import MAX_ROWS, VersionQuery, get_importances
from app.api.router import Router, parse
from app.api.schemas import In, JobOut, Json, Name
from app.db import general_models as stored
from app.db.session import session_scope
from app.domain.general_models import MAX_EVENTS, MAX_FEATURES, SUPERVISED, Algorithm, Recipe
from app.domain.roles import Role
from app.errors import FieldError, Invalid, TooLarge, pointer_to
from app.settings import get_settings

router = Router("sources-models", prefix="")
SENT = {"algorithm": "model_type", "features": "feature_keys", "target": "target_key", "time": "time_key"}
"""What the fields of a recipe are called in these routes."""
Cell = float | str | bool | None


class PipelineTrainIn(In):
    """What source 003 sends, with the events to learn from and, for forests and lines, the key of what is told."""

    model_name: Name
    model_type: Algorithm = Algorithm.RANDOM_FOREST
    feature_keys: list[Field_] = Field(min_length=1, max_length=MAX_FEATURES)
    target_key: Field_ | None = None
    time_key: Field_ | None = None
    events: list[Any] = Field(min_length=1, max_length=MAX_EVENTS)


class PipelinePredictIn(In):
    """Rows of features in the order of the model's keys."""

    model_name: Name
    features: list[list[Cell]] = Field(min_length=1)


@router.post(
    "/pipeline/ml/train",
    Role.OPERATOR,
    answer=JobOut,
    status=202,
    starts_work=True,
    reads=("application/json",),
    reads_as=PipelineTrainIn,
)
def pipeline_train() -> Response:
    """Starts to train a model over the events that are sent."""
    request.max_content_length = get_settings().ingest_max_bytes
    body = parse(PipelineTrainIn, security.json_body(), strict=True)
    assert isinstance(body, PipelineTrainIn)  # noqa: S101 - what parse was given
    if body.model_type in SUPERVISED and body.target_key is None:
        raise Invalid(errors=(FieldError("/target_key", "is the key of what is told"),))
    document: Json = {
        "algorithm": body.model_type,
        "features": body.feature_keys,
        "target": body.target_key,
        "time": body.time_key,
        "params": {},
    }
    try:
        recipe = Recipe.of(document)
    except Invalid as error:
        raise Invalid(error.detail, errors=tuple(_as_sent(each) for each in error.errors)) from error
    with events.of_list(body.events) as upload:
        return general_models.start(body.model_name, recipe, upload)


def _as_sent(error: FieldError) -> FieldError:
    """The error with the name that the field has here."""
    _, first, *rest = error.pointer.split("/")
    return FieldError("/" + "/".join((SENT.get(first, first), *rest)), error.detail)


@router.post("/pipeline/ml/predict", Role.VIEWER, body=PipelinePredictIn)
def pipeline_predict(body: PipelinePredictIn) -> Json:
    """What a model says of rows of features."""
    if len(body.features) > MAX_ROWS:
        raise TooLarge(f"at most {MAX_ROWS} rows are taken at once")
    names = general_models.serving(body.model_name).opened.names
    wrong = [number for number, row in enumerate(body.features) if len(row) != len(names)]
    if wrong:
        said = f"a row has {len(names)} features: {', '.join(names)}"
        raise Invalid(errors=tuple(FieldError(f"/features/{number}", said) for number in wrong[:20]))
    try:
        told = general_models.predict(body.model_name, [dict(zip(names, row, strict=True)) for row in body.features])
    except Invalid as error:
        raise Invalid(error.detail, errors=tuple(_by_place(each, names) for each in error.errors)) from error
    return {"predictions": [each["prediction"] for each in told["predictions"]], "model_name": body.model_name}


def _by_place(error: FieldError, names: Sequence[str]) -> FieldError:
    """The error of a row of named features, in a list of them."""
    places = {pointer_to(name): pointer_to(place) for place, name in enumerate(names)}
    _, _, row, name = error.pointer.split("/", 3)
    return FieldError(pointer_to("features", row) + places["/" + name], error.detail)


@router.get("/pipeline/ml/models", Role.VIEWER)
def pipeline_models() -> Json:
    """The names of the models that users have trained."""
    with session_scope() as session:
        names = stored.names(session)
    return {"models": names, "count": len(names)}


@router.get("/pipeline/ml/importances/<name:name>", Role.VIEWER)
def pipeline_importances(name: str) -> Json:
    """How much each feature counts, by its key."""
    found = get_importances(name, VersionQuery())
    return {"model_name": name, "importances": found.get("built_in") or {}}
