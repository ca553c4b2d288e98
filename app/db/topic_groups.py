"""Groups of consumers: how far each has handled a topic, and which member is at it under a lease and a fence."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import ColumnElement, delete, exists, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.db import topics
from app.db.tables import DeadLetter, Json, Topic, TopicGroup
from app.domain.states import DeadLetterState
from app.domain.topics import Setback, TopicName
from app.errors import LeaseLost, NotFound

_G = TopicGroup


@dataclass(frozen=True)
class Claim:
    """A member's right to handle a group's events until its lease lapses; every change of the position proves it."""

    name: str
    topic: TopicName
    fence: int
    partition: int = 0


@dataclass(frozen=True)
class Standing:
    """How far a group is behind its topic's end; None: the log is Kafka's and was not read yet."""

    group: TopicGroup
    end_offset: int | None

    @property
    def lag(self) -> int | None:
        """Events that are not handled yet."""
        return None if self.end_offset is None else max(0, self.end_offset - self.group.position)


def claim(
    session: Session,
    name: str,
    topic: TopicName,
    member: str,
    lease_s: float,
    *,
    begin: int | None = None,
    partition: int = 0,
) -> tuple[TopicGroup, bool] | None:
    """Takes the group's topic for a member; None while another has it, or while it waits after a failure.

    begin: where a group that is new begins; None: at the topic's first event. A member may take over from itself. The
    second value: the claim before was never given back, so its member was lost at its work.
    """
    log = topics.get(session, topic)
    first = log.first_offset if begin is None else begin
    new = insert(TopicGroup).values(name=name, topic=topic, partition=partition, position=first)
    session.execute(new.on_conflict_do_nothing())
    free = or_(_G.member.is_(None), _G.lease_until < func.now(), _G.member == member)
    chosen = select(_G).where(*_this(name, topic, partition), free, _G.next_attempt_at <= func.now())
    group = session.scalar(chosen.with_for_update(skip_locked=True).execution_options(populate_existing=True))
    if group is None:
        return None
    lost = group.member not in (None, member)
    group.member, group.fence, group.rung_at = member, group.fence + 1, None
    _prolong(group, lease_s)
    session.flush()
    session.refresh(group)
    return group, lost


def _this(name: str, topic: TopicName, partition: int) -> tuple[ColumnElement[bool], ...]:
    return (_G.name == name, _G.topic == topic, _G.partition == partition)


def _prolong(group: TopicGroup, lease_s: float) -> None:
    group.lease_until = func.now() + timedelta(seconds=lease_s)
    group.updated_at = func.now()


def hold(session: Session, mine: Claim) -> TopicGroup:
    """Keeps the claim until this transaction ends: nobody can take it over meanwhile. Raises LeaseLost."""
    here = (*_this(mine.name, mine.topic, mine.partition), _G.fence == mine.fence, _G.member.is_not(None))
    chosen = select(_G).where(*here).with_for_update().execution_options(populate_existing=True)
    group = session.scalar(chosen)
    if group is None:
        raise LeaseLost
    return group


def advance(group: TopicGroup, position: int, lease_s: float, *, handled: int = 0, busy_s: float = 0.0) -> None:
    """What a held group has handled, in the transaction that keeps its effects: the position moves and the lease grows.

    busy_s: seconds that the batch took.
    """
    if position != group.position:
        group.attempts, group.error = 0, None
        if group.suspect_until is not None and position >= group.suspect_until:
            group.suspect_until = None
    group.position = position
    group.handled += handled
    group.batches += 1
    group.busy_s += busy_s
    _prolong(group, lease_s)


def skip(group: TopicGroup, first_offset: int) -> int:
    """Passes over what retention removed before a held group has handled it; how many events that were."""
    gone = first_offset - group.position
    group.position, group.skipped = first_offset, group.skipped + gone
    group.attempts, group.suspect_until = 0, None
    return gone


def fail(group: TopicGroup, setback: Setback, error: Json) -> None:
    """Notes on a held group what went wrong and when it is tried again."""
    group.attempts, group.suspect_until, group.error = setback.attempts, setback.suspect_until, error
    group.failures += 1
    group.updated_at = func.now()
    group.next_attempt_at = func.now() + timedelta(seconds=setback.delay_s)


def release(session: Session, mine: Claim) -> None:
    """Gives the claim back, if it is still held."""
    here = (*_this(mine.name, mine.topic, mine.partition), _G.fence == mine.fence)
    session.execute(update(_G).where(*here).values(member=None, lease_until=None, updated_at=func.now()))


def get(session: Session, name: str, topic: TopicName, partition: int = 0) -> TopicGroup:
    """The group's row of a topic. Raises NotFound."""
    group = session.get(TopicGroup, (name, topic, partition))
    if group is None:
        raise NotFound(f"no group {name} consumes topic {topic}")
    return group


def standings(session: Session, topic: TopicName | None = None) -> list[Standing]:
    """Every group of every topic or of one, with what it has not handled yet."""
    query = select(TopicGroup, Topic.next_offset).join(Topic, Topic.name == _G.topic)
    query = query.order_by(_G.topic, _G.name, _G.partition)
    if topic:
        query = query.where(_G.topic == topic)
    return [Standing(group, _end(group, end)) for group, end in session.execute(query)]


def _end(group: TopicGroup, end: int) -> int | None:
    return end if group.end_offset is None else group.end_offset


def remove(session: Session, name: str, topic: TopicName) -> None:
    """Forgets a group that no member is at. Raises NotFound where there is none."""
    idle = or_(_G.member.is_(None), _G.lease_until < func.now())
    gone = delete(TopicGroup).where(_G.name == name, _G.topic == topic, idle).returning(_G.name)
    if session.scalars(gone).first() is None:
        raise NotFound(f"no group {name} without a member consumes topic {topic}")


def ring(
    session: Session, names: Iterable[str], topic: TopicName | None = None, again_s: float | None = None
) -> list[str]:
    """Those of the groups whose bell is to be rung now, noted as rung: nobody is at them, though events wait.

    topic: of which events were just published, in this transaction; again_s: a bell is rung again after so long.
    """
    silent = _G.rung_at.is_(None)
    unheard = _G.rung_at < func.now() - timedelta(seconds=again_s or 0)
    due = silent if again_s is None else or_(silent, unheard)
    idle = or_(_G.member.is_(None), _G.lease_until < func.now())
    behind = exists().where(Topic.name == _G.topic, Topic.next_offset > _G.position)
    here = [_G.name.in_(list(names)), idle, due, or_(behind, _retries()), _G.next_attempt_at <= func.now()]
    if topic:
        here.append(_G.topic == topic)
    chosen = select(_G).where(*here).with_for_update(skip_locked=True, key_share=True)
    groups = session.scalars(chosen.execution_options(populate_existing=True)).all()
    for group in groups:
        group.rung_at = func.now()
    session.flush()
    return sorted({group.name for group in groups})


def _retries() -> ColumnElement[bool]:
    """Whether dead letters of a group are to be handled once more."""
    return exists().where(
        DeadLetter.state == DeadLetterState.RETRY, DeadLetter.group_name == _G.name, DeadLetter.topic == _G.topic
    )
