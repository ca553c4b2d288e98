"""Users' models in the table of versions: which there are, and their end (step: learn)."""

from __future__ import annotations

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from app.db import audit, models
from app.db.tables import ModelName, ModelVersion
from app.domain.states import ModelState
from app.errors import Conflict, NotFound

GENERAL = ModelVersion.params["general"].as_boolean()


def names(session: Session) -> list[str]:
    """The names of users' models, in order."""
    return list(session.scalars(select(ModelVersion.name).where(GENERAL).distinct().order_by(ModelVersion.name)))


def remove(session: Session, name: str, number: int | None, *, actor: str, request_id: str | None) -> None:
    """Deletes a version with its files, or with None all of a name. Raises NotFound, Conflict for one that serves.

    Those that served after a version that is deleted lead back to the one that served before it.
    """
    models.lock(session, name)
    found = [models.get(session, name, number)] if number else models.versions(session, name, 1)
    if not found:
        raise NotFound(f"there is no model {name}")
    if number and found[0].state == ModelState.CHAMPION:
        raise Conflict(f"version {number} serves; roll back or promote another, or delete the whole model")
    gone = delete(ModelVersion).where(ModelVersion.name == name)
    if number:
        gone = gone.where(ModelVersion.version == number)
        _cut_out(session, found[0])
    revisions = sum(session.scalars(gone.returning(ModelVersion.revision)))
    counted = ModelName.deleted_revisions + revisions + 1  # so that what was read before stays outdated
    session.execute(update(ModelName).where(ModelName.name == name).values(deleted_revisions=counted))
    told = f"model {name} {number}" if number else f"model {name}"
    audit.append(session, actor, "model.delete", told, {"version": number}, request_id)


def _cut_out(session: Session, version: ModelVersion) -> None:
    """Rollbacks pass by the version."""
    after = update(ModelVersion).where(ModelVersion.name == version.name, ModelVersion.replaced == version.version)
    session.execute(after.values(replaced=version.replaced))
