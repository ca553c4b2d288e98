"""Users' models: trained by name over their own events, asked, exported, deleted."""

from __future__ import annotations

from datetime import datetime
from threading import Lock
from typing import TYPE_CHECKING, Annotated, Any, Literal

from flask import Response, request
from pydantic import AfterValidator, Field
from sqlalchemy.orm import Session

from app import auth
from app.api import computed, events, security, submit
from app.api.events import Upload
from app.api.router import Router, parse
from app.api.schemas import In, Json
from app.api.submit import Started
from app.db import general_models, model_files, models
from app.db.model_files import PACKED, Serving
from app.db.session import session_scope
from app.domain.general_models import (
    MAX_EVENTS,
    MAX_FEATURES,
    MAX_ROW_FEATURES,
    RESERVED,
    SEED,
    Algorithm,
    Missing,
    Recipe,
    Task,
)
from app.domain.roles import Role
from app.domain.tasks import TaskName
from app.errors import ArtifactRefused, Conflict, FieldError, Invalid, NotFound, TooLarge
from app.settings import get_settings

if TYPE_CHECKING:
    from ml.serving_models import General

router = Router("general-models")
TIER = "tier"


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("holds characters that cannot be shown")
    return text


Field_ = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_printable)]


class RecipeIn(In):
    """What to train: the algorithm and the fields of the events that it reads."""

    algorithm: Algorithm
    features: list[Field_] = Field(min_length=1, max_length=MAX_FEATURES)
    target: Field_ | None = Field(None, description="The field that is learned; forests and lines need it.")
    time: Field_ | None = Field(None, description="The field with an event's time; the latest fifth is held out.")
    task: Task = Field(Task.AUTO, description="auto: numbers are measured; text, true and false are classes.")
    scale: bool | None = Field(None, description="Standardize the features; null: for lines and clusters.")
    missing: Missing = Field(Missing.MEAN, description="What a missing feature counts as; drop leaves the event out.")
    params: dict[str, Annotated[float, Field(allow_inf_nan=False)]] = Field(default_factory=dict, max_length=10)
    seed: int = Field(SEED, ge=0, le=2**32 - 1)


class EventsTrainIn(RecipeIn):
    """The same with the events themselves."""

    events: list[Any] = Field(min_length=1, max_length=MAX_EVENTS, description="Objects with these fields.")


class TrainQuery(In):
    """What to train on events that are sent as NDJSON; lists are split by commas."""

    algorithm: str | None = None
    features: str | None = None
    target: str | None = None
    time: str | None = None
    task: str | None = None
    scale: bool | None = None
    missing: str | None = None
    params: str | None = Field(None, description="Such as n_estimators=50,max_depth=5.")
    seed: int | None = None


class ArtifactQuery(In):
    """Which form of the model's file."""

    format: Literal["onnx", "packed"] = Field("onnx", description="packed: arrays as npz.")


KEPT = 4
"""So many models are kept open, up to 50 MB each; others are opened by each request."""


class Cache:
    """What serves of the models that were opened last, checked once a version."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._kept: dict[str, tuple[tuple[int, datetime], Serving[General]]] = {}

    def of(self, session: Session, name: str) -> Serving[General] | ArtifactRefused | None:
        """As model_files.serving: its refusals raise alerts, which the caller's transaction keeps."""
        champion = models.champion(session, name)
        kept = self._kept.get(name)
        if champion is not None and kept is not None and kept[0] == (champion.id, champion.created_at):
            return kept[1]
        found = model_files.serving(session, name, computed.general)
        with self._lock:
            self._kept.pop(name, None)
            if isinstance(found, Serving) and not found.refused:
                self._kept[name] = ((found.version.id, found.version.created_at), found)
            for oldest in list(self._kept)[:-KEPT]:
                del self._kept[oldest]
        return found


cache = Cache()


def is_own(query: TrainQuery) -> bool:
    """Whether the request says that it trains on the sender's events."""
    return (
        events.is_lines() or bool(query.model_fields_set) or (bool(request.get_data()) and security.json_body() != {})
    )


def train(name: str, query: TrainQuery) -> Response:
    """Starts a training: of JSON with the events in it, or of NDJSON with the recipe in the query."""
    if name in RESERVED:
        raise Conflict(f"Foretide trains {name} itself; choose another name")
    if events.is_lines():
        recipe = Recipe.of(parse(RecipeIn, _of_query(query)).model_dump())
        with events.of_lines() as upload:
            return start(name, recipe, upload)
    if query.model_fields_set:
        raise Invalid("the query says what to train on NDJSON; a JSON body says it itself")
    request.max_content_length = get_settings().ingest_max_bytes
    if not request.get_data() or security.json_body() == {}:
        raise NotFound(
            f"there is no model {name} that trains itself; there are tier, placement. To train one over your own"
            " events, send algorithm, features and events"
        )
    document = parse(EventsTrainIn, security.json_body(), strict=True)
    recipe = Recipe.of(document.model_dump(exclude={"events"}))
    with events.of_list(document.events) as upload:  # type: ignore[attr-defined]  # what parse was given
        return start(name, recipe, upload)


