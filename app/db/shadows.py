"""What shadows and the champions beside them say of a sample of objects, and what then happened (step: predict)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from app.db.accesses import READ
from app.db.columnar import Column, read_columns, stage_columns
from app.db.tables import ShadowScore
from ml.serving import Floats, Ints

_INSERT = text(
    "insert into shadow_score (model_version_id, as_of, object_id, said, said_champion)"
    " select :shadow, :as_of, s.object_id, s.said, s.said_champion from shadow_stage s"
    " join object o on o.id = s.object_id order by s.object_id on conflict do nothing"
)


@dataclass(frozen=True)
class Told:
    """What a shadow has said so far."""

    first: datetime | None
    last: datetime | None
    rows: int


@dataclass(frozen=True)
class Outcomes:
    """What was said and what came of it, one element a row."""

    object: Ints
    said: Floats
    """(rows × numbers of each that the model says)."""
    said_champion: Floats
    reads: Ints
    """Within the horizon."""


def told(session: Session, shadow_id: int, until: datetime | None = None) -> Told:
    """Of all that it said, or of what it said up to a time."""
    columns = (func.min(ShadowScore.as_of), func.max(ShadowScore.as_of), func.count())
    query = select(*columns).where(ShadowScore.model_version_id == shadow_id)
    return Told(*session.execute(query.where(ShadowScore.as_of <= until) if until else query).one())


def add(session: Session, shadow_id: int, as_of: datetime, ids: Ints, said: Floats, said_champion: Floats) -> None:
    """Keeps what both say of some objects as of a time, each (objects × numbers)."""
    stage_columns(
        session,
        "shadow_stage",
        {
            "object_id": ("bigint", ids),
            "said": ("double precision[]", said),
            "said_champion": ("double precision[]", said_champion),
        },
    )
    session.execute(_INSERT, {"shadow": shadow_id, "as_of": as_of})


def outcomes(session: Session, shadow_id: int, until: datetime, horizon: timedelta, numbers: int) -> Outcomes:
    """Of what was said up to a time: how often each object was read within the horizon. numbers: of each side."""
    sides = [f"{side}[{place}]" for side in ("said", "said_champion") for place in range(1, numbers + 1)]
    query = f"""select s.object_id, {", ".join(f"s.{side}" for side in sides)}, count(a.ts)
        from shadow_score s left join access a on a.object_id = s.object_id and a.ts >= s.as_of
            and a.ts < s.as_of + %(horizon)s and {READ} and a.ts < %(until)s + %(horizon)s
            and a.ts >= (select min(as_of) from shadow_score where model_version_id = %(shadow)s)
        where s.model_version_id = %(shadow)s and s.as_of <= %(until)s
        group by s.model_version_id, s.as_of, s.object_id
        order by s.as_of, s.object_id"""  # noqa: S608 - only names and a constant of another module are put in
    columns: dict[str, Column] = {"object": "bigint", **dict.fromkeys(sides, "double precision"), "reads": "bigint"}
    found = read_columns(session, query, columns, shadow=shadow_id, until=until, horizon=horizon)
    said = np.stack([found[side] for side in sides], axis=1)
    return Outcomes(found["object"], said[:, :numbers], said[:, numbers:], found["reads"])
