"""Keeps the newest feature vector of each object (steps: window, predict)."""

from __future__ import annotations

import numpy as np
from sqlalchemy import text
from sqlalchemy.orm import Session

from app.db.columnar import stage_columns
from ml.serving import Floats, Ints, Matrix


def save(session: Session, ids: Ints, values: Matrix, as_of: int) -> None:
    """Writes the vectors of objects. values: (objects × ml.features.NAMES); as_of in microseconds since 1970 UTC."""
    stage_columns(
        session,
        "feature_stage",
        {
            "object_id": ("bigint", ids),
            "as_of": ("timestamptz", np.full(len(ids), as_of)),
            "values": ("double precision[]", values.astype(float)),
        },
    )
    session.execute(
        text(
            'insert into feature (object_id, as_of, "values")'
            ' select s.object_id, s.as_of, s."values" from feature_stage s join object o on o.id = s.object_id'
            " order by s.object_id"
            ' on conflict (object_id) do update set as_of = excluded.as_of, "values" = excluded."values"'
            " where feature.as_of <= excluded.as_of"
        )
    )


def stored(session: Session, ids: Ints, place: int) -> Floats:
    """One feature of each object as last saved, by its place in ml.features.NAMES; 0 where none was."""
    rows = session.execute(
        text('select object_id, "values"[:place] as value from feature where object_id = any(:ids)'),
        {"place": place + 1, "ids": ids.tolist()},
    )
    known = {row.object_id: row.value for row in rows}
    return np.array([known.get(number) or 0.0 for number in ids.tolist()])
