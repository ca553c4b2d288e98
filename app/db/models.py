"""Versions of models with their sealed files; which of them serves (step: learn)."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any

from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session

from app.db.tables import Json, ModelArtifact, ModelVersion
from app.domain import seals
from app.domain.seals import Seal
from app.domain.states import ModelState
from app.errors import NotFound, SettingsError
from app.settings import get_settings


def add(session: Session, name: str, **values: Any) -> ModelVersion:
    """Adds a candidate as the next version of a model; values are columns of ModelVersion."""
    session.execute(text("select pg_advisory_xact_lock(hashtext(:name))"), {"name": f"model {name}"})
    last = session.scalar(select(func.max(ModelVersion.version)).where(ModelVersion.name == name)) or 0
    version = ModelVersion(name=name, version=last + 1, state=ModelState.CANDIDATE, **values)
    session.add(version)
    session.flush()
    return version


def add_artifact(session: Session, version: ModelVersion, form: str, body: bytes) -> None:
    """Keeps a model's file under its seal. form: `skops` or `packed`. Raises SettingsError without a secret key."""
    seal = seals.seal(body, _file_name(version, form), _signing_key())
    session.add(ModelArtifact(model_version_id=version.id, format=form, sha256=seal.sha256, hmac=seal.hmac, body=body))


def artifact(session: Session, version: ModelVersion, form: str) -> bytes:
    """The file's bytes. Raises NotFound without one, and ArtifactRefused unless it is exactly what was sealed."""
    row = session.get(ModelArtifact, (version.id, form))
    if row is None:
        raise NotFound(f"model {version.name} version {version.version} has no {form} file")
    seals.check(row.body, _file_name(version, form), _signing_key(), Seal(row.sha256, row.hmac))
    return row.body


def has_artifact(session: Session, version: ModelVersion, form: str) -> bool:
    """Whether there is such a file, whatever is in it."""
    found = select(ModelArtifact.sha256).where(
        ModelArtifact.model_version_id == version.id, ModelArtifact.format == form
    )
    return session.scalar(found) is not None


def champion(session: Session, name: str) -> ModelVersion | None:
    """The version that serves, or None before the first."""
    return session.scalar(
        select(ModelVersion).where(ModelVersion.name == name, ModelVersion.state == ModelState.CHAMPION)
    )


def promote(session: Session, version: ModelVersion, reason: str) -> None:
    """Makes a version the champion and retires the one before it, in the caller's transaction."""
    session.execute(
        update(ModelVersion)
        .where(ModelVersion.name == version.name, ModelVersion.state == ModelState.CHAMPION)
        .values(state=ModelState.RETIRED)
    )
    version.state, version.reason, version.promoted_at = ModelState.CHAMPION, reason, func.now()
    session.flush()


def versions(session: Session, name: str, limit: int = 100) -> list[ModelVersion]:
    """The newest versions of a model, the newest first."""
    query = select(ModelVersion).where(ModelVersion.name == name).order_by(ModelVersion.version.desc()).limit(limit)
    return list(session.scalars(query))


def get(session: Session, name: str, number: int) -> ModelVersion:
    """One version. Raises NotFound."""
    found = session.scalar(select(ModelVersion).where(ModelVersion.name == name, ModelVersion.version == number))
    if found is None:
        raise NotFound(f"model {name} has no version {number}")
    return found


def names(session: Session) -> list[str]:
    """The names of all models that were ever trained, in order."""
    return list(session.scalars(select(ModelVersion.name).distinct().order_by(ModelVersion.name)))


def describe(version: ModelVersion) -> Json:
    """A version as users see it: everything but its files."""
    span = {"from": _iso(version.data_from), "to": _iso(version.data_to)}
    return {
        "name": version.name,
        "version": version.version,
        "state": version.state,
        "algorithm": version.algorithm,
        "data": span,
        "features": version.features,
        "params": version.params,
        "metrics": version.metrics,
        "baselines": version.baselines,
        "libraries": version.libraries,
        "reason": version.reason,
        "created_at": _iso(version.created_at),
        "promoted_at": _iso(version.promoted_at),
    }


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None


def _signing_key() -> str:
    """Derived from FORETIDE_SECRET_KEY, apart from the key that encrypts secrets."""
    secret = get_settings().secret_key
    if not secret:
        raise SettingsError("FORETIDE_SECRET_KEY is not set; models cannot be signed or checked without it")
    return hashlib.blake2b(secret.encode(), person=b"model-files").hexdigest()


def _file_name(version: ModelVersion, form: str) -> str:
    return f"{version.name}/{version.version}/{form}"
