"""The `consume` task: a group of the workers handles what waits in its topic, each batch in one transaction with its
position; an event that cannot be handled becomes a dead letter and the group goes on (step: consume).
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from functools import partial

import structlog
from sqlalchemy.orm import Session

from app.db import alerts, dead_letters, topic_groups, topics
from app.db.session import session_scope
from app.db.tables import Json, TopicGroup
from app.db.topic_groups import Claim
from app.db.topics import Chunk
from app.domain.jobs import RetryPolicy
from app.domain.states import DeadLetterState
from app.domain.topics import INTAKE, MOST_BYTES, WORKERS, TopicName, after_failure, after_loss, at_once
from app.errors import OffsetGone
from app.queue import TaskName
from app.settings import get_settings
from workers import kafka_intake, shutdown
from workers.base import problem, raw_task, tried, worker_name
from workers.topic_handlers import HANDLERS, Handler, Refused

log = structlog.get_logger()
TURN_S = 60.0
"""A task ends after this long, so that other work of its queue gets its turn; the sweep rings for what is left."""
RETRIES = 100


@raw_task(TaskName.CONSUME)
def consume(name: str) -> None:
    """Handles a group's events until none waits; nothing where another worker is at it."""
    if name == INTAKE:
        kafka_intake.take()
        return
    until = time.monotonic() + TURN_S
    while (turn := Turn.begin(name)) is not None:
        is_over = turn.run(until)
        turn.end()
        if is_over or not _waits(name):  # events may have come between the last look and the end of the claim
            return


class Turn:
    """One claim of a group, from its begin until nothing waits."""

    def __init__(self, claim: Claim, handler: Handler) -> None:
        self._claim, self._handler = claim, handler

    @classmethod
    def begin(cls, name: str) -> Turn | None:
        """Takes the group; None where that cannot be now. What killed the member before may become a dead letter."""
        topic, settings = WORKERS[name], get_settings()
        with session_scope() as session:
            taken = topic_groups.claim(session, name, topic, worker_name(), settings.lease_s)
            if taken is None:
                return None
            group, lost = taken
            turn = cls(Claim(name, topic, group.fence), HANDLERS[name])
            if lost:
                turn._note_loss(session, group)
        return turn

    def run(self, until: float) -> bool:
        """Handles batches; returns whether it stopped before the end of what waits."""
        self._retry_dead_letters()
        while not (shutdown.requested() or time.monotonic() > until):
            chunks, position = self._next()
            if not chunks:
                return False
            lines = sum(len(chunk.lines) for chunk in chunks)
            error = tried(partial(self._handle, chunks))
            if error and not self._failed(error, chunks, position, lines):
                return True
        return True

    def end(self) -> None:
        """Gives the claim back."""
        with session_scope() as session:
            topic_groups.release(session, self._claim)

    def _next(self) -> tuple[list[Chunk], int]:
        """What is to be handled next, and the group's position."""
        with session_scope() as session:
            group = topic_groups.hold(session, self._claim)
            lines = at_once(group.position, group.suspect_until)
            try:
                return topics.read(session, self._claim.topic, group.position, lines, MOST_BYTES), group.position
            except OffsetGone as gone:
                first = topics.get(session, self._claim.topic).first_offset
                skipped = topic_groups.skip(group, first)
                message = f"group {group.name} lost {skipped} events of topic {group.topic}: {gone.detail}"
                alerts.raise_alert(session, "events_lost", "critical", message, subject=f"{group.name} {group.topic}")
                return topics.read(session, self._claim.topic, first, lines, MOST_BYTES), first

    def _handle(self, chunks: Sequence[Chunk]) -> None:
        began = time.monotonic()
        with session_scope() as session:
            group = topic_groups.hold(session, self._claim)
            refused = self._handler(session, chunks)
            self._bury(session, chunks, refused)
            handled = sum(len(chunk.lines) for chunk in chunks) - len(refused)
            took = time.monotonic() - began
            topic_groups.advance(group, chunks[-1].next_offset, get_settings().lease_s, handled=handled, busy_s=took)

    def _bury(self, session: Session, chunks: Sequence[Chunk], refused: Sequence[Refused]) -> None:
        wanted = {each.offset: each.error for each in refused}
        events = [
            (offset, line, wanted[offset])
            for chunk in chunks
            for offset, line in enumerate(chunk.lines, chunk.first_offset)
            if offset in wanted
        ]
        dead_letters.put(session, self._claim.name, self._claim.topic, events)

    def _failed(self, error: Exception, chunks: Sequence[Chunk], position: int, lines: int) -> bool:
        """Notes what a failure leads to; returns whether the group goes on at once."""
        settings = get_settings()
        policy = RetryPolicy(settings.retry_base_s, settings.retry_cap_s, settings.max_attempts)
        with session_scope() as session:
            group = topic_groups.hold(session, self._claim)
            chance = random.random()  # noqa: S311  # jitter, not a secret
            setback = after_failure(error, position, lines, group.attempts, group.suspect_until, policy, chance)
            log.warning("events not handled", group=group.name, offset=position, lines=lines, exc_info=error)
            topic_groups.fail(group, setback, problem(error))
            if setback.is_dead:
                self._bury(session, chunks, [Refused(position, problem(error))])
                topic_groups.advance(group, position + 1, settings.lease_s)
            elif setback.attempts >= settings.max_attempts:
                _alert_stuck(session, group, problem(error))
        return setback.delay_s == 0

    def _note_loss(self, session: Session, group: TopicGroup) -> None:
        """The worker before was killed or frozen at these events, by them or by something else.

        Where none waits, or retention has removed what it was at, there is nothing to suspect.
        """
        try:
            chunks = topics.read(session, self._claim.topic, group.position, 1, 1)
        except OffsetGone:
            return
        if not chunks:
            return
        limit = get_settings().max_attempts
        setback = after_loss(group.position, group.attempts, group.suspect_until, limit)
        lost: Json = {"type": "worker-lost", "detail": "the worker was lost while it handled the event"}
        topic_groups.fail(group, setback, lost)
        if setback.is_dead:
            self._bury(session, chunks, [Refused(group.position, lost)])
            topic_groups.advance(group, group.position + 1, get_settings().lease_s)

    def _retry_dead_letters(self) -> None:
        """Handles once more what a person has asked for, each in a transaction of its own."""
        with session_scope() as session:
            waiting = dead_letters.to_retry(session, self._claim.name, self._claim.topic, RETRIES)
        for letter in waiting:
            chunk = Chunk(letter.offset, letter.created_at, [letter.event])
            error = tried(partial(self._retry, letter.id, chunk))
            if error:
                with session_scope() as session:
                    topic_groups.hold(session, self._claim)
                    dead_letters.change(session, letter.id, DeadLetterState.DEAD, problem(error))

    def _retry(self, letter_id: int, chunk: Chunk) -> None:
        with session_scope() as session:
            topic_groups.hold(session, self._claim)
            refused = self._handler(session, [chunk])
            state = DeadLetterState.DEAD if refused else DeadLetterState.DONE
            dead_letters.change(session, letter_id, state, refused[0].error if refused else None)


def _alert_stuck(session: Session, group: TopicGroup, error: Json) -> None:
    message = f"group {group.name} cannot go on in topic {group.topic} at offset {group.position}: {error['detail']}"
    alerts.raise_alert(session, "group_stuck", "critical", message, subject=f"{group.name} {group.topic}")


def _waits(name: str) -> bool:
    topic: TopicName = WORKERS[name]
    with session_scope() as session:
        group, log_end = topic_groups.get(session, name, topic), topics.get(session, topic).next_offset
        return group.position < log_end
