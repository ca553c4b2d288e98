"""Dead letters: events that a group could not handle, kept with why until a person or a later try ends them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.db import alerts
from app.db.tables import DeadLetter, Json
from app.domain.states import DEAD_LETTER_TRANSITIONS, DeadLetterState, check_transition
from app.domain.topics import TopicName
from app.errors import NotFound

ALERT = "dead_letters"
_L = DeadLetter


def put(
    session: Session, group: str, topic: TopicName, events: Sequence[tuple[int, bytes, Json]], partition: int = 0
) -> None:
    """Keeps events (offset, as published, what was wrong) of a group; one that is dead already has failed once more.

    Raises the alert that a person should look at them.
    """
    if not events:
        return
    rows: list[dict[str, Any]] = [
        {
            "group_name": group, "topic": topic, "partition": partition, "offset": offset, "event": event,
            "error": _storable(error),
        }
        for offset, event, error in events
    ]  # fmt: skip
    new = insert(DeadLetter)
    dead = {"state": DeadLetterState.DEAD, "attempts": _L.attempts + 1}
    again = {**dead, "error": new.excluded.error, "updated_at": func.now()}
    place = ["group_name", "topic", "partition", "offset"]
    session.execute(new.on_conflict_do_update(index_elements=place, set_=again), rows)
    why = rows[0]["error"]
    reason = why.get("detail") or why.get("type")
    message = (
        f"group {group} could not handle {len(events)} events of topic {topic}, from offset {events[0][0]}: {reason};"
        f" see foretide events dead-letters list"
    )
    alerts.raise_alert(session, ALERT, "warning", message, subject=f"{group} {topic}", data={"events": len(events)})


def _storable(error: Json) -> Json:
    """An error may quote an event's NUL characters, which Postgres cannot hold: they are shown as U+FFFD."""
    shown: Json = json.loads(json.dumps(error).replace("\\u0000", "\\ufffd"))
    return shown


def get(session: Session, letter_id: int) -> DeadLetter:
    """The dead letter, locked. Raises NotFound."""
    letter = session.scalar(select(DeadLetter).where(_L.id == letter_id).with_for_update())
    if letter is None:
        raise NotFound(f"there is no dead letter {letter_id}")
    return letter


def change(session: Session, letter_id: int, state: DeadLetterState, error: Json | None = None) -> DeadLetter:
    """The dead letter in another state. Raises NotFound, or Conflict where its state does not allow that.

    The alert of its group ends with its last dead letter.
    """
    letter = get(session, letter_id)
    check_transition(DEAD_LETTER_TRANSITIONS, DeadLetterState(letter.state), state)
    letter.state, letter.updated_at = state, func.now()
    if error is not None:
        letter.error, letter.attempts = _storable(error), letter.attempts + 1
    session.flush()
    session.refresh(letter)
    waiting = select(_L.id).where(_L.group_name == letter.group_name, _L.topic == letter.topic)
    if session.scalar(waiting.where(_L.state == DeadLetterState.DEAD).limit(1)) is None:
        alerts.clear(session, ALERT, f"{letter.group_name} {letter.topic}")
    return letter


def listing(
    session: Session,
    *,
    group: str | None = None,
    topic: str | None = None,
    state: DeadLetterState | None = None,
    after_id: int | None = None,
    limit: int = 50,
) -> Sequence[DeadLetter]:
    """Dead letters, oldest first."""
    query = select(DeadLetter).order_by(_L.id).limit(limit)
    wanted = ((_L.group_name, group), (_L.topic, topic), (_L.state, state))
    for column, value in wanted:
        if value is not None:
            query = query.where(column == value)
    return session.scalars(query.where(_L.id > after_id) if after_id else query).all()


def to_retry(session: Session, group: str, topic: TopicName, limit: int) -> Sequence[DeadLetter]:
    """Dead letters that their group is to handle once more, oldest first."""
    return listing(session, group=group, topic=topic, state=DeadLetterState.RETRY, limit=limit)


def counts(session: Session, group: str | None = None, topic: str | None = None) -> dict[tuple[str, str, str], int]:
    """How many there are by group, topic and state; of one group and topic where they are given."""
    by = (_L.group_name, _L.topic, _L.state)
    query = select(*by, func.count()).group_by(*by)
    if group is not None:
        query = query.where(_L.group_name == group, _L.topic == topic)
    return {(name, of, str(state)): number for name, of, state, number in session.execute(query)}


def prune(session: Session, days: int) -> int:
    """Forgets those that have ended so long ago; how many."""
    ended = _L.state.in_((DeadLetterState.DONE, DeadLetterState.DISCARDED))
    old = delete(DeadLetter).where(ended, _L.updated_at < func.now() - func.make_interval(0, 0, 0, days))
    return session.execute(old).rowcount  # type: ignore[attr-defined, no-any-return]
