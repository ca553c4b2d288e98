"""Models: their versions beside their baselines, training, and predictions by the version that serves."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Any

from flask import Response
from pydantic import Field
from sqlalchemy.orm import Session

from app.api import computed, submit
from app.api.router import Router
from app.api.schemas import In, JobOut, Json, Page
from app.api.submit import Started
from app.db import models
from app.db.session import session_scope
from app.db.tables import ModelVersion
from app.domain.roles import Role
from app.domain.tasks import TaskName
from app.errors import FieldError, Invalid, NotFound, TooLarge

if TYPE_CHECKING:
    from ml.serving import Packed

router = Router("models")
TRAINED = ("tier", "placement")
"""The models that there is a task for."""
MAX_ROWS = 1000


class PredictIn(In):
    """Rows of features by name; a feature that is left out counts as 0 and is named in the reply."""

    rows: list[dict[str, float]] = Field(min_length=1)


class Serving:
    """The packed champion of each model, unpacked and checked once a version."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._kept: dict[str, tuple[int, Packed]] = {}

    def champion(self, session: Session, name: str) -> tuple[int, Packed]:
        """The version that serves and its form. Raises NotFound before the first, ArtifactRefused."""
        version = models.champion(session, name)
        if version is None:
            raise NotFound(f"no version of model {name} serves yet; train it: foretide models train")
        with self._lock:
            kept = self._kept.get(name)
            if kept is None or kept[0] != version.version:
                packed = computed.packed(models.artifact(session, version, "packed"))
                kept = self._kept[name] = (version.version, packed)
            return kept


serving = Serving()


@router.get("/models", Role.VIEWER, answer=Page)
def list_models() -> dict[str, Any]:
    """Every model by the version that serves, or its newest before one does."""
    with session_scope() as session:
        found = [
            models.champion(session, name) or models.versions(session, name, 1)[0] for name in models.names(session)
        ]
        return {"items": [models.describe(version) for version in found], "next_cursor": None}


@router.get("/models/<name:name>/versions", Role.VIEWER, answer=Page)
def list_versions(name: str) -> dict[str, Any]:
    """Versions of a model, the newest first."""
    with session_scope() as session:
        return {"items": [models.describe(version) for version in _versions(session, name)], "next_cursor": None}


@router.get("/models/<name:name>/versions/<id:number>", Role.VIEWER)
def get_version(name: str, number: int) -> Json:
    """One version with its metrics beside its baselines."""
    with session_scope() as session:
        return models.describe(models.get(session, name, number))


@router.get("/models/<name:name>/evaluations", Role.VIEWER, answer=Page)
def list_evaluations(name: str) -> dict[str, Any]:
    """What each version was measured at, on later data than it saw, beside its baselines."""
    fields = ("version", "state", "algorithm", "data", "metrics", "baselines", "reason", "created_at")
    with session_scope() as session:
        described = [models.describe(version) for version in _versions(session, name)]
    return {"items": [{field: each[field] for field in fields} for each in described], "next_cursor": None}


@router.post("/models/<name:name>:train", Role.OPERATOR, answer=JobOut, status=202, starts_work=True)
def train(name: str) -> Response:
    """Trains a new version; it serves only when it beats what it must."""

    def begin(session: Session) -> Started:
        if name not in TRAINED:
            raise NotFound(f"there is no model {name}; there are {', '.join(TRAINED)}")
        return Started(submit.job(session, TaskName.TRAIN, {"model": name}))

    return submit.start_with(begin)


@router.post("/models/<name:name>:predict", Role.VIEWER, body=PredictIn)
def predict(name: str, body: PredictIn) -> Json:
    """Calibrated probabilities that objects with these features are hot."""
    if len(body.rows) > MAX_ROWS:
        raise TooLarge(f"at most {MAX_ROWS} rows are taken at once")
    with session_scope() as session:
        version, packed = serving.champion(session, name)
    _check_names(body.rows, packed.names)
    missing = [feature for feature in packed.names if any(feature not in row for row in body.rows)]
    return {
        "model": name,
        "version": version,
        "predictions": computed.predictions(packed, body.rows),
        "counted_as_zero": missing,
    }


def _check_names(rows: list[dict[str, float]], names: tuple[str, ...]) -> None:
    unknown = [
        FieldError(f"/rows/{number}/{name}", f"there is no such feature; there are {', '.join(names)}")
        for number, row in enumerate(rows)
        for name in row
        if name not in names
    ]
    if unknown:
        raise Invalid(errors=tuple(unknown[:20]))


def _versions(session: Session, name: str) -> list[ModelVersion]:
    found = models.versions(session, name)
    if not found:
        raise NotFound(f"there is no model {name} yet; train it: foretide models train")
    return found
