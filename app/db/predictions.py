"""The newest prediction of an object (step: predict); app/db/prediction_batches.py keeps them."""

from __future__ import annotations

from sqlalchemy.orm import Session

from app.db.tables import Prediction


def of(session: Session, object_id: int) -> Prediction | None:
    """The newest prediction of an object, or None before the first."""
    return session.get(Prediction, object_id)
