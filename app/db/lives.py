"""When objects ended and what they were before, so that what learns sees the world of each time (step: learn)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.db.tables import Object, ObjectFormer

_END = text(
    "update object o set gone_at = e.at from unnest(cast(:ids as bigint[]), cast(:at as timestamptz[])) as e (id, at)"
    " where o.id = e.id"
)


def written(
    session: Session,
    things: Sequence[Object],
    sizes: Mapping[int, int] | None = None,
    at: Mapping[int, datetime] | None = None,
) -> None:
    """Owners wrote these objects, which are locked: what they were is kept where it changes, and none is gone now.

    sizes: by object, what a look found; without one the size stays. at: by object when it was written, else now. A size
    that was not known until now is no change: the object had it before, as far as anybody knows.
    """
    found = sizes or {}
    changed = [thing for thing in things if thing.gone_at or thing.size not in (None, found.get(thing.id, thing.size))]
    if changed:
        now = session.scalars(select(func.now())).one()
        session.execute(insert(ObjectFormer).on_conflict_do_nothing(), [_row(one, at or {}, now) for one in changed])
    for thing in things:
        thing.gone_at, thing.size = None, found.get(thing.id, thing.size)
    session.flush()


def _row(thing: Object, at: Mapping[int, datetime], now: datetime) -> dict[str, object]:
    until = at.get(thing.id, now)
    until = max(until, thing.gone_at or until)
    return {"object_id": thing.id, "until": until, "size": thing.size, "gone_at": thing.gone_at}


def ended(session: Session, at: Mapping[int, datetime]) -> None:
    """Owners deleted these objects, which are locked, at these times."""
    session.execute(_END, {"ids": list(at), "at": list(at.values())})


def prune(session: Session, before: datetime) -> None:
    """Forgets what objects were until an aware time, past which no access is known."""
    session.execute(text("delete from object_former where until < :before"), {"before": before})