def start(name: str, recipe: Recipe, upload: Upload) -> Response:
    """Starts the training job. Raises TooLarge, Conflict for a name that is taken."""
    if name in RESERVED:
        raise Conflict(f"Foretide trains {name} itself; choose another name")
    if upload.count * len(recipe.features) > MAX_ROW_FEATURES:
        raise TooLarge(f"events times features are at most {MAX_ROW_FEATURES}; send fewer of either")
    args = {"model": name, "recipe": recipe.as_json(), "events": upload.count}
    return _begin(TaskName.TRAIN, args, upload)


def predict_batch(name: str, rows: list[Json] | None) -> Response:
    """Starts to score rows of JSON, or of NDJSON where None."""
    serving(name)
    with events.of_list(rows) if rows is not None else events.of_lines() as upload:
        return _begin(TaskName.PREDICT_BATCH, {"model": name, "events": upload.count}, upload)


def _begin(kind: TaskName, args: Json, upload: Upload) -> Response:
    def begin(session: Session) -> Started:
        job = submit.job(session, kind, args)
        upload.give(session, job.id)
        return Started(job)

    return submit.start_with(begin, sent=[args, upload.sha256])


def serving(name: str) -> Serving[General]:
    """What serves. Raises NotFound before the first and for Foretide's own, ArtifactRefused."""
    if name in RESERVED:
        raise NotFound(f"model {name} is not one over users' own events; POST /v1/models/{TIER}:predict asks {TIER}")
    with session_scope() as session:
        found = cache.of(session, name)
    if found is None:
        raise NotFound(f"no version of model {name} serves yet; train it: foretide models train")
    if isinstance(found, ArtifactRefused):
        raise found
    return found


def predict(name: str, rows: list[Json]) -> Json:
    """What the model says of rows of features by name; other fields of a row are not looked at. Raises Invalid."""
    found = serving(name)
    names = found.opened.names
    told = computed.general_predictions(found.opened, rows)
    if isinstance(told, FieldError):
        raise Invalid(errors=(told,))
    return {
        "model": name,
        "version": found.version.version,
        "beats_baseline": found.version.metrics.get("beats_baseline"),
        "held_out": found.version.metrics.get("n", 0),
        "predictions": told,
        "filled": [feature for feature in names if any(row.get(feature) is None for row in rows)],
        **({"refused": found.refused, "serves": found.form} if found.refused else {}),
    }


@router.get(
    "/models/<name:name>/versions/<id:number>/artifact",
    Role.VIEWER,
    query=ArtifactQuery,
    media="application/octet-stream",
)
def get_artifact(name: str, number: int, query: ArtifactQuery) -> Response:
    """The file of a user's model or one of tiers: ONNX, or packed arrays."""
    if name in RESERVED and name != TIER:
        raise NotFound(f"model {name} has no file that others can use; {TIER} and users' own models have")
    with session_scope() as session:
        body = model_files.read(session, models.get(session, name, number), PACKED)
    if query.format == "onnx":
        body = computed.tier_onnx(body) if name == TIER else computed.onnx(body)
    ending = "onnx" if query.format == "onnx" else "npz"
    headers = {"Content-Disposition": f'attachment; filename="{name}-{number}.{ending}"'}
    return Response(body, headers=headers, content_type="application/octet-stream")


@router.route("DELETE", "/models/<name:name>", Role.OPERATOR, status=204)
def delete_model(name: str) -> None:
    """Deletes a user's model with all its versions and files."""
    _delete(name, None)


@router.route("DELETE", "/models/<name:name>/versions/<id:number>", Role.OPERATOR, status=204)
def delete_version(name: str, number: int) -> None:
    """Deletes a version of a user's model that does not serve."""
    _delete(name, number)


def _delete(name: str, number: int | None) -> None:
    _check_free(name)
    with session_scope() as session:
        general_models.remove(session, name, number, actor=auth.identity().name, request_id=security.request_id())


def _check_free(name: str) -> None:
    if name in RESERVED:
        raise Conflict(f"Foretide trains {name} itself: its versions are retired, and are no one's to take or delete")


def _of_query(query: TrainQuery) -> Json:
    given = {name: value for name, value in query.model_dump().items() if value is not None}
    if "features" in given:
        given["features"] = [name for name in given["features"].split(",") if name]
    if "params" in given:
        pairs = [pair.partition("=") for pair in given["params"].split(",")]
        given["params"] = {name.strip(): value.strip() for name, _, value in pairs}
    return given
