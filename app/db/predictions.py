"""The newest prediction of an object (step: predict); app/db/prediction_batches.py keeps them."""

from __future__ import annotations

from sqlalchemy.orm import Session

from app.db.tables import Feature, Prediction


def of(session: Session, object_id: int) -> Prediction | None:
    """The newest prediction of an object, or None before the first."""
    return session.get(Prediction, object_id)


def made_from(session: Session, object_id: int) -> list[float] | None:
    """The features of an object's newest prediction, in the order of ml.features.NAMES; None before the first."""
    row = session.get(Feature, object_id)
    return row.values if row else None
