"""Dead letters: what a group could not handle, with why; handled once more or discarded as a person says."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from app import queue
from app.api.audit import record
from app.api.pages import PageQuery, page
from app.api.router import Router
from app.api.schemas import In, Json, Name, Out, Page
from app.db import dead_letters, topic_groups
from app.db.session import session_scope
from app.db.tables import DeadLetter
from app.domain.roles import Role
from app.domain.states import DeadLetterState
from app.domain.tasks import TaskName
from app.domain.topics import WORKERS

router = Router("events-dead-letters")


class LettersQuery(PageQuery):
    """Which dead letters."""

    group: Name | None = None
    topic: Name | None = None
    state: DeadLetterState | None = None


class LetterOut(Out):
    """An event that a group could not handle."""

    id: int
    group: str
    topic: str
    partition: int
    offset: int
    event: str
    state: DeadLetterState
    error: Json
    attempts: int
    created_at: datetime
    updated_at: datetime


class FailedIn(In):
    """Why a later try failed too."""

    detail: str


def show(letter: DeadLetter) -> LetterOut:
    """The dead letter as it is shown: its event as text, since it may be no JSON."""
    names = ("id", "topic", "partition", "offset", "state", "error", "attempts", "created_at", "updated_at")
    told = {name: getattr(letter, name) for name in names}
    return LetterOut(**told, group=letter.group_name, event=letter.event.decode(errors="backslashreplace"))


@router.get("/dead-letters", Role.VIEWER, query=LettersQuery, answer=Page)
def list_letters(query: LettersQuery) -> dict[str, Any]:
    """Dead letters, oldest first, by group, topic and state."""
    with session_scope() as session:
        rows = dead_letters.listing(
            session, group=query.group, topic=query.topic, state=query.state, after_id=query.after_id(),
            limit=query.limit + 1,
        )  # fmt: skip
        return page(rows, query.limit, show, lambda letter: letter.id)


@router.post("/dead-letters/<id:letter_id>:retry", Role.OPERATOR, answer=LetterOut)
def retry_letter(letter_id: int) -> LetterOut:
    """Lets the group handle the event once more."""
    with session_scope() as session:
        letter = _changed(session, letter_id, DeadLetterState.RETRY, "retry")
        groups = topic_groups.ring(session, WORKERS)
    for group in groups:
        queue.ring(TaskName.CONSUME, group)
    return letter


@router.post("/dead-letters/<id:letter_id>:discard", Role.OPERATOR, answer=LetterOut)
def discard_letter(letter_id: int) -> LetterOut:
    """Gives the event up."""
    with session_scope() as session:
        return _changed(session, letter_id, DeadLetterState.DISCARDED, "discard")


@router.post("/dead-letters/<id:letter_id>:done", Role.OPERATOR, answer=LetterOut, limited=False)
def end_letter(letter_id: int) -> LetterOut:
    """Notes that a consumer has handled, at a later try, what it was asked to."""
    with session_scope() as session:
        return show(dead_letters.change(session, letter_id, DeadLetterState.DONE))


@router.post("/dead-letters/<id:letter_id>:failed", Role.OPERATOR, body=FailedIn, answer=LetterOut, limited=False)
def fail_letter(letter_id: int, body: FailedIn) -> LetterOut:
    """Notes that a consumer could not handle it at a later try either."""
    error = {"type": "unexpected-error", "detail": body.detail}
    with session_scope() as session:
        return show(dead_letters.change(session, letter_id, DeadLetterState.DEAD, error))


def _changed(session: Session, letter_id: int, state: DeadLetterState, verb: str) -> LetterOut:
    letter = dead_letters.change(session, letter_id, state)
    record(session, f"events.dead-letter.{verb}", f"{letter.group_name} {letter.topic} {letter.offset}")
    return show(letter)
